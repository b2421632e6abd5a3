// A signature of a snapshot, checked without Transship by the commands in docs/snapshot-format.md.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, expect, onTestFinished, test } from 'vitest';
import { openFiles } from '../../worker/objects/files/store.ts';
import { openKmsKey } from '../../worker/store/kms.ts';
import { openSnapshots } from '../../worker/store/snapshots.ts';
import { run } from '../support/interop-process.ts';
import { startLocalKms } from '../support/local-kms.ts';
import { goldenSnapshot } from '../support/snapshots.ts';

const folder = await mkdtemp(join(tmpdir(), 'transship-signatures-'));
afterAll(() => rm(folder, { recursive: true, force: true }));

/** The commands of the document, for a snapshot with this name. */
async function documented(name: string): Promise<string> {
  const text = await readFile('docs/snapshot-format.md', 'utf8');
  const [, commands = ''] = /```sh\n(zstd .*?)```/s.exec(text) ?? [];
  expect(commands).toContain('openssl dgst -sha256 -verify backups.pem');
  return commands.replaceAll('20261201T021000000Z-….json.zst', name);
}

test.each([
  ['ECC_NIST_P256', ''],
  ['RSA_2048', ' -sigopt rsa_padding_mode:pss'],
] as const)('a signature by a key of the kind %s is valid for OpenSSL', async (spec, options) => {
  const kms = await startLocalKms();
  Object.assign(process.env, {
    AWS_ENDPOINT_URL_KMS: kms.endpoint,
    AWS_REGION: 'eu-west-1',
    AWS_ACCESS_KEY_ID: 'test',
    AWS_SECRET_ACCESS_KEY: 'test',
  });
  onTestFinished(() => void delete process.env['AWS_ENDPOINT_URL_KMS']);
  const { pem } = kms.key('alias/backups', spec);
  const signer = openKmsKey({ key: 'alias/backups' });
  const { key } = await openSnapshots({ store: openFiles(join(folder, spec)), prefix: '', keys: { signer } }).write(
    goldenSnapshot(),
  );
  const at = join(folder, spec, 'snapshots');
  await writeFile(join(at, 'backups.pem'), pem);
  const script = (await documented(basename(key))).replace('-verify backups.pem', `-verify backups.pem${options}`);
  const env = { PATH: process.env['PATH'] ?? '', HOME: folder };
  const output = await run('bash', ['-euc', `cd ${JSON.stringify(at)}\n${script}`], { env });
  expect(output.toString().trim()).toBe('Verified OK');
});
