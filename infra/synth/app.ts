// The entry point for `cdk`: synthesizes the stacks of the settings.
import { join, relative } from 'node:path';
import { App } from 'aws-cdk-lib';
import { SettingsError } from '../settings/settings.ts';
import { findSettings } from '../settings/file.ts';
import { addStacks } from './stacks.ts';

/** Stands for an account and a Region that are not known, in what `npm run synth` shows. */
const SHOWN = { account: '111111111111', region: 'us-east-1' };

try {
  // with autoSynth, CDK would write an empty assembly for settings that cannot be used
  const app = new App({ autoSynth: false });
  const fallback: unknown = app.node.tryGetContext('fallback');
  const isShown = typeof fallback === 'string';
  addStacks(app, isShown ? findSettings(fallback, SHOWN) : findSettings());
  app.synth();
  if (isShown) process.stderr.write(`templates: ${join(relative('', app.outdir), '*.template.json')}\n`);
} catch (error) {
  if (!(error instanceof SettingsError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
