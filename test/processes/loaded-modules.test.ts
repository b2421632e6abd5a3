// Most of the time of a short command is loading modules. Times depend on the machine; which modules are loaded does not.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, expect, test } from 'vitest';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { RECORDER } from '../support/loaded-modules.ts';

const CHECKOUT = fileURLToPath(new URL('../../', import.meta.url));
const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());

/** The modules that a command loads, relative to the checkout; packages by name, with the files of undici that are loaded. */
async function loadedBy(...args: readonly string[]): Promise<{ readonly own: string[]; readonly packages: string[] }> {
  const list = join(lab.folder, 'loaded');
  const env = { PATH: process.env['PATH'] ?? '', HOME: lab.folder, LOADED: list };
  const command = ['--import', RECORDER, join(CHECKOUT, 'bin', 'transship.js'), ...args];
  await promisify(execFile)(process.execPath, command, { env: { ...env, NODE_DISABLE_COMPILE_CACHE: '1' } });
  const files = (await readFile(list, 'utf8'))
    .split('\n')
    .flatMap((url) => (url.startsWith('file:') ? [fileURLToPath(url).slice(CHECKOUT.length)] : []));
  const own = files.filter((file) => !file.startsWith('node_modules/'));
  const packages = files.flatMap((file) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1] ?? []);
  const fetch = files.some((file) => file.startsWith('node_modules/undici/lib/web/')) ? ['fetch of undici'] : [];
  return { own, packages: [...new Set(packages), ...fetch].sort() };
}

const commandsIn = (own: readonly string[]): string[] =>
  own.filter((file) => file.startsWith('worker/commands/') || file.startsWith('local/commands/')).sort();

test('prints its version without loading a command', async () => {
  const { own, packages } = await loadedBy('--version');
  expect(packages).toEqual(['commander']);
  const shared = ['completion/asked', 'look', 'text', 'width'];
  expect(commandsIn(own)).toEqual(shared.map((name) => `worker/commands/${name}.ts`));
  expect(own.filter((file) => /^worker\/(?:registry|objects|state|rules)\//.test(file))).toEqual([]);
});

test('copies between two registries without the AWS SDK, schemas, YAML and the embedded stack', async () => {
  const image = await makeImage({});
  await lab.push(image, lab.stack.registry, 'plain/app');
  const from = `docker://${lab.stack.registry.host}/plain/app:v1`;
  const { own, packages } = await loadedBy('copy', from, `docker://${lab.stack.registry.host}/plain/copied:v1`);
  expect(packages).toEqual(['commander', 'lru-cache', 'undici']);
  const output = ['bars', 'event-lines', 'look', 'progress', 'table', 'text', 'width'];
  const shared = [...output, 'completion/asked', 'context', 'copy', 'help', 'many-flags', 'result', 'sides'].sort();
  expect(commandsIn(own)).toEqual(shared.map((name) => `worker/commands/${name}.ts`));
  expect(own.filter((file) => file.startsWith('local/'))).toEqual(['local/cli.ts']);
});

test('lists every command in its help', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [join(CHECKOUT, 'bin', 'transship.js'), '--help'], {
    env: { PATH: process.env['PATH'] ?? '', HOME: lab.folder },
  });
  const listed = [...stdout.matchAll(/^ {2}([a-z]+)(?:\|\w+)? /gm)].map(([, name]) => name);
  expect(listed).toEqual(expect.arrayContaining(['copy', 'backup', 'restore', 'worker', 'local', 'demo', 'help']));
  expect(listed).toHaveLength(new Set(listed).size);
});
