// The stacks of settings as CloudFormation gets them, and the findings of cdk-nag.
import { readFileSync } from 'node:fs';
import { App, Stack } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';
import { parseSettings, SettingsError } from '../../infra/settings/settings.ts';
import type { InfraSettings } from '../../infra/settings/schema.ts';
import { addPortableStacks } from '../../infra/portable/stacks.ts';
import { addStacks } from '../../infra/synth/stacks.ts';
import { template, type Template } from './deployed.ts';

export const ACCOUNT = '111111111111';
export const REGION = 'eu-central-1';
/** Files of infra/examples/. */
export const EXAMPLES = ['minimal', 'production', 'vault', 'replication'] as const;

/** Settings of this account and Region, with the settings `more`. */
export function settingsOf(more: string): InfraSettings {
  return parseSettings(`version: 1\naccount: '${ACCOUNT}'\nregion: ${REGION}\n${more}`, 'test.yaml');
}

/** The errors of such settings, one a line; empty when they are accepted. */
export function refused(more: string): readonly string[] {
  try {
    settingsOf(more);
    return [];
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    return error.message.split('\n');
  }
}

/** An app with the feature flags of cdk.json, which tests would not have otherwise. It does not bundle the code of functions. */
export function app(): App {
  const flags: unknown = JSON.parse(readFileSync('cdk.json', 'utf8'));
  const context = typeof flags === 'object' && flags !== null ? Reflect.get(flags, 'context') : undefined;
  const tree = new App({ context });
  tree.node.setContext('aws:cdk:bundling-stacks', []);
  return tree;
}

/** The stacks of a deployment, by their ids. */
export function stacksOf(settings: InfraSettings): ReadonlyMap<string, Stack> {
  const tree = app();
  addStacks(tree, settings);
  return new Map(tree.node.children.filter((child) => child instanceof Stack).map((stack) => [stack.node.id, stack]));
}

/** The templates for any account and Region. */
export const PORTABLE = ['Transship', 'TransshipRegistries', 'TransshipReplicas'] as const;

/** The stacks for any account and Region, by their ids. */
export function portableStacks(): ReadonlyMap<string, Stack> {
  const tree = app();
  addPortableStacks(tree);
  return new Map(tree.node.children.filter((child) => child instanceof Stack).map((stack) => [stack.node.id, stack]));
}

/** The portable templates. */
export function portableTemplates(): ReadonlyMap<string, Template> {
  const tree = app();
  addPortableStacks(tree);
  return new Map(tree.synth().stacks.map((stack) => [stack.id, template.parse(stack.template)]));
}

/** The stack of the running system. */
export function transship(more = ''): Stack {
  const stack = stacksOf(settingsOf(more)).get('Transship');
  if (stack === undefined) throw new Error('no stack');
  return stack;
}

/** What CloudFormation computes, as text: `<Bucket.Arn>/*`, and ids without the suffixes of CDK. */
export function textOf(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value);
  const [[name, argument] = ['', '']] = Object.entries(value);
  const plain = (id: unknown): string => String(id).replace(/[0-9A-F]{8}$/, '');
  if (name === 'Ref') return `<${plain(argument)}>`;
  if (name === 'Fn::GetAtt' && Array.isArray(argument)) return `<${plain(argument[0])}.${String(argument[1])}>`;
  if (name === 'Fn::Join' && Array.isArray(argument) && Array.isArray(argument[1]))
    return argument[1].map(textOf).join(String(argument[0]));
  return JSON.stringify(value);
}

/** The findings of cdk-nag that are not acknowledged. */
export function findings(stack: Stack): readonly string[] {
  const { violations } = new AwsSolutionsChecks(stack).validateScope(stack);
  return violations.map(({ ruleName }) => ruleName);
}
