// Who may do what with repositories beyond the policies of their accounts: denials, pipelines with tokens, and what people are told of it.
import { Match, Template } from 'aws-cdk-lib/assertions';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { ACCOUNT, REGION, findings, refused, settingsOf, stacksOf, textOf } from './templates.ts';
import type { Stack } from 'aws-cdk-lib';

const trust = z.object({
  Statement: z.array(z.object({ Action: z.string(), Principal: z.unknown(), Condition: z.unknown().optional() })),
});
const OTHER = '333333333333';
const GITHUB = 'token.actions.githubusercontent.com';
const CI = `arn:aws:iam::${ACCOUNT}:role/ci`;

function stackOf(id: string, registries: string): Stack {
  const stack = stacksOf(settingsOf(`registries: { ${registries} }`)).get(id);
  if (stack === undefined) throw new Error(`there is no ${id}`);
  return stack;
}

function registriesOf(registries: string): Template {
  return Template.fromStack(stackOf('TransshipRegistries', registries));
}

describe('the policy of a repository', () => {
  const statements = (more: string): unknown =>
    Object.values(registriesOf(`repositories: [{ name: a/b, ${more} }]`).findResources('AWS::ECR::Repository'))[0]?.[
      'Properties'
    ]?.RepositoryPolicyText?.Statement;

  test('denies pushes of all principals but some', () => {
    expect(statements(`pushOnly: ['${CI}']`)).toEqual([
      {
        Sid: 'PushOnly',
        Effect: 'Deny',
        Principal: { AWS: '*' },
        Action: ['ecr:CompleteLayerUpload', 'ecr:InitiateLayerUpload', 'ecr:PutImage', 'ecr:UploadLayerPart'],
        Condition: { ArnNotLike: { 'aws:PrincipalArn': [CI] } },
      },
    ]);
  });

  test('denies deletions of all principals but some, beside what it allows', () => {
    expect(
      statements(`pullAccounts: ['${OTHER}'], deleteOnly: ['arn:aws:iam::${ACCOUNT}:role/admin-*']`),
    ).toMatchObject([
      { Effect: 'Allow' },
      {
        Effect: 'Deny',
        Action: ['ecr:BatchDeleteImage', 'ecr:DeleteRepository'],
        Condition: { ArnNotLike: { 'aws:PrincipalArn': [`arn:aws:iam::${ACCOUNT}:role/admin-*`] } },
      },
    ]);
  });
});

describe('the role that pushes', () => {
  const PIPELINE = `{ issuer: ${GITHUB}, subjects: ['repo:tea/app:ref:refs/heads/main'] }`;
  const GITLAB =
    "{ issuer: gitlab.com, audience: 'https://gitlab.com', subjects: ['project_path:tea/app:*'], existing: true }";

  test('is assumed by pipelines of GitHub and GitLab with their tokens, and by no other pipeline of the provider', () => {
    const template = registriesOf(
      `repositories: [{ name: a/b }], roles: { push: ['${CI}'], pushFrom: [${PIPELINE}, ${GITLAB}] }`,
    );
    template.resourceCountIs('AWS::IAM::OIDCProvider', 1);
    template.hasResourceProperties('AWS::IAM::OIDCProvider', {
      Url: `https://${GITHUB}`,
      ClientIdList: ['sts.amazonaws.com'],
    });
    const [role] = Object.values(template.findResources('AWS::IAM::Role'));
    const { Statement } = trust.parse(role?.['Properties']?.AssumeRolePolicyDocument);
    expect(Statement).toEqual([
      { Action: 'sts:AssumeRole', Principal: { AWS: CI } },
      {
        Action: 'sts:AssumeRoleWithWebIdentity',
        Principal: { Federated: `arn:aws:iam::${ACCOUNT}:oidc-provider/${GITHUB}` },
        Condition: {
          StringEquals: { [`${GITHUB}:aud`]: 'sts.amazonaws.com' },
          StringLike: { [`${GITHUB}:sub`]: ['repo:tea/app:ref:refs/heads/main'] },
        },
      },
      {
        Action: 'sts:AssumeRoleWithWebIdentity',
        Principal: { Federated: `arn:aws:iam::${ACCOUNT}:oidc-provider/gitlab.com` },
        Condition: {
          StringEquals: { 'gitlab.com:aud': 'https://gitlab.com' },
          StringLike: { 'gitlab.com:sub': ['project_path:tea/app:*'] },
        },
      },
    ]);
  });

  test.each(['repo:*', '*', 'repo:*/app:ref:refs/heads/main', 'repo:tea'])('is not for the subject %s', (subject) => {
    const [line] = refused(
      `registries: { repositories: [{ name: a/b }], roles: { pushFrom: [{ issuer: ${GITHUB}, subjects: ['${subject}'] }] } }`,
    );
    expect(line).toContain('expected a subject that names an owner');
  });

  test('is not there without repositories', () => {
    expect(refused(`registries: { replication: [{ region: us-east-1 }], roles: { pushFrom: [${PIPELINE}] } }`)).toEqual(
      [
        'test.yaml: registries.roles.pushFrom: there are no repositories to push to: name them in registries.repositories',
      ],
    );
  });

  test('has the name and the session length of the settings', () => {
    registriesOf(
      `repositories: [{ name: a/b }], roles: { push: ['${CI}'], names: { push: tea-push }, sessionHours: 4 }`,
    ).hasResourceProperties('AWS::IAM::Role', { RoleName: 'tea-push', MaxSessionDuration: 14_400 });
  });
});

