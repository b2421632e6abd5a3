// Documents of the largest settings fit into what services accept, and CloudFormation would refuse larger ones.
import { Stack } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import { describe, expect, test } from 'vitest';
import { addStacks } from '../../infra/synth/stacks.ts';
import { app, refused, settingsOf, textOf, transship } from './templates.ts';

/** So many names, which no pattern has in common. */
function names(n: number): readonly string[] {
  return Array.from({ length: n }, (_, i) => `product/team-${100 + i}/service-${100 + i}`);
}

/** A synthesized template, in which CDK has split policies that are too large. */
function synthesized(more: string, id: string): Template {
  const tree = app();
  addStacks(tree, settingsOf(more));
  const stack = tree.node.findChild(id);
  if (!(stack instanceof Stack)) throw new Error('no stack');
  return Template.fromStack(stack);
}

/** Characters of a document, with the longest possible values for what CloudFormation computes. */
function sizeOf(document: unknown): number {
  return JSON.stringify(document, (_, value: unknown) =>
    typeof value === 'object' && value !== null && /^(?:Ref|Fn::\w+)$/.test(Object.keys(value)[0] ?? '')
      ? `${textOf(value)}${'.'.repeat(60)}`
      : value,
  ).length;
}

/** Characters of the inline policies of each role, and of the largest managed one: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html */
function policySizes(template: Template): { readonly inline: number; readonly managed: number } {
  const inline = new Map<string, number>();
  for (const { Properties: p } of Object.values(template.findResources('AWS::IAM::Policy')))
    for (const role of p.Roles) {
      const name = JSON.stringify(role);
      inline.set(name, (inline.get(name) ?? 0) + sizeOf(p.PolicyDocument));
    }
  const managed = Object.values(template.findResources('AWS::IAM::ManagedPolicy')).map(({ Properties: p }) =>
    sizeOf(p.PolicyDocument),
  );
  return { inline: Math.max(...inline.values()), managed: Math.max(0, ...managed) };
}

describe('two hundred repositories, each by its name', () => {
  const more = `access: { repositories: [{ names: [${names(200).join(', ')}], allow: write }] }`;

  test('send events about pushes by rules that EventBridge accepts', () => {
    const rules = Object.values(Template.fromStack(transship(more)).findResources('AWS::Events::Rule'))
      .map(({ Properties: { EventPattern } }) => EventPattern)
      .filter(({ detail = {} }) => 'repository-name' in detail);
    expect(rules.length).toBeGreaterThan(1);
    for (const pattern of rules) expect(sizeOf(pattern)).toBeLessThanOrEqual(2048);
    expect(rules.flatMap((pattern) => pattern.detail['repository-name'])).toEqual(names(200));
  });

  test('send events about pushes and objects under queue policies that SQS accepts, for these rules only', () => {
    const sources = Array.from({ length: 50 }, (_, i) => `'s3://documents-${100 + i}/contracts/'`);
    const template = Template.fromStack(
      transship(`${more}\npublish: { prefixes: [${sources.join(', ')}] }\nencryption: create`),
    );
    const rules = Object.keys(template.findResources('AWS::Events::Rule')).filter((id) => id.startsWith('Queues'));
    expect(rules.length).toBeGreaterThan(50);
    const policies = Object.values(template.findResources('AWS::SQS::QueuePolicy')).map(
      ({ Properties }) => Properties.PolicyDocument,
    );
    for (const policy of policies) {
      // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html
      expect(sizeOf(policy)).toBeLessThanOrEqual(8192);
      expect(policy.Statement.length).toBeLessThanOrEqual(10);
    }
    const admitted = policies.flatMap(({ Statement }) => Statement).filter(({ Effect }) => Effect === 'Allow');
    expect(admitted).toHaveLength(2);
    for (const { Action, Condition, Principal } of admitted) {
      expect([Action, Principal]).toEqual(['sqs:SendMessage', { Service: 'events.amazonaws.com' }]);
      const named: readonly { 'Fn::GetAtt': readonly string[] }[] = Condition.ArnEquals['aws:SourceArn'];
      expect(named.map((arn) => arn['Fn::GetAtt'][0])).toEqual(rules);
    }
  });

  test('are granted by roles that IAM accepts', () => {
    const { inline, managed } = policySizes(synthesized(more, 'Transship'));
    expect(inline).toBeLessThanOrEqual(10_240);
    expect(managed).toBeLessThanOrEqual(6144);
  });
});

describe('more than the ten managed policies of a role', () => {
  /** How many each role has. */
  function managed(template: Template): readonly number[] {
    const roles = Object.values(template.findResources('AWS::IAM::ManagedPolicy')).map(({ Properties: p }) =>
      JSON.stringify(p.Roles),
    );
    return [...new Set(roles)].map((role) => roles.filter((other) => other === role).length);
  }

  test('are not needed for as many names as settings accept', () => {
    const of = (n: number): string => `access: { repositories: [{ names: [${names(n).join(', ')}], allow: write }] }`;
    // each has 28 characters
    expect(Math.max(...managed(synthesized(of(564), 'Transship')))).toBeLessThanOrEqual(10);
    expect(refused(of(564))).toEqual([]);
    expect(refused(of(565))).toEqual([
      'test.yaml: access.repositories: 565 names are more than a role has room for, which is some 564: name more of them by patterns such as product/*',
    ]);
  });

  test('are not needed for as many repositories as a role may push to', () => {
    const of = (n: number): string =>
      `registries: { roles: { push: ['arn:aws:iam::111111111111:root'] }, repositories: [${names(n)
        .map((name) => `{ name: ${name} }`)
        .join(', ')}] }`;
    expect(Math.max(...managed(synthesized(of(380), 'TransshipRegistries')))).toBeLessThanOrEqual(10);
    expect(refused(of(381))).toEqual([
      'test.yaml: registries.roles.push: 381 repositories are more than a role has room for, which is some 380: move some of them to settings with another prefix',
    ]);
  });
});

describe('repositories that exist', () => {
  const existing = (n: number): string =>
    `registries: { repositories: [${names(n)
      .map((name) => `{ name: ${name}, existing: true, keepLast: 3, pullAccounts: ['222222222222'] }`)
      .join(', ')}] }`;

  test('have their policies set by a function whose role IAM accepts', () => {
    const { inline, managed } = policySizes(synthesized(existing(21), 'TransshipRegistries'));
    expect(inline).toBeLessThanOrEqual(10_240);
    expect(managed).toBeLessThanOrEqual(6144);
  });

  test('are refused when they are too many for the function', () => {
    expect(refused(existing(21))).toEqual([]);
    expect(refused(existing(22))).toEqual([
      'test.yaml: registries.repositories: 44 policies of repositories that exist are more than one function may set, which is some 42: move some of them to settings with another prefix',
    ]);
  });
});
