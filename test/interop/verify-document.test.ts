// Every command of docs/verify.md, typed into bash, in order.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, expect, test } from 'vitest';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';

const CLI = fileURLToPath(new URL('../../local/cli.ts', import.meta.url));
const ACCOUNT = '111122223333.dkr.ecr.eu-west-1.amazonaws.com';
const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { bucket, ecr, otherEcr, environment } = lab.stack;
const run = promisify(execFile);

/** The commands of a document, with the places of this stack. Moments in the document become today. */
async function commandsOf(page: string): Promise<readonly string[]> {
  const text = await readFile(new URL(`../../docs/${page}.md`, import.meta.url), 'utf8');
  return [...text.matchAll(/^transship .*$/gm)].map(([line]) =>
    line
      .replaceAll(ACCOUNT, ecr.registryHost)
      .replace('registry.example.com/team/*', `${ecr.registryHost}/team/*`)
      .replace('mirror.example.com/copy/team/*', `${otherEcr.registryHost}/copy/team/*`)
      .replace('222222222222.dkr.ecr.eu-central-1.amazonaws.com', otherEcr.registryHost)
      .replace('#2026-11-30', `#${new Date().toISOString().slice(0, 10)}`)
      .replaceAll(/s3:\/\/(?:my-)?backups\//g, `s3://${bucket}/${page}/`),
  );
}

async function prepared(): Promise<(command: string) => Promise<string>> {
  const folder = await mkdtemp(join(lab.folder, 'task-'));
  await mkdir(join(folder, 'bin'));
  const script = `#!/bin/sh\nexec "${process.execPath}" "${CLI}" "$@"\n`;
  await writeFile(join(folder, 'bin', 'transship'), script, { mode: 0o755 });
  const env = {
    ...environment,
    HOME: folder,
    PATH: `${join(folder, 'bin')}:${process.env['PATH'] ?? ''}`,
  };
  const type = async (command: string): Promise<string> => {
    const { stdout } = await run('bash', ['--norc', '-euo', 'pipefail', '-c', command], { cwd: folder, env });
    return stdout;
  };
  const image = await makeImage({ seed: 7, tag: 'v1', signed: true, layers: [500] });
  await lab.push(image, ecr, 'team/app');
  await lab.push(image, otherEcr, 'copy/team/app');
  for (const place of [`store:s3://${bucket}/verify/ecr/`, `s3://${bucket}/verify/archives/`])
    await type(`transship backup ${ecr.registryHost} ${place} -q`);
  return type;
}

test('every command of docs/verify.md works as documented', { timeout: 120_000 }, async () => {
  const type = await prepared();
  const commands = await commandsOf('verify');
  expect(commands.length).toBeGreaterThan(4);
  for (const command of commands) await type(command);
});
