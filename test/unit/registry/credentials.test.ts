import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  findCredentials,
  type CredentialLookup,
  type CredentialOptions,
  type RunProgram,
} from '../../../worker/registry/credentials.ts';
import { fakeClock } from '../../support/clock.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'credentials-'));
});
afterEach(async () => rm(folder, { recursive: true }));

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const noProgram: RunProgram = async (program) => {
  throw new Error(`${program} should not run`);
};

async function fileWith(content: unknown, name = 'config.json'): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

function lookup(files: readonly string[], o: Partial<CredentialOptions> = {}): CredentialLookup {
  return findCredentials({ files, run: noProgram, clock: fakeClock(), ...o });
}

describe('auths', () => {
  test.each([
    ['docker.io', 'https://index.docker.io/v1/'],
    ['docker.io', 'docker.io'],
    ['docker.io', 'registry-1.docker.io'],
    ['registry.example', 'registry.example'],
    ['registry.example', 'https://registry.example'],
    ['registry.example', 'https://registry.example/v2/'],
    ['registry.example:5000', 'http://registry.example:5000/v1/'],
    ['registry.example', 'registry.example/team'],
    ['registry.example', 'registry.example/team/app'],
  ])('those of %s are found under %s', async (host, key) => {
    const path = await fileWith({ auths: { [key]: { auth: base64('ann:secret') } } });
    expect(await lookup([path])(host, 'team/app', {})).toEqual({ username: 'ann', password: 'secret' });
  });

  test.each(['other.example', 'registry.example.evil', 'registry.example/te', 'registry.example/team/app/x'])(
    'those of %s are not for registry.example/team/app',
    async (key) => {
      const path = await fileWith({ auths: { [key]: { auth: base64('ann:secret') } } });
      expect(await lookup([path])('registry.example', 'team/app', {})).toBeUndefined();
    },
  );

  test('the narrowest key decides', async () => {
    const auths = {
      'registry.example': { auth: base64('all:1') },
      'registry.example/team': { auth: base64('team:2') },
      'registry.example/team/app': { auth: base64('app:3') },
    };
    const find = lookup([await fileWith({ auths })]);
    expect(await find('registry.example', 'team/app', {})).toMatchObject({ username: 'app' });
    expect(await find('registry.example', 'team/other', {})).toMatchObject({ username: 'team' });
    expect(await find('registry.example', 'teams', {})).toMatchObject({ username: 'all' });
    expect(await find('registry.example', undefined, {})).toMatchObject({ username: 'all' });
  });

  test.each([
    [{ auth: base64('ann:a:b:c') }, { username: 'ann', password: 'a:b:c' }],
    [{ auth: base64('ann:secret\0\0') }, { username: 'ann', password: 'secret' }],
    [{ auth: base64('ann:') }, { username: 'ann', password: '' }],
    [
      { username: 'ann', password: 'secret' },
      { username: 'ann', password: 'secret' },
    ],
    [{ auth: base64('ann:'), identitytoken: 'refresh' }, { identityToken: 'refresh' }],
    [{}, undefined],
    [null, undefined],
  ])('an entry %j stands for %j', async (entry, expected) => {
    const path = await fileWith({ auths: { 'registry.example': entry } });
    expect(await lookup([path])('registry.example', undefined, {})).toEqual(expected);
  });

  test('the first file that knows the registry decides', async () => {
    const first = await fileWith({ auths: { 'a.example': { auth: base64('first:1') } } }, 'first.json');
    const second = await fileWith(
      { auths: { 'a.example': { auth: base64('second:2') }, 'b.example': { auth: base64('second:2') } } },
      'second.json',
    );
    const find = lookup([first, join(folder, 'missing.json'), second]);
    expect(await find('a.example', undefined, {})).toMatchObject({ username: 'first' });
    expect(await find('b.example', undefined, {})).toMatchObject({ username: 'second' });
    expect(await find('c.example', undefined, {})).toBeUndefined();
  });
});