describe('outputs of registries', () => {
  test('have the URI of each repository, and the commands that check them in each Region', () => {
    const outputs = registriesOf(
      'repositories: [{ name: product/api }, { name: product-api }], replication: [{ region: us-east-1 }]',
    ).findOutputs('*');
    const told = Object.fromEntries(Object.entries(outputs).map(([id, { Value }]) => [id, textOf(Value)]));
    const host = `${ACCOUNT}.dkr.ecr.${REGION}.<AWS::URLSuffix>`;
    expect(told).toMatchObject({ ProductApiUri: `${host}/product/api`, ProductApiUri2: `${host}/product-api` });
    for (const [id, region] of [
      ['CheckRepositories', REGION],
      ['CheckReplicasUsEast1', 'us-east-1'],
    ] as const)
      expect(told[id]).toContain(`aws ecr describe-repositories --region ${region} --query `);
  });

  test('are no more than a template has', () => {
    const many = Array.from({ length: 101 }, (_, i) => `{ name: many/n${i} }`).join(', ');
    const outputs = registriesOf(`repositories: [${many}]`).findOutputs('*');
    expect(Object.keys(outputs).toSorted()).toEqual(['CheckRepositories', 'Login', 'PreviewLifecycle']);
  });
});

describe('replication to another account', () => {
  test('is reported to the account that images come from, which lets that account and no other event in', () => {
    const bus = (account: string, region: string): string => `arn:aws:events:${region}:${account}:event-bus/default`;
    registriesOf(
      `replicationSources: [{ account: '${OTHER}', reportTo: us-east-1 }, { account: '444444444444' }]`,
    ).hasResourceProperties('AWS::Events::Rule', {
      EventPattern: { source: ['aws.ecr'], 'detail-type': ['ECR Replication Action'], region: [REGION] },
      Targets: [Match.objectLike({ Arn: bus(OTHER, 'us-east-1') })],
    });
    const source = Template.fromStack(
      stackOf('Transship', `replication: [{ region: us-east-1 }, { region: us-east-1, account: '${OTHER}' }]`),
    );
    source.resourceCountIs('AWS::Events::EventBusPolicy', 1);
    source.hasResourceProperties('AWS::Events::EventBusPolicy', {
      Statement: {
        Effect: 'Allow',
        Action: 'events:PutEvents',
        Resource: bus(ACCOUNT, REGION),
        Condition: { StringEquals: { 'events:source': 'aws.ecr', 'events:detail-type': 'ECR Replication Action' } },
      },
    });
  });
});

test('cdk-nag finds nothing', () => {
  const all = `repositories: [{ name: a/b, pushOnly: ['${CI}'] }], replicationSources: [{ account: '${OTHER}', reportTo: us-east-1 }], roles: { pushFrom: [{ issuer: ${GITHUB}, subjects: ['repo:tea/app:*'] }] }`;
  expect(findings(stackOf('TransshipRegistries', all))).toEqual([]);
});
