import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, beforeAll, test } from 'vitest';
import { connectFlags, withS3Flags } from '../../../worker/commands/sides.ts';
import { parseRepositorySettings } from '../../../worker/registry/ecr/repository-settings.ts';
import { isFailure } from '../../../worker/util/failure.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'transship-sides-'));
});
afterAll(async () => rm(folder, { recursive: true, force: true }));

async function fileWith(text: string): Promise<string> {
  const path = join(folder, `${Math.random()}.json`);
  await writeFile(path, text);
  return path;
}

test('flags of each side become options of that side', () => {
  const { source, target } = connectFlags({ srcTlsVerify: 'false', destTlsVerify: 'true', destPlainHttp: true });
  assert.deepEqual([source?.tlsVerify, source?.plainHttp], [false, undefined]);
  assert.deepEqual([target?.tlsVerify, target?.plainHttp], [true, true]);
  const options = connectFlags({ srcCreds: 'a:b', destRole: 'arn:aws:iam::222222222222:role/x', destExternalId: 'id' });
  assert.equal(options.source?.credentials, 'a:b');
  assert.equal(options.target?.credentials, undefined);
  assert.deepEqual(
    [options.target?.assumeRole, options.target?.externalId],
    ['arn:aws:iam::222222222222:role/x', 'id'],
  );
});

test('flags about buckets become options, and those that are not passed are left to the environment', () => {
  const parsed = (...args: readonly string[]): unknown => {
    const command = withS3Flags(new Command(), { writes: true }).parse(args, { from: 'user' });
    return connectFlags(command.opts()).s3;
  };
  const nothing = { pathStyle: undefined, noConditions: undefined, kmsKeyId: undefined, requesterPays: undefined };
  assert.deepEqual(parsed(), nothing);
  assert.deepEqual(parsed('--s3-path-style=false'), { ...nothing, pathStyle: false });
  assert.deepEqual(
    parsed('--s3-path-style', 'true', '--s3-no-conditions', '--s3-kms-key', 'alias/backup', '--s3-requester-pays'),
    { pathStyle: true, noConditions: true, kmsKeyId: 'alias/backup', requesterPays: true },
  );
});

test('settings of created repositories come from a file', async () => {
  const path = await fileWith('{"tagMutability":"IMMUTABLE","scanOnPush":true}');
  assert.deepEqual(connectFlags({ createSettings: path }).createSettings, {
    tagMutability: 'IMMUTABLE',
    scanOnPush: true,
  });
});

test('a file of settings that is missing, not JSON or not an object is refused by name', async () => {
  for (const [path, why] of [
    [join(folder, 'missing.json'), /it cannot be read/],
    [await fileWith('{'), /it is not JSON/],
    [await fileWith('[]'), /it is not a JSON object/],
  ] as const) {
    assert.throws(
      () => connectFlags({ createSettings: path }),
      (error) => isFailure(error, 'INVALID') && error.message.includes(path) && why.test(error.message),
    );
  }
});

test('a setting that does not exist is refused, not ignored', () => {
  assert.throws(
    () => parseRepositorySettings({ tagMutabilty: 'IMMUTABLE' }),
    /there is no "tagMutabilty", but tagMutability/,
  );
});