describe('files', () => {
  test('fails for a malformed entry only where that entry is needed, and warns once otherwise', async () => {
    const auths = {
      'other.example:5000': { auth: base64(':') },
      'nocolon.example': { auth: base64('my-secret') },
      'a.example': { auth: base64('ann:secret') },
    };
    const warnings: string[] = [];
    const path = await fileWith({ auths });
    const find = lookup([path], { report: (event) => warnings.push(JSON.stringify(event)) });
    expect(await find('a.example', undefined, {})).toMatchObject({ username: 'ann' });
    expect(await find('a.example', undefined, {})).toMatchObject({ username: 'ann' });
    expect(warnings).toHaveLength(2);
    expect(warnings.join()).toContain('auth of other.example:5000 is not the base64 of user:password');
    expect(warnings.join()).not.toContain('my-secret');
    await expect(find('other.example:5000', undefined, {})).rejects.toMatchObject({ code: 'INVALID' });
  });

  test('does not read a later file when an earlier one decides', async () => {
    const first = await fileWith({ auths: { 'a.example': { auth: base64('ann:secret') } } }, 'first.json');
    const second = await fileWith('broken', 'second.json');
    expect(await lookup([first, second])('a.example', undefined, {})).toMatchObject({ username: 'ann' });
  });

  test('reads the format of .dockercfg, which has no auths', async () => {
    const path = await fileWith({ 'https://a.example/v1/': { auth: base64('ann:secret') } }, '.dockercfg');
    expect(await lookup([path])('a.example', undefined, {})).toMatchObject({ username: 'ann' });
  });

  test('compares hosts without regard to case', async () => {
    const auths = {
      'https://LocalHost:5000': { auth: base64('ann:secret') },
      'b.example/team': { auth: base64('bob:1') },
    };
    const find = lookup([await fileWith({ auths, credHelpers: {} })]);
    expect(await find('localhost:5000', undefined, {})).toMatchObject({ username: 'ann' });
    expect(await find('LOCALHOST:5000', undefined, {})).toMatchObject({ username: 'ann' });
    expect(await find('B.Example', 'team/app', {})).toMatchObject({ username: 'bob' });
  });

  test('a file that was requested by name must exist', async () => {
    const path = join(folder, 'missing.json');
    await expect(lookup([path], { required: path })('a.example', undefined, {})).rejects.toMatchObject({
      code: 'INVALID',
      message: `read credentials: ${path} does not exist`,
    });
  });

  test.each(['{"auths": "my-secret', '[]', '"my-secret"', '7'])(
    'a malformed file is named, its content is not: %s',
    async (text) => {
      const path = await fileWith(text);
      await expect(lookup([path])('a.example', undefined, {})).rejects.toSatisfy(
        (error: Error) =>
          error.message.includes(path) && !error.message.includes('my-secret') && error.cause === undefined,
      );
    },
  );

  test('an entry whose auth is not base64 of a user and a password is named, with the key', async () => {
    const path = await fileWith({ auths: { 'a.example': { auth: base64('my-secret') } } });
    await expect(lookup([path])('a.example', undefined, {})).rejects.toMatchObject({
      code: 'INVALID',
      message: `read credentials: in ${path}, auth of a.example is not the base64 of user:password`,
    });
  });

  test.each(['', '{}', '{"auths":{}}', '{"auths":null,"credHelpers":null}'])(
    'an empty file is accepted: %j',
    async (text) => {
      expect(await lookup([await fileWith(text)])('a.example', undefined, {})).toBeUndefined();
    },
  );
});

describe('explicit credentials', () => {
  test('are used for every registry, and the files are not read', async () => {
    const path = await fileWith('broken');
    expect(await lookup([path], { explicit: 'ann:a:b' })('a.example', undefined, {})).toEqual({
      username: 'ann',
      password: 'a:b',
    });
  });

  test.each(['my-secret', ':my-secret', ''])('%j is not user:password, and is not repeated', (explicit) => {
    expect(() => lookup([], { explicit })).toThrow('credentials have to be given as user:password');
  });
});

