import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { execute } from '../../worker/main/program.ts';
import { openFiles } from '../../worker/objects/files/store.ts';
import { makeImage } from '../support/images.ts';
import { storeImages } from '../support/served.ts';

const folder = await mkdtemp(join(tmpdir(), 'transship-serve-'));
afterAll(async () => rm(folder, { recursive: true, force: true }));
await storeImages(openFiles(folder), '', [{ repository: 'team/app', image: await makeImage() }]);
const users = join(folder, 'users');
await writeFile(users, 'ann:$apr1$Dm0Jsdkb$yOXOPFg2uHSIRK2Wvgi3d.\n');
const token = join(folder, 'token');
await writeFile(token, '0123456789abcdef\n');

async function serve(
  args: readonly string[],
  onOutput: (text: string) => void = () => undefined,
  stop = new AbortController().signal,
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  const said = { stdout: '', stderr: '' };
  const screen = (name: 'stdout' | 'stderr') => ({
    write: (text: string) => {
      said[name] += text;
      onOutput(text);
    },
    terminal: false,
    columns: 200,
  });
  const argv = ['node', 'transship', 'serve', ...args];
  const code = await execute({ argv, env: { HOME: folder }, stdout: screen('stdout'), stderr: screen('stderr'), stop });
  return { code, ...said };
}

test.each([
  [['registry.example.com'], 2, /is a registry, which serves its images itself/],
  [[`store:${join(folder, 'none')}`], 1, /there is no store/],
  [[`store:${folder}`, '--as-of', '2020-01-01'], 1, /there is no image to serve/],
  [[`store:${folder}`, '--as-of', 'yesterday'], 2, /is not a time/],
  [[`store:${folder}`, '--only', 'none'], 1, /there is no image to serve/],
  [[`store:${folder}`, '--listen', '5000'], 2, /expected HOST:PORT/],
  [[`store:${folder}`, '--listen', '0.0.0.0:0'], 2, /without a login; add --htpasswd or --token-file/],
  [[`store:${folder}`, '--listen', ':0', '--token-file', token], 2, /in the clear; add --tls-cert and --tls-key/],
  [[`store:${folder}`, '--tls-cert', token], 2, /are given together/],
  [[`store:${folder}`, '--htpasswd', users], 2, /line 1 does not have a bcrypt hash/],
  [[`store:${folder}`, '--htpasswd', join(folder, 'missing')], 2, /it cannot be read/],
  [[`store:${folder}`, '--redirect'], 2, /is not a store in S3/],
  [[`store:${folder}`, '--max-connections', '0'], 2, /a number from 1/],
] as const)('serve %j exits with %d and a sentence', async (args, code, sentence) => {
  const ended = await serve([...args]);
  expect(ended).toMatchObject({ code, stdout: '' });
  expect(ended.stderr).toMatch(sentence);
});

test.each([
  ['on loopback', ['--listen', '127.0.0.1:0'], /^serving 1 repository of store:.* on http:\/\/127\.0\.0\.1:\d+\n$/],
  [
    'on every address with a token, behind a proxy with TLS',
    ['--listen', ':0', '--plain-http', '--token-file', token],
    /^serving 1 repository of store:.* on http:\/\/\[::\]:\d+\n$/,
  ],
  ['as JSON', ['--listen', '127.0.0.1:0', '--json'], /^\{\n {2}"url": "http:[^]*"repositories": 1\n\}\n$/],
] as const)('serve prints where it listens %s, and exits with 0 when it is stopped', async (_, args, expected) => {
  const stop = new AbortController();
  const onOutput = (text: string): void => {
    if (text.includes('pull from')) stop.abort();
  };
  const ended = await serve([`store:${folder}`, ...args], onOutput, stop.signal);
  expect(ended.code).toBe(0);
  expect(ended.stdout).toMatch(expected);
  expect(ended.stderr).toMatch(/team\/app:TAG; end with Ctrl-C/);
});
