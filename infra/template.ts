// `npm run template`: plain CloudFormation in dist/templates/, one file a stack, and beside it the code of the functions.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { App } from 'aws-cdk-lib';
import { z } from 'zod';
import { PlainSynthesizer, plainText } from './plain-synthesizer.ts';
import { SettingsError } from './settings.ts';
import { findSettings } from './settings-file.ts';
import { addStacks } from './stacks.ts';
import { zip } from './zip.ts';

const TARGET = 'dist/templates';
const ASSET = 'asset.';
const cdkJson = z.object({ context: z.record(z.string(), z.unknown()) });

const assembly = mkdtempSync(join(tmpdir(), 'transship-templates-'));
try {
  // the feature flags, which `cdk` hands to an app otherwise
  const { context } = cdkJson.parse(JSON.parse(readFileSync(new URL('../cdk.json', import.meta.url), 'utf8')));
  const app = new App({ context, outdir: assembly });
  addStacks(app, findSettings(process.argv[2]), { synthesizer: () => new PlainSynthesizer() });
  const { stacks } = app.synth();
  rmSync(TARGET, { recursive: true, force: true });
  mkdirSync(`${TARGET}/assets`, { recursive: true });
  for (const { id, template } of stacks) {
    writeFileSync(`${TARGET}/${id}.yaml`, plainText(template));
    process.stdout.write(`${TARGET}/${id}.yaml\n`);
  }
  for (const name of readdirSync(assembly)) {
    const folder = join(assembly, name);
    // an image is built from the repository itself
    if (!name.startsWith(ASSET) || readdirSync(folder).includes('Dockerfile')) continue;
    const files = readdirSync(folder).toSorted();
    const target = `${TARGET}/assets/${name.slice(ASSET.length)}.zip`;
    writeFileSync(target, zip(files.map((file) => ({ name: file, bytes: readFileSync(join(folder, file)) }))));
    process.stdout.write(`${target}\n`);
  }
} catch (error) {
  if (!(error instanceof SettingsError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
} finally {
  rmSync(assembly, { recursive: true, force: true });
}
