// What `cdk` runs: the stacks of the settings in transship.infra.yaml, or of the file that TRANSSHIP_INFRA names.
import { existsSync } from 'node:fs';
import { App } from 'aws-cdk-lib';
import { readSettings, SettingsError } from './settings.ts';
import { addStacks } from './stacks.ts';

const DEFAULT_FILE = 'transship.infra.yaml';

try {
  const app = new App();
  addStacks(app, readSettings(settingsFile(app.node.tryGetContext('fallback'))));
  app.synth();
} catch (error) {
  if (!(error instanceof SettingsError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}

/** `fallback`: what to show where nobody has settings yet. Only commands that deploy nothing give one. */
function settingsFile(fallback: unknown): string {
  const named = process.env['TRANSSHIP_INFRA'];
  if (named !== undefined && named !== '') return named;
  if (typeof fallback !== 'string' || existsSync(DEFAULT_FILE)) return DEFAULT_FILE;
  process.stderr.write(`there is no ${DEFAULT_FILE}, and TRANSSHIP_INFRA names none: showing ${fallback}\n`);
  return fallback;
}
