// Stacks of settings as they are for CloudFormation, with what cdk-nag says of them.
import { readFileSync } from 'node:fs';
import { App, type Stack } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';
import { parseSettings, SettingsError, type InfraSettings } from '../../infra/settings.ts';

export const ACCOUNT = '111111111111';
export const REGION = 'eu-central-1';

/** Settings of this account and region, and of `more`. */
export function settingsOf(more: string): InfraSettings {
  return parseSettings(`version: 1\naccount: '${ACCOUNT}'\nregion: ${REGION}\n${more}`, 'test.yaml');
}

/** What is refused in such settings, a line each; none when they can be used. */
export function refused(more: string): readonly string[] {
  try {
    settingsOf(more);
    return [];
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    return error.message.split('\n');
  }
}

/** An app with the feature flags of cdk.json, which the tests would lack otherwise. */
export function app(): App {
  const flags: unknown = JSON.parse(readFileSync('cdk.json', 'utf8'));
  const context = typeof flags === 'object' && flags !== null ? Reflect.get(flags, 'context') : undefined;
  return new App({ context });
}

/** What cdk-nag finds that nobody acknowledged. */
export function findings(stack: Stack): readonly string[] {
  const { violations } = new AwsSolutionsChecks(stack).validateScope(stack);
  return violations.map(({ ruleName }) => ruleName);
}
