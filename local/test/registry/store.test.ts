import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'vitest';
import { openRegistryStore, type RegistryStore } from '../../registry/store.ts';
import { digestOf, hexOf, type Digest } from '../../../worker/oci/digest.ts';

const SHA256 = join('blobs', 'sha256');

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'store-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

test('a write during which the process was killed is dropped, and earlier writes stay', async () => {
  const store = await openRegistryStore(folder);
  const digest = await addBlob(store, 'app', 'kept');
  await store.close();
  await appendFile(join(folder, 'registry.ndjson'), '{"do":"delete","repository":"app"');
  const again = await openRegistryStore(folder);
  assert.equal(again.repositories.get('app')?.blobs.get(digest), 4);
  await again.close();
});

test('unreferenced blobs and unfinished uploads are removed', async () => {
  const store = await openRegistryStore(folder);
  const digest = await addBlob(store, 'app', 'kept');
  await store.close();
  await writeFile(join(folder, SHA256, hexOf(digestOf(Buffer.from('lost')))), 'lost');
  await writeFile(join(folder, 'uploads', 'half'), 'ha');
  const again = await openRegistryStore(folder);
  assert.deepEqual(await readdir(join(folder, SHA256)), [hexOf(digest)]);
  assert.deepEqual(await readdir(join(folder, 'uploads')), []);
  await again.close();
});

test('the journal is compacted at a restart', async () => {
  const store = await openRegistryStore(folder);
  for (let i = 0; i < 50; i++) store.setAccount('BLOB_MOUNTING', i % 2 === 0 ? 'ENABLED' : 'DISABLED');
  store.create('app', 0);
  await store.close();
  const again = await openRegistryStore(folder);
  const lines = (await readFile(join(folder, 'registry.ndjson'), 'utf8')).split('\n');
  assert.equal(lines.length, 3);
  assert.equal(again.account.get('BLOB_MOUNTING'), 'DISABLED');
  await again.close();
});

test('a journal that is damaged is not taken for an empty registry', async () => {
  await (await openRegistryStore(folder)).close();
  await writeFile(join(folder, 'registry.ndjson'), '{"do":\n{"do":"create","repository":"app"}\n');
  await assert.rejects(openRegistryStore(folder), { code: 'CORRUPT', message: /line 1 of .*registry\.ndjson/ });
  await writeFile(join(folder, 'registry.ndjson'), '');
  await (await openRegistryStore(folder)).close();
});

test('a folder is open once at a time; the lock of a process that is gone does not count', async () => {
  const store = await openRegistryStore(folder);
  await assert.rejects(openRegistryStore(folder), { code: 'CONFLICT' });
  await store.close();
  await writeFile(join(folder, 'lock'), String(process.ppid));
  await assert.rejects(openRegistryStore(folder), { code: 'CONFLICT', message: new RegExp(`process ${process.ppid}`) });
  // ids are below 4,194,304: https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html
  for (const gone of [2 ** 31 - 2, process.pid]) {
    await writeFile(join(folder, 'lock'), String(gone));
    await (await openRegistryStore(folder)).close();
  }
});

test('a blob stays as long as any repository has it', async () => {
  const store = await openRegistryStore(folder);
  const digest = await addBlob(store, 'a', 'shared');
  await addBlob(store, 'b', 'shared');
  const [a, b] = [store.repositories.get('a'), store.repositories.get('b')];
  assert.ok(a !== undefined && b !== undefined);
  store.unlinkBlob(a, digest);
  assert.equal((await readFile(store.path(digest))).toString(), 'shared');
  store.delete(b);
  assert.deepEqual(await readdir(join(folder, SHA256)), []);
  await store.close();
});

test('an upload to a repository that was deleted meanwhile fails, and leaves nothing', async () => {
  const store = await openRegistryStore(folder);
  const r = store.create('app', 0);
  const upload = store.beginUpload(r);
  await upload.append(bytesOf('late'));
  store.delete(r);
  await assert.rejects(store.finishUpload(r, upload, digestOf(Buffer.from('late'))), { code: 'NOT_FOUND' });
  assert.deepEqual(await readdir(join(folder, 'uploads')), []);
  assert.deepEqual(await readdir(join(folder, SHA256)), []);
  await store.close();
  await (await openRegistryStore(folder)).close();
});

test('nothing is recorded for a repository that was deleted', async () => {
  const store = await openRegistryStore(folder);
  const r = store.create('app', 0);
  store.delete(r);
  assert.throws(() => store.linkBlob(r, digestOf(Buffer.from('blob')), 4), { code: 'NOT_FOUND' });
  assert.throws(() => store.configure(r, { scanOnPush: true }), { code: 'NOT_FOUND' });
  await store.close();
  const again = await openRegistryStore(folder);
  assert.equal(again.repositories.size, 0);
  await again.close();
});

async function addBlob(store: RegistryStore, repository: string, text: string): Promise<Digest> {
  const r = store.repositories.get(repository) ?? store.create(repository, 0);
  const digest = digestOf(Buffer.from(text));
  const upload = store.beginUpload(r);
  await upload.append(bytesOf(text));
  assert.ok(await store.finishUpload(r, upload, digest));
  return digest;
}

async function* bytesOf(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}
