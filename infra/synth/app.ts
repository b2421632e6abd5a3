// The entry point for `cdk`: synthesizes the stacks of the settings.
import { App } from 'aws-cdk-lib';
import { SettingsError } from '../settings/settings.ts';
import { findSettings } from '../settings/file.ts';
import { addStacks } from './stacks.ts';

try {
  // with autoSynth, CDK would write an empty assembly for settings that cannot be used
  const app = new App({ autoSynth: false });
  const fallback: unknown = app.node.tryGetContext('fallback');
  addStacks(app, findSettings(typeof fallback === 'string' ? fallback : undefined));
  app.synth();
} catch (error) {
  if (!(error instanceof SettingsError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
