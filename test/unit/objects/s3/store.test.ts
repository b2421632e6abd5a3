import {
  AbortMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  UploadPartCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { createServer } from 'node:net';
import { inspect } from 'node:util';
import { crc32 } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { S3Operation } from '../../../../local/s3/operations.ts';
import { atVersion } from '../../../../worker/objects/at-version.ts';
import type { ObjectStore, Upload, UploadOptions } from '../../../../worker/objects/objects.ts';
import { openS3, type S3StoreOptions } from '../../../../worker/objects/s3/store.ts';
import type { Failure } from '../../../../worker/util/failure.ts';
import type { Event } from '../../../../worker/util/events.ts';
import { fakeClock, type FakeClock } from '../../../support/clock.ts';
import { chunked, collect } from '../../../support/chunks.ts';
import { eventually } from '../../../support/eventually.ts';
import { crashing } from '../../../support/faulty-objects.ts';
import { seededBytes } from '../../../support/images.ts';
import { BUCKET, clientOf, openS3 as openServer, type OpenS3 } from '../../../support/local-s3.ts';
import { objectStoreSuite } from '../../../contracts/objects.ts';

const PART = 1000;
const MIB = 1024 * 1024;

objectStoreSuite('a bucket', async () => {
  const server = await openServer({ minPartBytes: PART });
  const events: Event[] = [];
  const open = (): ObjectStore =>
    openS3({ bucket: BUCKET, client: server.client, minPartBytes: PART, report: (event) => events.push(event) });
  return {
    store: open(),
    reopen: open,
    remove: async (key) => void (await server.client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: key }))),
    partSize: PART,
    keepsMetadata: true,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      // no test of the contract may need a retry
      expect(events).toEqual([]);
    },
  };
});

