// Every command of docs/how-to, typed into bash as it stands, in order, against the embedded registries and S3.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, expect, test } from 'vitest';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';

const CLI = fileURLToPath(new URL('../../local/cli.ts', import.meta.url));
const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { bucket, ecr, otherEcr, environment } = lab.stack;

const run = promisify(execFile);

async function blocksOf(page: string): Promise<readonly string[]> {
  const text = await readFile(new URL(`../../docs/how-to/${page}.md`, import.meta.url), 'utf8');
  return [...text.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block = '']) => block);
}

test.each(['restore-yesterday', 'move-to-another-account', 'prove-it-to-an-auditor', 'air-gap'])(
  'docs/how-to/%s.md does what it says',
  { timeout: 120_000 },
  async (page) => {
    const folder = await mkdtemp(join(lab.folder, 'how-to-'));
    await mkdir(join(folder, 'bin'));
    const script = `#!/bin/sh\nexec "${process.execPath}" "${CLI}" "$@"\n`;
    await writeFile(join(folder, 'bin', 'transship'), script, { mode: 0o755 });
    const env = {
      ...environment,
      HOME: folder,
      PATH: `${join(folder, 'bin')}:${process.env['PATH'] ?? ''}`,
      STORE: `store:s3://${bucket}/${page}/`,
      SOURCE: ecr.registryHost,
      OTHER: otherEcr.registryHost,
      WHEN: new Date().toISOString().slice(0, 10),
    };
    const type = async (commands: string): Promise<string> => {
      const { stdout } = await run('bash', ['--norc', '-euo', 'pipefail', '-c', commands], { cwd: folder, env });
      return stdout;
    };
    const image = await makeImage({ seed: 7, tag: 'v1', signed: true, layers: [500] });
    await lab.push(image, ecr, 'product/app');
    if (page !== 'air-gap' && page !== 'move-to-another-account') await type('transship backup $SOURCE $STORE');
    // what a restore has to bring back: the tag stands for another image by now
    if (page === 'restore-yesterday')
      await lab.push(await makeImage({ seed: 8, tag: 'v1', layers: [500] }), ecr, 'product/app');
    const blocks = await blocksOf(page);
    expect(blocks.length).toBeGreaterThan(1);
    for (const block of blocks) await type(block);
    if (page === 'prove-it-to-an-auditor') {
      // a drill deletes what it made
      expect(await Array.fromAsync(lab.client(otherEcr).repositories('drill/'))).toEqual([]);
      return;
    }
    const restored = page === 'restore-yesterday' ? ecr : otherEcr;
    const { digest } = await lab.view(restored, 'product/app').resolve('v1');
    expect(digest).toBe(image.root.descriptor.digest);
  },
);
