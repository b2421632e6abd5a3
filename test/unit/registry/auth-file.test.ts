import { chmod, mkdtemp, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { forgetCredentials, storeCredentials } from '../../../worker/registry/auth-file.ts';
import { systemClock, type Clock } from '../../../worker/util/clock.ts';
import type { RunProgram } from '../../../worker/registry/credentials.ts';

const ANN = { username: 'ann', password: 'pa:ss' };
const AUTH = Buffer.from('ann:pa:ss').toString('base64');

const nothing: RunProgram = async (program) => expect.unreachable(`${program} was run`);

async function folder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'transship-auth-'));
}

async function json(file: string): Promise<unknown> {
  return JSON.parse(await readFile(file, 'utf8')) as unknown;
}

test('writes a new file that only its owner can read, and leaves nothing beside it', async () => {
  const place = join(await folder(), 'new', '.docker');
  const file = join(place, 'config.json');
  expect(await storeCredentials(file, 'ghcr.io', ANN, { run: nothing, clock: systemClock })).toEqual({ file });
  expect(await json(file)).toEqual({ auths: { 'ghcr.io': { auth: AUTH } } });
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect(await readdir(place)).toEqual(['config.json']);
});

test('keeps unknown members, narrows the mode, and replaces every spelling of the host', async () => {
  const file = join(await folder(), 'config.json');
  const auths = { 'https://GHCR.io/v1/': { auth: 'b2xk' }, 'ghcr.io/team': { auth: 'dGVhbQ==' }, 'quay.io': {} };
  await writeFile(file, JSON.stringify({ psFormat: '{{.ID}}', auths }));
  await chmod(file, 0o644);
  await storeCredentials(file, 'ghcr.io', ANN, { run: nothing, clock: systemClock });
  const kept = { 'ghcr.io/team': { auth: 'dGVhbQ==' }, 'quay.io': {} };
  expect(await json(file)).toEqual({ psFormat: '{{.ID}}', auths: { ...kept, 'ghcr.io': { auth: AUTH } } });
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  await forgetCredentials(file, 'ghcr.io', { run: nothing, clock: systemClock });
  expect(await json(file)).toEqual({ psFormat: '{{.ID}}', auths: kept });
  expect(await forgetCredentials(file, 'ghcr.io', { run: nothing, clock: systemClock })).toBeUndefined();
});

test('keeps every login of those that run at the same time', async () => {
  const place = await folder();
  const file = join(place, 'config.json');
  const hosts = Array.from({ length: 10 }, (_, index) => `registry-${index}.example`);
  await Promise.all(hosts.map(async (host) => storeCredentials(file, host, ANN, { run: nothing, clock: systemClock })));
  expect(Object.keys(((await json(file)) as { auths: object }).auths).sort()).toEqual(hosts);
  expect(await readdir(place)).toEqual(['config.json']);
});

test('takes over the lock that a crashed login left', async () => {
  const place = await folder();
  await writeFile(join(place, '.config.json.lock'), '');
  const impatient = { ...systemClock, sleep: async () => turn() };
  await storeCredentials(join(place, 'config.json'), 'ghcr.io', ANN, { run: nothing, clock: impatient });
  expect(await readdir(place)).toEqual(['config.json']);
});

test('stops a login that waits for the lock of another process', async () => {
  const place = await folder();
  await writeFile(join(place, '.config.json.lock'), '');
  const stop = new AbortController();
  const waiting: Clock = {
    ...systemClock,
    sleep: async (ms, options) => {
      stop.abort();
      return systemClock.sleep(ms, options);
    },
  };
  const login = { run: nothing, clock: waiting, signal: stop.signal };
  await expect(storeCredentials(join(place, 'config.json'), 'ghcr.io', ANN, login)).rejects.toMatchObject({
    code: 'ABORTED',
  });
  expect(await readdir(place)).toEqual(['.config.json.lock']);
});

test('stores Docker Hub under the name that docker reads', async () => {
  const file = join(await folder(), 'config.json');
  await storeCredentials(file, 'docker.io', ANN, { run: nothing, clock: systemClock });
  expect(await json(file)).toEqual({ auths: { 'https://index.docker.io/v1/': { auth: AUTH } } });
});

test('writes through a link', async () => {
  const place = await folder();
  await writeFile(join(place, 'real.json'), '{}');
  await symlink(join(place, 'real.json'), join(place, 'config.json'));
  await storeCredentials(join(place, 'config.json'), 'ghcr.io', ANN, { run: nothing, clock: systemClock });
  expect(await json(join(place, 'real.json'))).toMatchObject({ auths: { 'ghcr.io': {} } });
});

test.each([
  ['the helper of the host', { credHelpers: { 'ghcr.io': 'pass' } }],
  ['the store of all hosts', { credsStore: 'pass' }],
])('asks %s, and keeps the password out of the file', async (_, document) => {
  const file = join(await folder(), 'config.json');
  await writeFile(file, JSON.stringify(document));
  const asked: unknown[] = [];
  const run: RunProgram = async (program, args, input) => {
    asked.push([program, ...args, input]);
    return { exitCode: 0, stdout: '', stderr: '' };
  };
  expect(await storeCredentials(file, 'ghcr.io', ANN, { run, clock: systemClock })).toEqual({ file, helper: 'pass' });
  const entry = JSON.stringify({ ServerURL: 'ghcr.io', Username: 'ann', Secret: 'pa:ss' });
  expect(asked).toEqual([['docker-credential-pass', 'store', entry]]);
  expect(await json(file)).toEqual({ ...document, auths: { 'ghcr.io': {} } });
  expect(await forgetCredentials(file, 'ghcr.io', { run, clock: systemClock })).toEqual({ file, helper: 'pass' });
  expect(asked.slice(1)).toContainEqual(['docker-credential-pass', 'erase', 'ghcr.io']);
  expect(await json(file)).toEqual({ ...document, auths: {} });
});

test('changes nothing where the helper fails', async () => {
  const file = join(await folder(), 'config.json');
  await writeFile(file, '{"credsStore":"pass"}');
  const run: RunProgram = async () => ({ exitCode: 1, stdout: 'the store is locked', stderr: '' });
  await expect(storeCredentials(file, 'ghcr.io', ANN, { run, clock: systemClock })).rejects.toMatchObject({
    code: 'UNAUTHENTICATED',
    message: 'store credentials for ghcr.io with docker-credential-pass: it failed: the store is locked',
  });
  expect(await readFile(file, 'utf8')).toBe('{"credsStore":"pass"}');
});

test.each(['{"auths":', '[]'])('changes no file that it cannot read: %s', async (text) => {
  const file = join(await folder(), 'config.json');
  await writeFile(file, text);
  await expect(storeCredentials(file, 'ghcr.io', ANN, { run: nothing, clock: systemClock })).rejects.toMatchObject({
    code: 'INVALID',
  });
  await expect(forgetCredentials(file, 'ghcr.io', { run: nothing, clock: systemClock })).rejects.toMatchObject({
    code: 'INVALID',
  });
  expect(await readFile(file, 'utf8')).toBe(text);
});