describe('a bucket', () => {
  const content = seededBytes('s3', 4500);
  let server: OpenS3;
  let client: S3Client;
  let clock: FakeClock;
  let events: Event[];
  let store: ObjectStore;

  beforeEach(async () => {
    server = await openServer({ minPartBytes: PART });
    ({ client } = server);
    clock = fakeClock();
    events = [];
    store = open();
  });
  afterEach(async () => {
    expect(server.s3.faults.pending).toBe(0);
    await server[Symbol.asyncDispose]();
  });

  const open = (o: Partial<S3StoreOptions> = {}): ReturnType<typeof openS3> =>
    openS3({ bucket: BUCKET, client, minPartBytes: PART, clock, report: (event) => events.push(event), ...o });
  const begin = async (o: Partial<UploadOptions> = {}, of = store): Promise<Upload> =>
    of.upload('a.tar', content.byteLength, { fingerprint: 'sha256:f', partSize: PART, ...o });
  const bytesOf = (n: number): Uint8Array => content.subarray((n - 1) * PART, n * PART);
  const sendMissing = async (upload: Upload): Promise<number[]> => {
    const missing = [1, 2, 3, 4, 5].filter((n) => !upload.done.has(n));
    for (const n of missing) await upload.part(n, bytesOf(n));
    return missing;
  };
  const readBack = async (key = 'a.tar'): Promise<Buffer> => collect(await store.read(key));
  test('returns the version that it wrote where the bucket keeps versions, by one request or in parts', async () => {
    expect((await store.write('plain', content)).version).toBe(undefined);
    await client.send(
      new PutBucketVersioningCommand({ Bucket: BUCKET, VersioningConfiguration: { Status: 'Enabled' } }),
    );
    const upload = await begin();
    await sendMissing(upload);
    const [first, second] = [await store.write('b', content), await upload.commit()];
    expect(first.version).toMatch(/./);
    expect(second.version).toMatch(/./);
    expect(second.version).not.toBe(first.version);
    expect((await store.stat('b')).version).toBe(first.version);
    expect((await store.stat('a.tar')).version).toBe(second.version);
  });

  test('reads the requested version, even if the object was written again or deleted', async () => {
    await client.send(
      new PutBucketVersioningCommand({ Bucket: BUCKET, VersioningConfiguration: { Status: 'Enabled' } }),
    );
    const { version } = await store.write('a', Buffer.from('first'));
    await store.write('a', Buffer.from('second one'));
    await client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: 'a' }));
    const old = atVersion(store, version ?? '');
    expect(await old.stat('a')).toMatchObject({ size: 5, version });
    expect((await collect(await old.read('a'))).toString()).toBe('first');
    expect((await collect(await old.read('a', { offset: 1, length: 2 }))).toString()).toBe('ir');
    expect(await collect(await old.read('a', { offset: 5 }))).toHaveLength(0);
    expect(old.describe('a')).toContain(version);
    await client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: 'a', VersionId: version }));
    const gone = { code: 'NOT_FOUND', message: expect.stringContaining('that version of it was deleted') };
    await expect(store.read('a', { version })).rejects.toMatchObject(gone);
    await expect(store.stat('a', { version })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  const operations = (): (S3Operation | undefined)[] => server.s3.requests.slice(1).map((r) => r.operation);
  const count = (operation: S3Operation): number => operations().filter((name) => name === operation).length;
  const retries = (): number => events.filter((event) => event.type === 'retry').length;
  const warnings = (): string[] => events.flatMap((event) => (event.type === 'warning' ? [event.message] : []));
  const unfinishedIds = async (): Promise<string[]> => {
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: BUCKET }));
    return Uploads.map((upload) => upload.UploadId ?? '');
  };
  /** From now on the server answers lists in pages of two. */
  const shortPages = (): void =>
    client.middlewareStack.add(
      (next) => async (args) => next({ ...args, input: { ...args.input, MaxKeys: 2, MaxUploads: 2, MaxParts: 2 } }),
      { step: 'initialize', name: 'shortPages' },
    );
  /** An unfinished upload as another program creates it. */
  const foreign = async (key: string, parts: Readonly<Record<number, Uint8Array>>): Promise<string> => {
    const object = { Bucket: BUCKET, Key: key };
    const crc = { ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT' } as const;
    const { UploadId } = await client.send(new CreateMultipartUploadCommand({ ...object, ...crc }));
    for (const [n, Body] of Object.entries(parts))
      await client.send(
        new UploadPartCommand({ ...object, UploadId, PartNumber: Number(n), Body, ChecksumAlgorithm: 'CRC32' }),
      );
    return UploadId ?? '';
  };

  describe('requests', () => {
    test('an upload costs one list, one begin, one marker, its parts and one end', async () => {
      const upload = await begin();
      await sendMissing(upload);
      await upload.commit();
      expect(operations()).toEqual([
        'ListMultipartUploads',
        'CreateMultipartUpload',
        ...Array.from({ length: 6 }, () => 'UploadPart'),
        'CompleteMultipartUpload',
      ]);
    });

    test('resuming an upload costs one list and two looks at its parts', async () => {
      await sendMissing(await begin());
      const before = operations().length;
      await (await begin({}, open())).commit();
      expect(operations().slice(before)).toEqual([
        'ListMultipartUploads',
        'ListParts',
        'ListParts',
        'CompleteMultipartUpload',
      ]);
    });

    test('bodies are sent unsigned and with our CRC-32 only; everything else is signed', async () => {
      const sent: Record<string, string>[] = [];
      client.middlewareStack.add(
        (next) => async (args) => {
          sent.push({ ...(args.request as { headers: Record<string, string> }).headers });
          return next(args);
        },
        { step: 'finalizeRequest', priority: 'low', name: 'spy' },
      );
      const upload = await begin();
      await upload.part(1, bytesOf(1));
      await store.write('small', content);
      const bodies = sent.filter((headers) => headers['content-length'] !== undefined);
      expect(bodies).toHaveLength(3);
      for (const headers of bodies) {
        expect(headers).toMatchObject({ 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' });
        expect(headers['authorization']).toContain('x-amz-checksum-crc32');
        expect(headers).not.toHaveProperty('expect');
        expect(Object.keys(headers).filter((name) => /trailer|sdk-checksum/u.test(name))).toEqual([]);
      }
      const value = Buffer.alloc(4);
      value.writeUInt32BE(crc32(content));
      expect(bodies[2]?.['x-amz-checksum-crc32']).toBe(value.toString('base64'));
    });

    test('the object carries the CRC-32 of the whole, its metadata, type and storage class', async () => {
      const special = open({ storageClass: 'STANDARD_IA', expectedBucketOwner: '000000000000' });
      const upload = await begin({ metadata: { a: 'b' }, contentType: 'application/x-tar' }, special);
      await sendMissing(upload);
      await upload.commit();
      await special.write('small', content, { contentType: 'text/plain' });
      const value = Buffer.alloc(4);
      value.writeUInt32BE(crc32(content));
      const head = { Bucket: BUCKET, ChecksumMode: 'ENABLED' } as const;
      expect(await client.send(new HeadObjectCommand({ ...head, Key: 'a.tar' }))).toMatchObject({
        ChecksumCRC32: value.toString('base64'),
        ChecksumType: 'FULL_OBJECT',
        Metadata: { a: 'b', 'transship-fingerprint': 'sha256:f' },
        ContentType: 'application/x-tar',
        StorageClass: 'STANDARD_IA',
      });
      expect(await client.send(new HeadObjectCommand({ ...head, Key: 'small' }))).toMatchObject({
        ChecksumCRC32: value.toString('base64'),
        ContentType: 'text/plain',
        StorageClass: 'STANDARD_IA',
      });
    });

    test('a KMS key is requested by every call that creates an object', async () => {
      const asked: unknown[] = [];
      await using withKeys = await openServer({ minPartBytes: PART, kmsKeys: ['alias/backup'] });
      withKeys.client.middlewareStack.add(
        (next) => async (args) => {
          const { headers } = args.request as { headers: Record<string, string> };
          asked.push([headers['x-amz-server-side-encryption'], headers['x-amz-server-side-encryption-aws-kms-key-id']]);
          return next(args);
        },
        { step: 'build', name: 'spy' },
      );
      const encrypted = open({ client: withKeys.client, kmsKeyId: 'alias/backup' });
      await encrypted.write('k', content);
      await begin({}, encrypted);
      const wanted = ['aws:kms', 'alias/backup'];
      const none = [undefined, undefined];
      // the list of uploads and the marker request no key
      expect(asked).toEqual([wanted, none, wanted, none]);
    });

    test.each([
      ['name', { Upper: 'x' }],
      ['value', { name: 'ümläut' }],
      ['line break', { name: 'a\r\nb' }],
    ])('metadata that a header cannot carry is INVALID before anything is sent: %s', async (_, metadata) => {
      await expect(store.write('k', content, { metadata })).rejects.toMatchObject({ code: 'INVALID' });
      await expect(begin({ metadata })).rejects.toMatchObject({ code: 'INVALID' });
      expect(count('PutObject') + count('CreateMultipartUpload')).toBe(0);
    });

    test('lists of more than a page are complete', async () => {
      const keys = ['l/0', 'l/1', 'l/2', 'l/3', 'l/4'];
      for (const key of keys) await store.write(key, content.subarray(0, 1));
      shortPages();
      expect((await Array.fromAsync(store.list('l/'))).map((info) => info.key)).toEqual(keys);
      expect(count('ListObjectsV2')).toBe(3);
    });
  });

  describe('resuming an upload', () => {
    test("leaves another program's upload of the same key, one with a wrong marker, and those of longer keys untouched", async () => {
      const others = [
        await foreign('a.tar', { 1: bytesOf(1) }),
        await foreign('a.tar', { 1: bytesOf(1), 10_000: Buffer.from('{"format":"transship-upload-1"}') }),
        await foreign('a.tar.sig', { 10_000: bytesOf(1) }),
        await foreign('a', { 2: bytesOf(2) }),
      ];
      const first = await begin();
      expect(first.done.size).toBe(0);
      await first.part(2, bytesOf(2));
      others.push(await foreign('a.tar', { 10_000: bytesOf(3) }));
      const again = await begin({}, open());
      expect(again.done).toEqual(new Map([[2, crc32(bytesOf(2))]]));
      expect(await sendMissing(again)).toEqual([1, 3, 4, 5]);
      await again.commit();
      expect(await readBack()).toEqual(content);
      expect((await unfinishedIds()).sort()).toEqual(others.sort());
    });

    test('a marker of the right length with other bytes is not ours', async () => {
      const upload = await begin();
      await upload.part(1, bytesOf(1));
      const [id = ''] = await unfinishedIds();
      const length = server.s3.requests.findLast((r) => r.operation === 'UploadPart' && r.receivedBytes !== PART);
      const marker = { Bucket: BUCKET, Key: 'a.tar', UploadId: id, PartNumber: 10_000 };
      const Body = Buffer.alloc(length?.receivedBytes ?? 0, 'x');
      await client.send(new UploadPartCommand({ ...marker, Body, ChecksumAlgorithm: 'CRC32' }));
      expect((await begin({}, open())).done.size).toBe(0);
      expect(await unfinishedIds()).toHaveLength(2);
    });

    test('a stored part of another length is sent again', async () => {
      const upload = await begin();
      await sendMissing(upload);
      const [UploadId] = await unfinishedIds();
      const object = { Bucket: BUCKET, Key: 'a.tar', UploadId, ChecksumAlgorithm: 'CRC32' } as const;
      await client.send(new UploadPartCommand({ ...object, PartNumber: 3, Body: bytesOf(3).subarray(1) }));
      await client.send(new UploadPartCommand({ ...object, PartNumber: 6, Body: bytesOf(3) }));
      const again = await begin({}, open());
      expect(await sendMissing(again)).toEqual([3]);
      await again.commit();
      expect(await readBack()).toEqual(content);
    });

    test('the later of two uploads with the right marker is resumed', async () => {
      server.s3.faults.add(
        { operation: 'ListMultipartUploads' },
        { kind: 'answer', status: 403, code: 'AccessDenied' },
      );
      const [older] = [await begin()];
      await older.part(1, bytesOf(1));
      server.s3.faults.add(
        { operation: 'ListMultipartUploads' },
        { kind: 'answer', status: 403, code: 'AccessDenied' },
      );
      const newer = await begin();
      await newer.part(2, bytesOf(2));
      expect([...(await begin({}, open())).done.keys()]).toEqual([2]);
    });

    test('more uploads and more parts than a page holds', async () => {
      const upload = await begin();
      await sendMissing(upload);
      for (let i = 0; i < 4; i++) await foreign('a.tar', {});
      for (let i = 0; i < 4; i++) await foreign('a.tar.sig', {});
      shortPages();
      const again = await begin({}, open());
      expect(again.done).toEqual(upload.done);
      // five of this key are on three pages, the others are not requested
      expect(count('ListMultipartUploads')).toBe(1 + 3);
      // the markers of five uploads, then six parts on three pages
      expect(count('ListParts')).toBe(5 + 3);
      await again.commit();
      expect(await readBack()).toEqual(content);
    });

    test.each([
      ['ListMultipartUploads', 's3:ListBucketMultipartUploads'],
      ['ListParts', 's3:ListMultipartUploadParts'],
    ] as const)(
      'without the permission for %s a warning names it and a new upload begins',
      async (operation, action) => {
        await sendMissing(await begin());
        server.s3.faults.add({ operation }, { kind: 'answer', status: 403, code: 'AccessDenied' });
        const upload = await begin({}, open());
        expect(upload.done.size).toBe(0);
        expect(warnings()).toEqual([expect.stringContaining(action)]);
        expect(warnings()[0]).toContain('begins anew');
        await sendMissing(upload);
        await upload.commit();
      },
    );

    test('ignores an upload that vanishes while it is looked at', async () => {
      await sendMissing(await begin());
      server.s3.faults.add({ operation: 'ListParts' }, { kind: 'answer', status: 404, code: 'NoSuchUpload' });
      expect((await begin({}, open())).done.size).toBe(0);
    });

    test('aborts other uploads of a key once the object exists under its condition: none of them could complete any more', async () => {
      const condition = { ifAbsent: true } as const;
      // killed before it had a marker; an older state of the tag; a lost answer; an upload of another program
      await foreign('a.tar', {});
      await (await begin({ fingerprint: 'sha256:older', condition })).part(1, bytesOf(1));
      const theirs = await foreign('a.tar', { 1: bytesOf(1) });
      const another = await foreign('a.tar.other', {});
      server.s3.faults.add({ operation: 'CreateMultipartUpload' }, { kind: 'lose-answer' });
      const upload = await begin({ condition });
      expect(await unfinishedIds()).toHaveLength(6);
      await sendMissing(upload);
      await upload.commit();
      expect((await unfinishedIds()).sort()).toEqual([theirs, another].sort());
    });

    test('leftovers that cannot be aborted, or found, do not fail a complete upload', async () => {
      for (const operation of ['ListMultipartUploads', 'AbortMultipartUpload'] as const) {
        const key = `${operation}.tar`;
        await foreign(key, {});
        const o = { fingerprint: 'sha256:f', partSize: PART, condition: { ifAbsent: true } } as const;
        const upload = await store.upload(key, content.byteLength, o);
        await sendMissing(upload);
        server.s3.faults.add({ operation }, { kind: 'answer', status: 403, code: 'AccessDenied' });
        expect((await upload.commit()).size).toBe(content.byteLength);
      }
      expect(warnings()).toHaveLength(2);
    });

    test('an upload whose marker cannot be stored is aborted', async () => {
      server.s3.faults.add({ operation: 'UploadPart' }, { kind: 'answer', status: 403, code: 'AccessDenied' });
      await expect(begin()).rejects.toMatchObject({ code: 'DENIED' });
      expect(await unfinishedIds()).toEqual([]);
    });

    test('killed at every write, begun again: the same bytes, no part sent twice', async () => {
      const backup = async (to: ObjectStore): Promise<void> => {
        const upload = await begin({ condition: { ifAbsent: true } }, to);
        await sendMissing(upload);
        await upload.commit();
      };
      const whole = crashing(store, Number.POSITIVE_INFINITY);
      await backup(whole.store);
      expect(whole.writes()).toBe(14);
      for (let point = 1; point <= whole.writes(); point++) {
        await client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: 'a.tar' }));
        const first = crashing(open(), point);
        await expect(backup(first.store)).rejects.toMatchObject({ name: 'Crash' });
        const second = crashing(open(), Number.POSITIVE_INFINITY);
        await backup(second.store);
        expect(await readBack()).toEqual(content);
        // killed right after the commit, this upload looks like a new one
        const twice = point === 14 ? 2 : 1;
        expect(first.bytesSent() + second.bytesSent()).toBe(content.byteLength * twice);
        expect(await unfinishedIds()).toEqual([]);
      }
      expect(retries()).toBe(0);
    });
  });

  describe('lost answers', () => {
    test.each([undefined, { ifAbsent: true }, 'ifMatch'] as const)(
      'the end of an upload, condition %o',
      async (how) => {
        const { etag } = how === 'ifMatch' ? await store.write('a.tar', Buffer.from('old')) : { etag: '' };
        const upload = await begin({ condition: how === 'ifMatch' ? { ifMatch: etag } : how });
        await sendMissing(upload);
        server.s3.faults.add({ operation: 'CompleteMultipartUpload' }, { kind: 'lose-answer' });
        expect(await upload.commit()).toMatchObject({ size: content.byteLength });
        expect(retries()).toBe(1);
        expect(await readBack()).toEqual(content);
      },
    );

    test('the end of an upload, in a process that begins again', async () => {
      const condition = { ifAbsent: true } as const;
      const upload = await begin({ condition });
      await sendMissing(upload);
      const { etag } = await upload.commit();
      const again = await begin({ condition }, open());
      await sendMissing(again);
      expect(await again.commit()).toMatchObject({ etag, size: content.byteLength });
      expect(await unfinishedIds()).toEqual([]);
    });

    test.each([{ ifAbsent: true }, 'ifMatch'] as const)('a small object with a condition: %o', async (how) => {
      const condition = how === 'ifMatch' ? { ifMatch: (await store.write('k', Buffer.from('old'))).etag } : how;
      server.s3.faults.add({ operation: 'PutObject' }, { kind: 'lose-answer' });
      const info = await store.write('k', content, { condition });
      expect(info).toMatchObject({ size: content.byteLength, etag: (await store.stat('k')).etag });
      expect(retries()).toBe(1);
    });

    test('a small object whose answer is lost, and which another process has replaced since, is CONFLICT', async () => {
      await store.write('k', Buffer.from('x'.repeat(4500)));
      server.s3.faults.add({ operation: 'PutObject' }, { kind: 'cut-request' });
      await expect(store.write('k', content, { condition: { ifAbsent: true } })).rejects.toMatchObject({
        code: 'CONFLICT',
      });
    });

    test.each([
      ['success', undefined],
      ['NoSuchUpload', { status: 404, code: 'NoSuchUpload' }],
      ['PreconditionFailed', { status: 412, code: 'PreconditionFailed' }],
    ])('a streamed body, when the second answer is %s', async (_, answer) => {
      const body = Buffer.alloc(9 * MIB, seededBytes('stream', 4093));
      server.s3.faults.add({ operation: 'CompleteMultipartUpload' }, { kind: 'lose-answer' });
      if (answer !== undefined)
        server.s3.faults.add({ operation: 'CompleteMultipartUpload', skip: 1 }, { kind: 'answer', ...answer });
      const info = await store.stream('s', chunked(body, 70_000), { condition: { ifAbsent: true } });
      expect(info.size).toBe(body.byteLength);
      expect(retries()).toBe(1);
      expect(crc32(await readBack('s'))).toBe(crc32(body));
    });

    test.each([
      { status: 404, code: 'NoSuchUpload' },
      { status: 412, code: 'PreconditionFailed' },
    ])('a streamed body that another process replaced before the second answer, $code, fails', async (answer) => {
      server.s3.faults.add({ operation: 'CompleteMultipartUpload' }, { kind: 'cut-request' });
      server.s3.faults.add({ operation: 'CompleteMultipartUpload', skip: 1 }, { kind: 'answer', ...answer });
      await store.write('s', content);
      const streaming = store.stream('s', chunked(Buffer.alloc(9 * MIB), MIB), { condition: { ifAbsent: true } });
      await expect(streaming).rejects.toMatchObject({ code: answer.status === 412 ? 'CONFLICT' : 'UNAVAILABLE' });
      expect(await readBack('s')).toEqual(content);
    });
  });

  describe('faults that are retried', () => {
    test.each([
      ['503 SlowDown', { status: 503, code: 'SlowDown' }, 'THROTTLED'],
      ['500 InternalError', { status: 500, code: 'InternalError' }, 'UNAVAILABLE'],
      ['400 RequestTimeout', { status: 400, code: 'RequestTimeout' }, 'UNAVAILABLE'],
      ['400 BadDigest', { status: 400, code: 'BadDigest' }, 'UNAVAILABLE'],
      ['403 RequestTimeTooSkewed', { status: 403, code: 'RequestTimeTooSkewed' }, 'UNAVAILABLE'],
    ] as const)('%s on a part', async (_, answer, code) => {
      const upload = await begin();
      server.s3.faults.add({ operation: 'UploadPart', times: 2 }, { kind: 'answer', ...answer });
      await upload.part(1, bytesOf(1));
      expect(events).toHaveLength(2);
      for (const event of events)
        expect(event).toMatchObject({ type: 'retry', code, what: `send part 1 of s3://${BUCKET}/a.tar` });
      expect(clock.sleeps).toHaveLength(2);
    });

    test.each(['CreateMultipartUpload', 'UploadPart', 'CompleteMultipartUpload', 'PutObject', 'GetObject'] as const)(
      '404 without a code of S3 on %s, which does not mean that the object does not exist',
      async (operation) => {
        const work = async (): Promise<void> => {
          await store.write('k', content);
          const upload = await begin();
          await sendMissing(upload);
          await upload.commit();
          await readBack();
        };
        server.s3.faults.add({ operation, times: 2 }, { kind: 'answer', status: 404, code: '' });
        await work();
        expect(retries()).toBe(2);
        for (const event of events) expect(event).toMatchObject({ type: 'retry', code: 'UNAVAILABLE' });
        server.s3.faults.add({ operation, times: Infinity }, { kind: 'answer', status: 404, code: '' });
        await expect(work()).rejects.toMatchObject({
          code: 'UNAVAILABLE',
          message: expect.stringMatching(/: the answer was HTTP 404, without an error code of S3$/) as string,
        });
        server.s3.faults.clear();
      },
    );

    test('not a 404 with the code NotFound, or one on HeadObject, whose answers have no code', async () => {
      server.s3.faults.add({ operation: 'GetObject' }, { kind: 'answer', status: 404, code: 'NotFound' });
      await expect(readBack()).rejects.toMatchObject({ code: 'NOT_FOUND' });
      server.s3.faults.add({ operation: 'HeadObject' }, { kind: 'answer', status: 404, code: '' });
      await expect(store.stat('k')).rejects.toMatchObject({
        code: 'NOT_FOUND',
        message: expect.stringMatching(/: there is no such object$/) as string,
      });
      expect(retries()).toBe(0);
    });

    test('a connection that breaks in the middle of a part, and before its answer', async () => {
      const upload = await begin();
      server.s3.faults.add({ operation: 'UploadPart' }, { kind: 'cut-request', afterBytes: 400 });
      server.s3.faults.add({ operation: 'UploadPart', skip: 1 }, { kind: 'lose-answer' });
      await sendMissing(upload);
      await upload.commit();
      expect(retries()).toBe(2);
      expect(await readBack()).toEqual(content);
    });

    test('the wait that S3 asks for is respected', async () => {
      server.s3.faults.add(
        { operation: 'GetObject' },
        { kind: 'answer', status: 503, code: 'SlowDown', retryAfterSeconds: 7 },
      );
      await store.write('k', content);
      await collect(await store.read('k'));
      expect(clock.sleeps).toEqual([7000]);
    });

    test('an error inside the success of Complete', async () => {
      const upload = await begin();
      await sendMissing(upload);
      server.s3.faults.add(
        { operation: 'CompleteMultipartUpload' },
        { kind: 'answer', status: 200, code: 'InternalError' },
      );
      await upload.commit();
      expect(retries()).toBe(1);
      expect(await readBack()).toEqual(content);
    });

    test('an answer that is cut', async () => {
      for (const key of ['a', 'b', 'c']) await store.write(key, content);
      server.s3.faults.add({ operation: 'ListObjectsV2' }, { kind: 'cut-answer', afterBytes: 100 });
      expect((await Array.fromAsync(store.list(''))).map((info) => info.key)).toEqual(['a', 'b', 'c']);
    });

    test('six attempts at most: then the failure is thrown, and the upload can be resumed', async () => {
      const upload = await begin();
      await sendMissing(upload);
      server.s3.faults.add(
        { operation: 'CompleteMultipartUpload', times: 6 },
        { kind: 'answer', status: 200, code: 'InternalError' },
      );
      await expect(upload.commit()).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        message: expect.stringContaining(`finish the upload of s3://${BUCKET}/a.tar`),
      });
      const again = await begin({}, open());
      expect(await sendMissing(again)).toEqual([]);
      await again.commit();
      expect(await readBack()).toEqual(content);
    });

    test('a host without a listener', async () => {
      const port = await freePort();
      const nobody = clientOf({
        ...server.s3,
        endpoint: `http://127.0.0.1:${port}`,
        region: 'us-east-1',
        credentials: server.s3.credentials,
      });
      await expect(open({ client: nobody }).stat('k')).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        message: `look at s3://${BUCKET}/k: 127.0.0.1:${port} refused the connection`,
      });
      expect(retries()).toBe(5);
      nobody.destroy();
    });

    test('a signal ends the wait between two attempts', async () => {
      const stop = new AbortController();
      const impatient = open({ clock: fakeClock({ onSleep: () => stop.abort() }) });
      server.s3.faults.add({ operation: 'HeadObject' }, { kind: 'answer' });
      await expect(impatient.stat('k', { signal: stop.signal })).rejects.toMatchObject({ code: 'ABORTED' });
    });

    test('a signal ends a request that hangs', async () => {
      const upload = await begin();
      const stop = new AbortController();
      server.s3.faults.add({ operation: 'UploadPart' }, { kind: 'delay', ms: 60_000 });
      const sending = upload.part(1, bytesOf(1), { signal: stop.signal });
      await eventually(() => expect(server.s3.faults.pending).toBe(0));
      stop.abort();
      await expect(sending).rejects.toMatchObject({ code: 'ABORTED' });
      expect(upload.done.size).toBe(0);
    });
  });

  describe('commit', () => {
    test('lets one of several uploads with different contents and ifAbsent win; the others are CONFLICT, nothing mixes', async () => {
      const uploads = await Promise.all(
        Array.from({ length: 5 }, async (_, i) => {
          const body = Buffer.alloc(2500, `content ${i} `);
          const upload = await open().upload('c', 2500, {
            fingerprint: `f${i}`,
            partSize: PART,
            condition: { ifAbsent: true },
          });
          for (const n of [1, 2, 3]) await upload.part(n, body.subarray((n - 1) * PART, n * PART));
          return { upload, body };
        }),
      );
      const results = await Promise.allSettled(uploads.map(async ({ upload }) => upload.commit()));
      const won = uploads.filter((_, i) => results[i]?.status === 'fulfilled');
      expect(won).toHaveLength(1);
      expect(await readBack('c')).toEqual(won[0]?.body);
      for (const result of results)
        if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'CONFLICT' });
    });

    test('aborts this upload after a concurrent change, and the next one begins anew', async () => {
      const upload = await begin({ condition: { ifAbsent: true } });
      await sendMissing(upload);
      server.s3.faults.add(
        { operation: 'CompleteMultipartUpload' },
        { kind: 'answer', status: 409, code: 'ConditionalRequestConflict' },
      );
      await expect(upload.commit()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      expect(count('CompleteMultipartUpload')).toBe(1);
      expect(await unfinishedIds()).toEqual([]);
      expect((await begin()).done.size).toBe(0);
    });

    test('fails for an upload that another program aborted, with the advice to start again', async () => {
      const upload = await begin();
      await sendMissing(upload);
      const [UploadId] = await unfinishedIds();
      await client.send(new AbortMultipartUploadCommand({ Bucket: BUCKET, Key: 'a.tar', UploadId }));
      const gone = { code: 'UNAVAILABLE', message: expect.stringContaining('start the upload again') };
      await expect(upload.part(1, bytesOf(1))).rejects.toMatchObject(gone);
      await expect(upload.part(1, bytesOf(1))).rejects.toMatchObject(gone);
      const fresh = await begin();
      await sendMissing(fresh);
      await fresh.commit();
      await expect(upload.part(2, bytesOf(2))).resolves.toBeUndefined();
    });

    test('looks up a part that another process sent again under a new etag', async () => {
      const upload = await begin();
      await sendMissing(upload);
      server.s3.faults.add(
        { operation: 'CompleteMultipartUpload' },
        { kind: 'answer', status: 400, code: 'InvalidPart' },
      );
      await upload.commit();
      expect(await readBack()).toEqual(content);
    });

    test('a part with other bytes is CORRUPT, and is sent again', async () => {
      const upload = await begin();
      await sendMissing(upload);
      const [UploadId] = await unfinishedIds();
      const object = { Bucket: BUCKET, Key: 'a.tar', UploadId, PartNumber: 2, ChecksumAlgorithm: 'CRC32' } as const;
      await client.send(new UploadPartCommand({ ...object, Body: Buffer.alloc(PART, 'evil') }));
      await expect(upload.commit()).rejects.toMatchObject({ code: 'CORRUPT' });
      expect(await sendMissing(upload)).toEqual([2]);
      await upload.commit();
      expect(await readBack()).toEqual(content);
    });

    test('a checksum that S3 refuses is CORRUPT at once', async () => {
      const upload = await begin();
      await sendMissing(upload);
      server.s3.faults.add(
        { operation: 'CompleteMultipartUpload' },
        { kind: 'answer', status: 400, code: 'BadDigest' },
      );
      await expect(upload.commit()).rejects.toMatchObject({ code: 'CORRUPT' });
      expect(retries()).toBe(0);
    });

    test('a foreign object in place of ours is CONFLICT even when the answer was lost', async () => {
      const upload = await begin({ condition: { ifAbsent: true } });
      await sendMissing(upload);
      await store.write('a.tar', content, { metadata: { 'transship-fingerprint': 'sha256:other' } });
      await expect(upload.commit()).rejects.toMatchObject({ code: 'CONFLICT' });
      expect(await unfinishedIds()).toHaveLength(1);
    });
  });

  describe('reading', () => {
    test.each([0, 1, 3000])('a body that breaks after %i bytes is UNAVAILABLE', async (bytes) => {
      await store.write('k', content);
      server.s3.faults.add({ operation: 'GetObject' }, { kind: 'cut-answer', afterBytes: bytes });
      const got: Uint8Array[] = [];
      const reading = (async () => {
        for await (const chunk of await store.read('k', { offset: 0, length: 4500 })) got.push(Uint8Array.from(chunk));
      })();
      await expect(reading).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        message: expect.stringContaining(`read s3://${BUCKET}/k`),
      });
      expect(Buffer.concat(got)).toEqual(content.subarray(0, Buffer.concat(got).byteLength));
    });

    test('names restoring when an object in Glacier must be restored first', async () => {
      const object = { Bucket: BUCKET, Key: 'cold', Body: content };
      await client.send(new PutObjectCommand({ ...object, StorageClass: 'GLACIER' }));
      await expect(store.read('cold')).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringContaining('restore the object first'),
      });
    });
  });

  describe('streams', () => {
    test('a body of less than a part is one small object', async () => {
      await store.stream('s', chunked(content, 7));
      expect(operations()).toEqual(['PutObject']);
    });

    test('a part that fails permanently ends the stream and leaves nothing', async () => {
      const body = (async function* () {
        for (let i = 0; i < 64; i++) yield Buffer.alloc(MIB);
      })();
      server.s3.faults.add({ operation: 'UploadPart', skip: 1 }, { kind: 'answer', status: 403, code: 'AccessDenied' });
      await expect(store.stream('s', body)).rejects.toMatchObject({ code: 'DENIED' });
      expect(await unfinishedIds()).toEqual([]);
      expect(count('UploadPart')).toBeLessThan(8);
    });

    test('warns of leftovers that cannot be aborted, and throws the first failure', async () => {
      server.s3.faults.add({ operation: 'UploadPart' }, { kind: 'answer', status: 403, code: 'AccessDenied' });
      server.s3.faults.add(
        { operation: 'AbortMultipartUpload' },
        { kind: 'answer', status: 403, code: 'AccessDenied' },
      );
      await expect(store.stream('s', chunked(Buffer.alloc(9 * MIB), MIB))).rejects.toMatchObject({ code: 'DENIED' });
      expect(warnings()).toEqual([expect.stringContaining('s3:AbortMultipartUpload')]);
    });
  });

  describe('refusals', () => {
    const calls: readonly [string, (of: ObjectStore) => Promise<unknown>][] = [
      ['stat', async (of) => of.stat('k')],
      ['read', async (of) => of.read('k')],
      ['write', async (of) => of.write('k', content)],
      ['list', async (of) => Array.fromAsync(of.list(''))],
      ['upload', async (of) => of.upload('k', 4500, { fingerprint: 'f', partSize: PART })],
      ['stream', async (of) => of.stream('k', chunked(Buffer.alloc(9 * MIB), MIB))],
    ];

    const failureOf = async (call: Promise<unknown>): Promise<Failure> =>
      call.then(
        () => expect.fail('it succeeded'),
        (error: unknown) => error as Failure,
      );

    test.each(calls)('wrong credentials: %s reports them and never shows them', async (_, call) => {
      const credentials = { accessKeyId: server.s3.credentials.accessKeyId, secretAccessKey: 'hunter2-hunter2' };
      const wrong = clientOf(server.s3, { credentials });
      const failure = await failureOf(call(open({ client: wrong })));
      expect(failure).toMatchObject({
        code: 'UNAUTHENTICATED',
        message: expect.stringContaining('credentials are wrong'),
      });
      expect(inspect(failure, { depth: 10 })).not.toMatch(/hunter2|Signature=|AWS4-HMAC|StringToSign/u);
      expect(warnings()).toEqual([]);
      wrong.destroy();
    });

    test.each([
      ['read', 'GetObject', 's3:GetObject'],
      ['write', 'PutObject', 's3:PutObject'],
      ['list', 'ListObjectsV2', 's3:ListBucket'],
      ['upload', 'CreateMultipartUpload', 's3:PutObject'],
      ['stream', 'CreateMultipartUpload', 's3:PutObject'],
    ] as const)('%s without permission names %s', async (name, operation, action) => {
      const call = calls.find(([other]) => other === name)?.[1] ?? expect.fail();
      server.s3.faults.add({ operation }, { kind: 'answer', status: 403, code: 'AccessDenied' });
      const failure = await failureOf(call(store));
      expect(failure).toMatchObject({ code: 'DENIED', message: expect.stringContaining(action) });
      expect(failure.message).toContain(`s3://${BUCKET}/`);
    });

    test('stat without permission finds the reason, which a HEAD does not have', async () => {
      server.s3.faults.add({ operation: 'HeadObject' }, { kind: 'answer', status: 400, code: 'ExpiredToken' });
      // the credentials are renewed once
      server.s3.faults.add({ operation: 'GetObject', times: 2 }, { kind: 'answer', status: 400, code: 'ExpiredToken' });
      await expect(store.stat('k')).rejects.toMatchObject({
        code: 'UNAUTHENTICATED',
        message: expect.stringContaining('have expired'),
      });
      server.s3.faults.add(
        { operation: 'HeadObject', times: 2 },
        { kind: 'answer', status: 403, code: 'AccessDenied' },
      );
      await store.write('k', content);
      await expect(store.stat('k')).rejects.toMatchObject({ code: 'DENIED' });
    });

    test('a HEAD that was refused once is repeated when the object can be read', async () => {
      await store.write('k', content);
      server.s3.faults.add({ operation: 'HeadObject' }, { kind: 'answer', status: 400, code: 'Strange' });
      await expect(store.stat('k')).resolves.toMatchObject({ size: content.byteLength });
    });

    test.each(calls.filter(([name]) => name !== 'stat'))('a bucket that does not exist: %s', async (_, call) => {
      const failure = await failureOf(call(open({ bucket: 'no-such-bucket' })));
      expect(failure).toMatchObject({
        code: 'NOT_FOUND',
        message: expect.stringContaining('no bucket no-such-bucket'),
      });
    });

    test("another account's bucket is DENIED", async () => {
      await expect(open({ expectedBucketOwner: '111111111111' }).write('k', content)).rejects.toMatchObject({
        code: 'DENIED',
      });
    });

    test('a client of another region learns the right one', async () => {
      const elsewhere = clientOf(server.s3, { region: 'eu-west-1' });
      const failure = await failureOf(open({ client: elsewhere }).read('k'));
      expect(failure).toMatchObject({ code: 'INVALID', message: expect.stringContaining('AWS_REGION') });
      expect(failure.message).toContain('us-east-1');
      elsewhere.destroy();
    });

    test('a redirect to another region is reported', async () => {
      server.s3.faults.add({ operation: 'GetObject' }, { kind: 'answer', status: 301, code: 'PermanentRedirect' });
      await expect(store.read('k')).rejects.toMatchObject({
        code: 'INVALID',
        message: expect.stringContaining('another region: set AWS_REGION'),
      });
    });

    test('an answer that is not of S3 is UNAVAILABLE for a status of the server, and never a BUG', async () => {
      server.s3.faults.add({ operation: 'GetObject' }, { kind: 'answer', status: 418, code: 'Teapot' });
      await expect(store.read('k')).rejects.toMatchObject({ code: 'INVALID' });
      server.s3.faults.add({ operation: 'GetObject', times: 6 }, { kind: 'answer', status: 599, code: 'Strange' });
      await expect(store.read('k')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    });
  });

  describe('the environment', () => {
    const variables = [
      'AWS_ENDPOINT_URL_S3',
      'AWS_REGION',
      'AWS_ACCESS_KEY_ID',
      'AWS_SECRET_ACCESS_KEY',
      'AWS_PROFILE',
    ];
    beforeEach(() => {
      for (const name of variables) vi.stubEnv(name, undefined);
      vi.stubEnv('AWS_CONFIG_FILE', '/dev/null');
      vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/dev/null');
      vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true');
    });
    afterEach(() => vi.unstubAllEnvs());
    const login = (): void => {
      vi.stubEnv('AWS_REGION', server.s3.region);
      vi.stubEnv('AWS_ACCESS_KEY_ID', server.s3.credentials.accessKeyId);
      vi.stubEnv('AWS_SECRET_ACCESS_KEY', server.s3.credentials.secretAccessKey);
    };

    test.each(['127.0.0.1', 'localhost'])('names endpoint, region and credentials: %s', async (host) => {
      login();
      vi.stubEnv('AWS_ENDPOINT_URL_S3', server.s3.endpoint.replace('127.0.0.1', host));
      await using own = open({ client: undefined });
      await own.write('k', content);
      const upload = await begin({}, own);
      await sendMissing(upload);
      await upload.commit();
      expect(await collect(await own.read('a.tar'))).toEqual(content);
      expect(retries()).toBe(0);
    });

    test('without a region', async () => {
      vi.stubEnv('AWS_ENDPOINT_URL_S3', server.s3.endpoint);
      await using own = open({ client: undefined });
      await expect(own.stat('k')).rejects.toMatchObject({
        code: 'UNAUTHENTICATED',
        message: expect.stringContaining('AWS_REGION'),
      });
    });

    test('without credentials', async () => {
      vi.stubEnv('AWS_ENDPOINT_URL_S3', server.s3.endpoint);
      vi.stubEnv('AWS_REGION', server.s3.region);
      await using own = open({ client: undefined });
      await expect(own.stat('k')).rejects.toMatchObject({
        code: 'UNAUTHENTICATED',
        message: expect.stringContaining('no AWS credentials'),
        context: { noCredentials: true },
      });
    });
  });
});

async function freePort(): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const listener = createServer();
  listener.listen(0, '127.0.0.1', () => {
    const address = listener.address();
    listener.close(() => resolve(typeof address === 'object' ? (address?.port ?? 0) : 0));
  });
  return promise;
}
