import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getCACertificates } from 'node:tls';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findCertificates } from '../../../worker/registry/certificates.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'certificates-'));
});
afterEach(async () => rm(folder, { recursive: true }));

async function withFiles(host: string, files: readonly string[]): Promise<void> {
  await mkdir(join(folder, host), { recursive: true });
  for (const file of files) await writeFile(join(folder, host, file), `content of ${file}`);
}

test('adds the authorities of a folder to the default ones, and reads the certificates of the client with their keys', async () => {
  await withFiles('r.example:5000', ['ca.crt', 'b.cert', 'b.key', 'a.cert', 'a.key', 'README']);
  expect(await findCertificates('R.example:5000', { folders: [join(folder, 'missing'), folder] })).toEqual({
    ca: [...getCACertificates('default'), 'content of ca.crt'],
    cert: ['content of a.cert', 'content of b.cert'],
    key: ['content of a.key', 'content of b.key'],
  });
  expect(await findCertificates('r.example', { folders: [folder] })).toEqual({});
});

test('uses the first folder that has the host', async () => {
  await withFiles('first/r.example', ['ca.crt']);
  await withFiles('second/r.example', ['client.cert', 'client.key']);
  const folders = [join(folder, 'first'), join(folder, 'second')];
  expect(Object.keys(await findCertificates('r.example', { folders }))).toEqual(['ca']);
});

test('does not check certificates of servers with `verify: false`', async () => {
  expect(await findCertificates('r.example', { folders: [folder], verify: false })).toEqual({
    rejectUnauthorized: false,
  });
});

test.each([
  [['client.cert'], 'client.cert, but not client.key'],
  [['client.key'], 'client.key, but not client.cert'],
])('refuses %j, a certificate without its key or the reverse', async (files, why) => {
  await withFiles('r.example', files);
  await expect(findCertificates('r.example', { folders: [folder] })).rejects.toMatchObject({
    code: 'INVALID',
    message: expect.stringContaining(why),
  });
});