describe('helpers', () => {
  type Ran = readonly [string, readonly string[], string];
  const answering = (result: {
    exitCode?: number;
    stdout?: string;
    stderr?: string;
  }): { ran: Ran[]; run: RunProgram } => {
    const ran: Ran[] = [];
    const run: RunProgram = async (...asked) => {
      ran.push(asked);
      return { exitCode: 0, stdout: '', stderr: '', ...result };
    };
    return { ran, run };
  };
  const found = JSON.stringify({ ServerURL: 'x', Username: 'ann', Secret: 'secret' });

  test('a helper of one registry is asked first', async () => {
    const { ran, run } = answering({ stdout: found });
    const path = await fileWith({
      auths: { 'a.example': { auth: base64('other:1') } },
      credHelpers: { 'a.example': 'ecr-login' },
      credsStore: 'desktop',
    });
    expect(await lookup([path], { run })('a.example', 'app', {})).toEqual({ username: 'ann', password: 'secret' });
    expect(ran).toEqual([['docker-credential-ecr-login', ['get'], 'a.example']]);
  });

  test('the store is asked for what the file itself does not have', async () => {
    const { ran, run } = answering({ stdout: found });
    const path = await fileWith({
      auths: { 'a.example': {}, 'b.example': { auth: base64('bob:1') } },
      credsStore: 'desktop',
    });
    const find = lookup([path], { run });
    expect(await find('a.example', undefined, {})).toMatchObject({ username: 'ann' });
    expect(await find('b.example', undefined, {})).toMatchObject({ username: 'bob' });
    expect(ran).toEqual([['docker-credential-desktop', ['get'], 'a.example']]);
  });

  test("Docker Hub is asked for under docker's own name for it", async () => {
    const { ran, run } = answering({ stdout: found });
    await lookup([await fileWith({ credsStore: 'desktop' })], { run })('docker.io', undefined, {});
    expect(ran[0]?.[2]).toBe('https://index.docker.io/v1/');
  });

  test('an identity token is recognized by its user name', async () => {
    const { run } = answering({ stdout: JSON.stringify({ Username: '<token>', Secret: 'refresh' }) });
    const find = lookup([await fileWith({ credsStore: 'desktop' })], { run });
    expect(await find('a.example', undefined, {})).toEqual({ identityToken: 'refresh' });
  });

  test('is asked once for all requests, and again after some minutes: some secrets are valid for an hour', async () => {
    const { ran, run } = answering({ stdout: found });
    const clock = fakeClock();
    const find = lookup([await fileWith({ credsStore: 'desktop' })], { run, clock });
    await Promise.all(Array.from({ length: 5 }, async () => find('a.example', undefined, {})));
    expect(ran).toHaveLength(1);
    await clock.sleep(300_000);
    await find('a.example', undefined, {});
    expect(ran).toHaveLength(2);
  });

  test('is asked for https://host if it has nothing for the host alone', async () => {
    const ran: string[] = [];
    const run: RunProgram = async (_program, _args, input) => {
      ran.push(input);
      return input === 'https://a.example:5000'
        ? { exitCode: 0, stdout: found, stderr: '' }
        : { exitCode: 1, stdout: 'credentials not found in native keychain\n', stderr: '' };
    };
    const find = lookup([await fileWith({ credsStore: 'desktop' })], { run });
    expect(await find('A.example:5000', undefined, {})).toMatchObject({ username: 'ann' });
    expect(ran).toEqual(['A.example:5000', 'a.example:5000', 'https://a.example:5000']);
  });

  test('warns of a store that is not installed and continues without credentials: public images need none', async () => {
    const run: RunProgram = async () => {
      throw Object.assign(new Error('spawn ENOENT'), { code: 'ENOENT' });
    };
    const warnings: string[] = [];
    const first = await fileWith({ auths: { 'b.example': {} }, credsStore: 'desktop' }, 'first.json');
    const second = await fileWith({ auths: { 'c.example': { auth: base64('cid:1') } } }, 'second.json');
    const find = lookup([first, second], { run, report: (event) => warnings.push(JSON.stringify(event)) });
    expect(await find('a.example', undefined, {})).toBeUndefined();
    expect(warnings.join()).toContain('docker-credential-desktop');
    expect(await find('c.example', undefined, {})).toMatchObject({ username: 'cid' });
    await expect(find('b.example', undefined, {})).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
  });

  test('is not a failure when it has no credentials: the next file is read', async () => {
    const { run } = answering({ exitCode: 1, stdout: 'credentials not found in native keychain\n' });
    const first = await fileWith({ credsStore: 'desktop' }, 'first.json');
    const second = await fileWith({ auths: { 'a.example': { auth: base64('bob:1') } } }, 'second.json');
    expect(await lookup([first, second], { run })('a.example', undefined, {})).toMatchObject({ username: 'bob' });
  });

  test.each([
    ['fails', { exitCode: 1, stdout: 'keychain is locked' }, 'keychain is locked'],
    ['fails without output', { exitCode: 3 }, 'exit code 3'],
    ['does not answer with JSON', { stdout: 'my-secret' }, 'did not answer with JSON'],
    ['answers with something else', { stdout: '{"my-secret":1}' }, 'without a user name and secret'],
  ])('a helper that %s is named', async (_, result, why) => {
    const { run } = answering(result);
    const find = lookup([await fileWith({ auths: { 'a.example': {} }, credsStore: 'desktop' })], { run });
    await expect(find('a.example', undefined, {})).rejects.toSatisfy(
      (error: Error) =>
        error.message.startsWith('get credentials for a.example from docker-credential-desktop: ') &&
        error.message.includes(why) &&
        !error.message.includes('my-secret'),
    );
  });

  test('a helper that is not installed is named, with the file that names it', async () => {
    const path = await fileWith({ credHelpers: { 'a.example': 'desktop' } });
    const run: RunProgram = async () => {
      throw Object.assign(new Error('spawn ENOENT'), { code: 'ENOENT' });
    };
    await expect(lookup([path], { run })('a.example', undefined, {})).rejects.toMatchObject({
      code: 'UNAUTHENTICATED',
      message: expect.stringContaining(`${path} names it, but it is not installed`),
    });
  });

  test('a name that is a path is not run', async () => {
    const path = await fileWith({ credHelpers: { 'a.example': '../../bin/sh' } });
    await expect(lookup([path])('a.example', undefined, {})).rejects.toMatchObject({ code: 'INVALID' });
  });

  test('speaks the protocol of a real program', async () => {
    const program = join(folder, 'docker-credential-real');
    await writeFile(
      program,
      '#!/bin/sh\nread host\nprintf \'{"ServerURL":"%s","Username":"%s","Secret":"s"}\' "$host" "$1"\n',
    );
    await chmod(program, 0o755);
    const run: RunProgram = async (name, args, input) => {
      const { promise, resolve, reject } = Promise.withResolvers<Awaited<ReturnType<RunProgram>>>();
      const child = execFile(join(folder, name), [...args], (error, stdout, stderr) => {
        if (error !== null) reject(error);
        else resolve({ exitCode: 0, stdout, stderr });
      });
      child.stdin?.end(input);
      return promise;
    };
    const find = lookup([await fileWith({ credsStore: 'real' })], { run });
    expect(await find('a.example', undefined, {})).toEqual({ username: 'get', password: 's' });
  });
});
