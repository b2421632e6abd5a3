import {
  ListObjectVersionsCommand,
  PutBucketVersioningCommand,
  type DeleteObjectsCommandInput,
} from '@aws-sdk/client-s3';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { S3Quirk } from '../../../local/s3/quirks.ts';
import type { DeletableStore, Doomed } from '../../../worker/objects/deletable.ts';
import { openFiles } from '../../../worker/objects/files/store.ts';
import type { ObjectStore } from '../../../worker/objects/objects.ts';
import { openS3 } from '../../../worker/objects/s3/store.ts';
import { fakeClock } from '../../support/clock.ts';
import { BUCKET, openS3 as openServer, type OpenS3 } from '../../support/local-s3.ts';

interface Place {
  readonly store: ObjectStore & DeletableStore;
  readonly server?: OpenS3;
}

async function files(): Promise<Place> {
  const folder = await mkdtemp(join(tmpdir(), 'transship-delete-'));
  onTestFinished(async () => rm(folder, { recursive: true, force: true }));
  return { store: openFiles(folder) };
}

async function s3(...quirks: readonly S3Quirk[]): Promise<Place> {
  const server = await openServer({ quirks, undeletable: ['locked/'] });
  onTestFinished(async () => server[Symbol.asyncDispose]());
  return { store: openS3({ bucket: BUCKET, client: server.client, clock: fakeClock() }), server };
}

const PLACES: readonly (readonly [string, () => Promise<Place>])[] = [
  ['a folder', files],
  ['S3', async () => s3()],
  ['an S3 that ignores conditions', async () => s3('ignores-conditions')],
  ['an S3 that refuses conditions', async () => s3('refuses-conditions')],
  ['an S3 that refuses checksums', async () => s3('refuses-checksums')],
];

const bytes = (text: string): Uint8Array => Buffer.from(text);

async function listed(store: ObjectStore): Promise<readonly Doomed[]> {
  return Array.fromAsync(store.list(''), ({ key, etag }) => ({ key, etag }));
}

describe.each(PLACES)('deleting from %s', (name, open) => {
  test('deletes objects that are as listed, and leaves those that were written since', async () => {
    const { store } = await open();
    const keys = ['a/1.tar', 'a/2.tar', 'b.tar', 'ü & <b>.tar'];
    for (const key of keys) await store.write(key, bytes(key));
    const doomed = await listed(store);
    await store.write('a/2.tar', bytes('newer'));
    const notDeleted = await store.remove([...doomed, { key: 'gone.tar', etag: '"0"' }]);
    expect(notDeleted.map(({ key, failure }) => [key, failure.code])).toEqual([['a/2.tar', 'CONFLICT']]);
    expect(notDeleted[0]?.failure.message).toMatch(/a\/2\.tar: it was written again in the meantime, so it stays$/);
    expect((await listed(store)).map(({ key }) => key)).toEqual(['a/2.tar']);
    expect(await store.remove(doomed.filter(({ key }) => key !== 'a/2.tar')), name).toEqual([]);
  });
});

describe('deleting from S3', () => {
  test('reports what is locked or denied, and deletes the others of the same request', async () => {
    const { store, server } = await s3();
    for (const key of ['locked/1.tar', 'open/1.tar', 'open/2.tar']) await store.write(key, bytes(key));
    const notDeleted = await store.remove(await listed(store));
    expect(notDeleted.map(({ key, failure }) => [key, failure.code])).toEqual([['locked/1.tar', 'DENIED']]);
    expect(notDeleted[0]?.failure.message).toContain('it is locked (object lock, legal hold), or s3:DeleteObject');
    expect((await listed(store)).map(({ key }) => key)).toEqual(['locked/1.tar']);
    expect(server?.s3.requests.filter(({ operation }) => operation === 'DeleteObjects')).toHaveLength(1);
  });

  test('sends a request for each thousand, and keeps the versions of a bucket that has them', async () => {
    const { store, server } = await s3();
    if (server === undefined) throw new Error('no server');
    await server.client.send(
      new PutBucketVersioningCommand({ Bucket: BUCKET, VersioningConfiguration: { Status: 'Enabled' } }),
    );
    await store.write('kept/1.tar', bytes('x'));
    const gone = Array.from({ length: 1000 }, (_, at) => ({ key: `gone/${at}.tar`, etag: '"0"' }));
    expect(await store.remove([...gone, ...(await listed(store))])).toEqual([]);
    expect(await listed(store)).toEqual([]);
    expect(server.s3.requests.filter(({ operation }) => operation === 'DeleteObjects')).toHaveLength(2);
    const { DeleteMarkers = [], Versions = [] } = await server.client.send(
      new ListObjectVersionsCommand({ Bucket: BUCKET, MaxKeys: 10 }),
    );
    expect([DeleteMarkers.length > 0, Versions.length > 0]).toEqual([true, true]);
  });

  test('retries, after a wait, what S3 was too busy to delete, three times at most', async () => {
    const { client, ...server } = await openServer({});
    onTestFinished(async () => server[Symbol.asyncDispose]());
    const clock = fakeClock();
    const store = openS3({ bucket: BUCKET, client, clock });
    const asked: (readonly [number, number])[] = [];
    client.middlewareStack.add((next, { commandName }) => async (args) => {
      if (commandName !== 'DeleteObjectsCommand') return next(args);
      const { Delete } = args.input as DeleteObjectsCommandInput;
      const keys = Delete?.Objects?.map(({ Key }) => Key) ?? [];
      asked.push([clock.now(), keys.length]);
      const Errors = keys.filter((key) => key === 'busy').map((Key) => ({ Key, Code: 'SlowDown' }));
      return { response: {}, output: { $metadata: {}, Errors } };
    });
    const notDeleted = await store.remove(['busy', 'other'].map((key) => ({ key, etag: '"0"' })));
    expect(notDeleted.map(({ key, failure }) => [key, failure.code])).toEqual([['busy', 'THROTTLED']]);
    expect(asked.map(([, count]) => count)).toEqual([2, 1, 1]);
    expect(new Set(asked.map(([at]) => at)).size).toBe(3);
  });

  test('deletes keys that XML cannot carry', async () => {
    const { store } = await s3();
    await store.write('bell\u0007.tar', bytes('x'));
    expect(await store.remove([{ key: 'bell\u0007.tar', etag: (await store.stat('bell\u0007.tar')).etag }])).toEqual(
      [],
    );
    await expect(store.stat('bell\u0007.tar')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
