// What `cdk` runs: the stacks of the settings.
import { App } from 'aws-cdk-lib';
import { SettingsError } from '../settings/settings.ts';
import { findSettings } from '../settings/file.ts';
import { addStacks } from './stacks.ts';

try {
  // by itself it would write what there is also when the settings cannot be used
  const app = new App({ autoSynth: false });
  const fallback: unknown = app.node.tryGetContext('fallback');
  addStacks(app, findSettings(typeof fallback === 'string' ? fallback : undefined));
  app.synth();
} catch (error) {
  if (!(error instanceof SettingsError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
