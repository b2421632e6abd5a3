// Writes plain CloudFormation, one file for each stack, with the code of the functions beside it: `npm run template` writes the stacks of the
// settings to dist/templates/, `npm run template:portable` those for any account and Region to dist/portable/.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { App } from 'aws-cdk-lib';
import { z } from 'zod';
import { PlainSynthesizer, plainText } from './plain-synthesizer.ts';
import { SettingsError } from '../settings/settings.ts';
import { findSettings } from '../settings/file.ts';
import { addPortableStacks } from '../portable/stacks.ts';
import { addStacks } from './stacks.ts';
import { zip } from './zip.ts';

const PORTABLE = process.argv[2] === '--portable';
const TARGET = PORTABLE ? 'dist/portable' : 'dist/templates';
const ASSET = 'asset.';
const cdkJson = z.object({ context: z.record(z.string(), z.unknown()) });

const assembly = mkdtempSync(join(tmpdir(), 'transship-templates-'));
try {
  // the feature flags, which `cdk` would pass to an app
  const { context } = cdkJson.parse(JSON.parse(readFileSync(new URL('../../cdk.json', import.meta.url), 'utf8')));
  const app = new App({ context, outdir: assembly, autoSynth: false });
  if (PORTABLE) addPortableStacks(app);
  else addStacks(app, findSettings(process.argv[2]), { synthesizer: () => new PlainSynthesizer() });
  const { stacks } = app.synth();
  rmSync(TARGET, { recursive: true, force: true });
  mkdirSync(`${TARGET}/assets`, { recursive: true });
  for (const { id, template } of stacks) {
    writeFileSync(`${TARGET}/${id}.yaml`, plainText(template));
    process.stdout.write(`${TARGET}/${id}.yaml\n`);
  }
  for (const name of readdirSync(assembly)) {
    const folder = join(assembly, name);
    // the worker's image is built from the repository and not from its asset
    if (!name.startsWith(ASSET) || readdirSync(folder).includes('Dockerfile')) continue;
    const files = readdirSync(folder).toSorted();
    const target = `${TARGET}/assets/${name.slice(ASSET.length)}.zip`;
    writeFileSync(target, zip(files.map((file) => ({ name: file, bytes: readFileSync(join(folder, file)) }))));
    process.stdout.write(`${target}\n`);
  }
} catch (error) {
  const sentence = sentenceOf(error);
  if (sentence === undefined) throw error;
  process.stderr.write(`${sentence}\n`);
  process.exitCode = 1;
} finally {
  rmSync(assembly, { recursive: true, force: true });
}

/** The message for an error that a user can fix; undefined: a bug. */
function sentenceOf(error: unknown): string | undefined {
  if (error instanceof SettingsError) return error.message;
  if (!(error instanceof Error)) return undefined;
  // CDK has reported the cause already: a resource that a Region does not offer, or a finding of cdk-nag
  if (error.name === 'ValidationFailed') return `the errors above prevent a deployment: ${TARGET} is as it was`;
  if ('syscall' in error) return `${TARGET} cannot be written: ${error.message}`;
  return undefined;
}
