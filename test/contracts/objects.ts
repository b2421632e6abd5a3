import { crc32 } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Bytes } from '../../worker/content/content.ts';
import type { ObjectInfo, ObjectStore, Upload, UploadOptions } from '../../worker/objects/objects.ts';
import { Failure } from '../../worker/util/failure.ts';
import { chunked, collect, collectLate, lent, LENT_SIZES } from '../support/chunks.ts';
import { seededBytes } from '../support/images.ts';

interface StoreUnderTest extends AsyncDisposable {
  /** Empty. */
  readonly store: ObjectStore;
  /** The same objects through a new store, as another process sees them. */
  reopen(): ObjectStore;
  /** Removes an object as another program would: the store itself removes none. */
  remove(key: string): Promise<void>;
  /** The smallest part size that the store accepts. */
  readonly partSize: number;
  readonly keepsMetadata: boolean;
}

/** What every ObjectStore promises. `make` is called before each test. */
export function objectStoreSuite(name: string, make: () => Promise<StoreUnderTest>): void {
  describe(`${name} as an object store`, () => {
    let made: StoreUnderTest;
    let store: ObjectStore;
    let partSize: number;

    beforeEach(async () => {
      made = await make();
      ({ store, partSize } = made);
    });
    afterEach(async () => made[Symbol.asyncDispose]());

    const readAll = async (key: string): Promise<Buffer> => collect(await store.read(key));
    const keys = async (prefix: string): Promise<string[]> =>
      (await Array.fromAsync(store.list(prefix))).map((info) => info.key);
    const begin = async (key: string, content: Uint8Array, options: Partial<UploadOptions> = {}): Promise<Upload> =>
      store.upload(key, content.byteLength, { fingerprint: 'one', partSize, ...options });
    const send = async (upload: Upload, content: Uint8Array, ...parts: readonly number[]): Promise<void> => {
      await Promise.all(parts.map(async (n) => upload.part(n, partOf(upload, content, n))));
    };
    const sendMissing = async (upload: Upload, content: Uint8Array): Promise<number[]> => {
      const missing = allParts(upload).filter((n) => !upload.done.has(n));
      await send(upload, content, ...missing);
      return missing;
    };

    const uploaded = async (key: string, content: Uint8Array): Promise<ObjectInfo> => {
      const upload = await begin(key, content);
      await sendMissing(upload, content);
      return upload.commit();
    };

    describe('whole objects', () => {
      test('what is written is found by stat and read back', async () => {
        const body = seededBytes('whole', 3000);
        const written = await store.write('a/b.tar', body);
        expect(written).toMatchObject({ key: 'a/b.tar', size: 3000 });
        const found = await store.stat('a/b.tar');
        expect(found).toMatchObject({ key: 'a/b.tar', size: 3000, etag: written.etag });
        expect(found.modified).toBeInstanceOf(Date);
        expect(await readAll('a/b.tar')).toEqual(body);
      });

      test('an empty object is an object', async () => {
        await store.write('empty', new Uint8Array());
        expect((await store.stat('empty')).size).toBe(0);
        expect(await readAll('empty')).toHaveLength(0);
        expect(await collect(await store.read('empty', { offset: 0, length: 0 }))).toHaveLength(0);
      });

      test('a missing object is NOT_FOUND, and the message names it', async () => {
        const location = store.describe('a/none');
        const missing = { code: 'NOT_FOUND', message: expect.stringContaining(location), context: { location } };
        await expect(store.stat('a/none')).rejects.toMatchObject(missing);
        await expect(store.read('a/none')).rejects.toMatchObject(missing);
        await expect(store.read('a/none', { offset: 0, length: 0 })).rejects.toMatchObject(missing);
      });

      test('an object that another program removed is NOT_FOUND', async () => {
        await store.write('a/x', Buffer.from('x'));
        await made.remove('a/x');
        await expect(store.stat('a/x')).rejects.toMatchObject({ code: 'NOT_FOUND' });
      });

      test('new content has another etag', async () => {
        const before = await store.write('k', Buffer.from('same length 1'));
        const after = await store.write('k', Buffer.from('same length 2'));
        expect(after.etag).not.toBe(before.etag);
        expect((await readAll('k')).toString()).toBe('same length 2');
      });

      test('keys may contain unusual characters', async () => {
        const odd = [
          'a b+c%20.tar',
          'ümläut/名前/😀',
          "q?x=1&y='<z>",
          'a..b/...',
          'back\\slash',
          '~tilde*',
          'new\nline',
        ];
        for (const key of odd) await store.write(key, Buffer.from(key));
        for (const key of odd) expect((await readAll(key)).toString()).toBe(key);
        expect(new Set(await keys(''))).toEqual(new Set(odd));
        for (const key of odd) await made.remove(key);
        expect(await keys('')).toEqual([]);
      });

      test('metadata and the content type are returned where they are kept', async () => {
        const metadata = { 'transship-format': '1', source: 'registry.example/app:v1' };
        await store.write('m', Buffer.from('x'), { metadata, contentType: 'application/x-tar' });
        const there = await store.stat('m');
        expect(there.metadata).toEqual(made.keepsMetadata ? metadata : {});
        expect(there.contentType).toBe(made.keepsMetadata ? 'application/x-tar' : undefined);
      });

      test('an aborted signal stops every call before it begins', async () => {
        await store.write('there', Buffer.from('x'));
        const options = { signal: AbortSignal.abort() };
        const aborted = { code: 'ABORTED' };
        await expect(store.stat('there', options)).rejects.toMatchObject(aborted);
        await expect(store.read('there', options)).rejects.toMatchObject(aborted);
        await expect(store.write('new', Buffer.from('x'), options)).rejects.toMatchObject(aborted);
        await expect(store.stream('new', chunked(Buffer.from('x'), 1), options)).rejects.toMatchObject(aborted);
        await expect(store.upload('new', 5, { ...options, fingerprint: 'f' })).rejects.toMatchObject(aborted);
        await expect(Array.fromAsync(store.list('', options))).rejects.toMatchObject(aborted);
        expect(await keys('')).toEqual(['there']);
      });
    });

    describe('ranges', () => {
      const body = seededBytes('ranges', 5000);

      test.each([
        [0, 1],
        [0, 5000],
        [1, 511],
        [512, 513],
        [4999, 1],
        [4000, undefined],
        [0, undefined],
        [5000, undefined],
        [5000, 10],
        [100, 0],
        [4990, 100],
      ])('from %i, %s bytes', async (offset, length) => {
        await store.write('r', body);
        const got = await collect(await store.read('r', { offset, ...(length === undefined ? {} : { length }) }));
        expect(got).toEqual(body.subarray(offset, length === undefined ? undefined : offset + length));
      });

      test('a range that starts beyond the end is INVALID', async () => {
        await store.write('r', body);
        const context = { location: store.describe('r') };
        await expect(store.read('r', { offset: 5001 })).rejects.toMatchObject({ code: 'INVALID', context });
        await expect(store.read('r', { offset: 9000, length: 1 })).rejects.toMatchObject({ code: 'INVALID' });
      });

      test('many ranges can be read at once', async () => {
        await store.write('r', body);
        const pieces = await Promise.all(
          Array.from({ length: 50 }, async (_, i) => collect(await store.read('r', { offset: i * 100, length: 100 }))),
        );
        expect(Buffer.concat(pieces)).toEqual(body);
      });

      test('a read can be abandoned, and another begun', async () => {
        await store.write('r', seededBytes('long', 3_000_000));
        for (let i = 0; i < 5; i++) {
          for await (const chunk of await store.read('r')) {
            expect(chunk.byteLength).toBeGreaterThan(0);
            break;
          }
        }
      });

      test('a chunk stays unchanged until the next one is requested', async () => {
        const long = seededBytes('long', 3_000_000);
        await store.write('r', long);
        expect((await collectLate(await store.read('r'))).equals(long)).toBe(true);
      });

      test('a read stops with ABORTED when the signal aborts in the middle', async () => {
        await store.write('r', seededBytes('long', 8_000_000));
        const stop = new AbortController();
        const reading = (async () => {
          for await (const _ of await store.read('r', { signal: stop.signal })) stop.abort();
        })();
        await expect(reading).rejects.toMatchObject({ code: 'ABORTED' });
      });

      test('reading content that was replaced is CONFLICT', async () => {
        const { etag } = await store.write('r', body);
        expect(await collect(await store.read('r', { ifMatch: etag, offset: 10, length: 5 }))).toHaveLength(5);
        expect(await collect(await store.read('r', { ifMatch: etag, offset: 10, length: 0 }))).toHaveLength(0);
        await store.write('r', body.subarray(1));
        await expect(store.read('r', { ifMatch: etag })).rejects.toMatchObject({
          code: 'CONFLICT',
          context: { location: store.describe('r') },
        });
        await expect(store.read('r', { ifMatch: etag, offset: 1, length: 1 })).rejects.toMatchObject({
          code: 'CONFLICT',
        });
      });
    });

    describe('conditions', () => {
      const x = Buffer.from('x');

      test('ifAbsent leaves an existing object', async () => {
        await store.write('c', Buffer.from('first'), { condition: { ifAbsent: true } });
        await expect(store.write('c', x, { condition: { ifAbsent: true } })).rejects.toMatchObject({
          code: 'CONFLICT',
          message: expect.stringContaining(store.describe('c')),
        });
        await expect(store.stream('c', chunked(x, 1), { condition: { ifAbsent: true } })).rejects.toMatchObject({
          code: 'CONFLICT',
        });
        expect((await readAll('c')).toString()).toBe('first');
      });

      test('ifMatch replaces only the named version', async () => {
        const first = await store.write('c', Buffer.from('first'));
        const second = await store.write('c', Buffer.from('second'), { condition: { ifMatch: first.etag } });
        await expect(store.write('c', x, { condition: { ifMatch: first.etag } })).rejects.toMatchObject({
          code: 'CONFLICT',
        });
        await made.remove('c');
        await expect(store.write('c', x, { condition: { ifMatch: second.etag } })).rejects.toMatchObject({
          code: 'CONFLICT',
        });
        expect(await keys('')).toEqual([]);
      });

      test('one of ten writers with ifAbsent wins', async () => {
        const won = await race(10, async (i) => made.reopen().write('c', bodyOf(i), { condition: { ifAbsent: true } }));
        expect(won).toHaveLength(1);
        expect(await readAll('c')).toEqual(bodyOf(won[0]));
      });

      test('one of ten writers with ifMatch wins', async () => {
        const { etag } = await store.write('c', x);
        const won = await race(10, async (i) => made.reopen().write('c', bodyOf(i), { condition: { ifMatch: etag } }));
        expect(won).toHaveLength(1);
        expect(await readAll('c')).toEqual(bodyOf(won[0]));
      });

      test('one of six uploads of different contents with ifAbsent wins', async () => {
        const won = await race(6, async (index) => {
          const upload = await made.reopen().upload('c', 10, {
            fingerprint: String(index),
            partSize,
            condition: { ifAbsent: true },
          });
          await upload.part(1, bodyOf(index));
          return upload.commit();
        });
        expect(won).toHaveLength(1);
        expect(await readAll('c')).toEqual(bodyOf(won[0]));
      });

      const bodyOf = (i: number | undefined): Buffer => Buffer.from(`writer ${i}`.padEnd(10, '.'));
    });

    describe('lists', () => {
      test('keys are listed in the order of their bytes', async () => {
        const wanted = ['a', 'a-b', 'a.b', 'a/b', 'a/b/c', 'a0', 'ab', 'b/x', 'ﬀ', '😀'];
        // where a key cannot also be a folder
        const possible = wanted.filter((key) => key !== 'a' && key !== 'a/b');
        for (const key of possible.toReversed()) await store.write(key, Buffer.from('x'));
        expect(await keys('')).toEqual(possible);
      });

      test('a prefix need not end at a slash', async () => {
        for (const key of ['app/v1.tar', 'app/v2.tar', 'app/sub/v1.tar', 'apple', 'zoo'])
          await store.write(key, Buffer.from(key));
        expect(await keys('app')).toEqual(['app/sub/v1.tar', 'app/v1.tar', 'app/v2.tar', 'apple']);
        expect(await keys('app/')).toEqual(['app/sub/v1.tar', 'app/v1.tar', 'app/v2.tar']);
        expect(await keys('app/v')).toEqual(['app/v1.tar', 'app/v2.tar']);
        expect(await keys('app/v1.tar')).toEqual(['app/v1.tar']);
        expect(await keys('app/v1.tar/')).toEqual([]);
        expect(await keys('none/at/all')).toEqual([]);
      });

      test('lists what stat reports', async () => {
        const { etag } = await store.write('l/x', Buffer.from('12345'));
        const [info] = await Array.fromAsync(store.list('l/'));
        expect(info).toMatchObject({ key: 'l/x', size: 5, etag });
        // a header has whole seconds only
        const seconds = (date: Date | undefined): number => Math.floor((date?.getTime() ?? 0) / 1000);
        expect(seconds(info?.modified)).toBe(seconds((await store.stat('l/x')).modified));
      });
    });

    test('onSent receives every byte of a write, a stream and an upload', async () => {
      const body = Buffer.alloc(partSize * 2 + 7, seededBytes('sent', 9973));
      let sent = 0;
      const onSent = (bytes: number): void => void (sent += bytes);
      const sentBy = async (work: () => Promise<unknown>): Promise<number> => {
        sent = 0;
        await work();
        return sent;
      };
      expect(await sentBy(async () => store.write('w', body, { onSent }))).toBe(body.byteLength);
      expect(await sentBy(async () => store.stream('s', chunked(body, 65_537), { onSent }))).toBe(body.byteLength);
      const upload = await begin('u', body, { onSent });
      expect(sent).toBe(body.byteLength);
      expect(await sentBy(async () => send(upload, body, 1, 3))).toBe(partSize + 7);
      expect(await sentBy(async () => send(upload, body, 2, 3))).toBe(partSize + 7);
      expect(await sentBy(async () => upload.commit())).toBe(0);
    });

    test('bytes that were written, or sent as a part, may change afterwards', async () => {
      const body = seededBytes('reused', 2 * partSize);
      const written = Uint8Array.from(body);
      await store.write('w', written);
      written.fill(0xdb);
      const upload = await begin('u', body);
      const part = Buffer.alloc(partSize);
      for (const number of [1, 2]) {
        part.set(partOf(upload, body, number));
        await upload.part(number, part);
        part.fill(0xdb);
      }
      await upload.commit();
      for (const key of ['w', 'u']) expect((await readAll(key)).equals(body)).toBe(true);
    });

    describe('streams', () => {
      test.each([0, 1, 100_000])('a body of %i bytes', async (size) => {
        const body = seededBytes('stream', size);
        expect(await store.stream('s', chunked(body, 4096))).toMatchObject({ key: 's', size });
        expect(await readAll('s')).toEqual(body);
      });

      test.each(LENT_SIZES)('a body whose chunks of %i bytes are lent', async (size) => {
        const body = seededBytes('lent', size < 100 ? 3000 : 1_500_000);
        await store.stream('s', lent(chunked(body, size)));
        expect((await readAll('s')).equals(body)).toBe(true);
      });

      test('a body of many parts', async () => {
        const body = Buffer.alloc(30 * 1024 * 1024 + 17, seededBytes('block', 99_991));
        const written = await store.stream('s', lent(chunked(body, 65_537)), {
          metadata: { a: 'b' },
          condition: { ifAbsent: true },
        });
        expect(written).toMatchObject({ size: body.byteLength, etag: (await store.stat('s')).etag });
        expect(crc32(await readAll('s'))).toBe(crc32(body));
      });

      test.each([1000, 20 * 1024 * 1024])('a body that fails after %i bytes leaves nothing behind', async (bytes) => {
        const failure = new Failure('UNAVAILABLE', 'the source broke off');
        await expect(store.stream('s', brokenAfter(Buffer.alloc(bytes), failure))).rejects.toBe(failure);
        expect(await keys('')).toEqual([]);
      });

      test('a stream stops with ABORTED in the middle and leaves nothing behind', async () => {
        const stop = new AbortController();
        const body = (async function* () {
          for (let i = 0; i < 40; i++) {
            if (i === 30) stop.abort();
            yield Buffer.alloc(1024 * 1024);
          }
        })();
        await expect(store.stream('s', body, { signal: stop.signal })).rejects.toMatchObject({ code: 'ABORTED' });
        expect(await keys('')).toEqual([]);
      });
    });

    describe('uploads', () => {
      let content: Buffer;
      beforeEach(() => {
        content = Buffer.alloc(partSize * 5 + 7, seededBytes('upload', 9973));
      });

      test('parts are sent in any order and at once, and nothing is visible before commit', async () => {
        const upload = await begin('u/x.tar', content);
        expect(upload.partSize).toBe(partSize);
        expect(upload.parts).toBe(6);
        await send(upload, content, 6, 2, 4, 1, 3);
        await expect(store.stat('u/x.tar')).rejects.toMatchObject({ code: 'NOT_FOUND' });
        expect(await keys('')).toEqual([]);
        await send(upload, content, 5);
        const info = await upload.commit();
        expect(info).toMatchObject({ key: 'u/x.tar', size: content.byteLength });
        expect((await store.stat('u/x.tar')).etag).toBe(info.etag);
        expect(await readAll('u/x.tar')).toEqual(content);
        expect(await keys('')).toEqual(['u/x.tar']);
      });

      test('done grows with each part and has its CRC-32', async () => {
        const upload = await begin('u', content);
        expect(upload.done.size).toBe(0);
        await send(upload, content, 2, 6);
        expect(upload.done).toEqual(new Map([2, 6].map((n) => [n, crc32(partOf(upload, content, n))])));
      });

      test.each([
        ['one byte', 1],
        ['one part exactly', 0],
        ['one part and a byte', -1],
      ])('an upload of %s', async (_, what) => {
        const size = what === 1 ? 1 : partSize - what;
        const body = seededBytes('sizes', size);
        const upload = await begin('u', body);
        expect(upload.parts).toBe(what === -1 ? 2 : 1);
        await sendMissing(upload, body);
        await upload.commit();
        expect(await readAll('u')).toEqual(body);
      });

      test.each([0, -1, 1.5, Number.NaN, 60e12 * 1000])('a size of %d is INVALID', async (size) => {
        await expect(store.upload('u', size, { fingerprint: 'f' })).rejects.toMatchObject({ code: 'INVALID' });
      });

      test('a part that does not exist, or has another length, is a BUG', async () => {
        const upload = await begin('u', content);
        const whole = content.subarray(0, partSize);
        for (const n of [0, 7, 1.5]) await expect(upload.part(n, whole)).rejects.toMatchObject({ code: 'BUG' });
        await expect(upload.part(1, whole.subarray(1))).rejects.toMatchObject({ code: 'BUG' });
        await expect(upload.part(6, whole)).rejects.toMatchObject({ code: 'BUG' });
        expect(upload.done.size).toBe(0);
      });

      test('commit demands every part', async () => {
        const upload = await begin('u', content);
        await send(upload, content, 1, 2, 3, 4, 6);
        await expect(upload.commit()).rejects.toMatchObject({ code: 'BUG' });
        expect(await keys('')).toEqual([]);
        await send(upload, content, 5);
        await upload.commit();
        expect(await readAll('u')).toEqual(content);
      });

      test('a part can be replaced', async () => {
        const upload = await begin('u', content);
        await upload.part(2, Buffer.alloc(partSize, 'wrong'));
        await sendMissing(upload, content);
        await send(upload, content, 2);
        await upload.commit();
        expect(await readAll('u')).toEqual(content);
      });

      test('a part can be a copy of bytes of another object, where the store copies', async () => {
        const source = Buffer.concat([Buffer.alloc(3, 'x'), content]);
        const { etag } = await uploaded('s/a b+ü%.tar', source);
        const upload = await begin('u', content);
        if (upload.copyPart === undefined) return;
        const part = partOf(upload, content, 2);
        const from = { key: 's/a b+ü%.tar', etag, offset: 3 + partSize };
        expect(await upload.copyPart(2, part, from)).toBe(true);
        expect(upload.done).toEqual(new Map([[2, crc32(part)]]));
        // other bytes, an object that was replaced, and one that does not exist
        expect(await upload.copyPart(3, partOf(upload, content, 3), { ...from, offset: 5 })).toBe(false);
        expect(await upload.copyPart(4, partOf(upload, content, 4), { ...from, etag: '"other"' })).toBe(false);
        expect(await upload.copyPart(5, partOf(upload, content, 5), { ...from, key: 's/none' })).toBe(false);
        expect([...upload.done.keys()]).toEqual([2]);
        await expect(upload.copyPart(1, part.subarray(1), from)).rejects.toMatchObject({ code: 'BUG' });
        const signal = AbortSignal.abort(new Failure('ABORTED', 'stopped'));
        await expect(upload.copyPart(1, part, from, { signal })).rejects.toMatchObject({ code: 'ABORTED' });
        await sendMissing(upload, content);
        await upload.commit();
        expect(await readAll('u')).toEqual(content);
      });

      test('bytes written in place, in any order and across parts, become the object', async () => {
        const upload = await begin('u', content);
        if (upload.openInPlace === undefined) return;
        const all = allParts(upload);
        {
          await using file = await upload.openInPlace();
          expect([file.isPublished, file.isResumed]).toEqual([false, false]);
          for (const [from, to] of [
            [partSize - 5, content.byteLength],
            [0, partSize - 5],
          ] as const)
            await file.write(from, content.subarray(from, to));
          expect(upload.done.size).toBe(0);
          await expect(upload.commit()).rejects.toMatchObject({ code: 'BUG' });
          await file.keep(all.slice(0, 3));
          expect(await file.has(1, content.subarray(1, partSize + 1))).toBe(true);
          expect(await file.has(1, content.subarray(2, partSize + 2))).toBe(false);
          expect(await collect(file.read(partSize - 3, 2 * partSize))).toEqual(
            content.subarray(partSize - 3, 3 * partSize - 3),
          );
          for (const [offset, bytes] of [
            [-1, content],
            [1, content],
          ] as const)
            await expect(file.write(offset, bytes)).rejects.toMatchObject({ code: 'BUG' });
          const signal = AbortSignal.abort(new Failure('ABORTED', 'stopped'));
          await expect(file.write(0, content, { signal })).rejects.toMatchObject({ code: 'ABORTED' });
        }
        const again = await begin('u', content);
        expect(again.done).toEqual(new Map(all.slice(0, 3).map((n) => [n, undefined])));
        {
          await using file = (await again.openInPlace?.()) ?? expect.unreachable();
          expect(file.isResumed).toBe(true);
          file.forget([2]);
          expect([...again.done.keys()]).toEqual([1, 3]);
          // a part that is written again does not count until it is named again
          await file.write(0, content.subarray(0, 3));
          expect([...again.done.keys()]).toEqual([3]);
          await file.keep(all.filter((n) => !again.done.has(n)));
        }
        await again.commit();
        expect(await readAll('u')).toEqual(content);
        await using late = await upload.openInPlace();
        expect(late.isPublished).toBe(true);
        await late.write(0, Buffer.from('other'));
        expect(await readAll('u')).toEqual(content);
      });

      test("a part's bytes belong to the caller again after the call", async () => {
        const upload = await begin('u', content);
        const buffer = Buffer.alloc(partSize);
        for (const n of allParts(upload)) {
          const bytes = partOf(upload, content, n);
          buffer.set(bytes);
          await upload.part(n, buffer.subarray(0, bytes.byteLength));
          buffer.fill(0);
        }
        await upload.commit();
        expect(await readAll('u')).toEqual(content);
      });

      test.each([0, 1, 3, 5, 6])('%i of 6 parts stored: another process sends only the others', async (k) => {
        const first = await begin('u', content);
        await send(first, content, ...allParts(first).slice(6 - k));
        const again = await made.reopen().upload('u', content.byteLength, { fingerprint: 'one', partSize });
        expect(again.done).toEqual(first.done);
        expect(await sendMissing(again, content)).toHaveLength(6 - k);
        await again.commit();
        expect(await readAll('u')).toEqual(content);
      });

      test('only an upload of the same fingerprint, size and part size is resumed', async () => {
        await send(await begin('u', content), content, 1, 2);
        const others = [
          await begin('u', content, { fingerprint: 'two' }),
          await begin('u', content.subarray(1)),
          await begin('u', content, { partSize: partSize * 2 }),
          await begin('u2', content),
          await begin('u/deeper'.replace('/', '-'), content),
        ];
        for (const other of others) expect(other.done.size).toBe(0);
        expect((await begin('u', content)).done.size).toBe(2);
      });

      test('two uploads of the same key do not disturb each other', async () => {
        const other = Buffer.alloc(content.byteLength, 'other');
        const [one, two] = [await begin('u', content), await begin('u', other, { fingerprint: 'two' })];
        await Promise.all([sendMissing(one, content), sendMissing(two, other)]);
        await one.commit();
        expect(await readAll('u')).toEqual(content);
        await two.commit();
        expect(await readAll('u')).toEqual(other);
      });

      test('two processes with the same upload both succeed', async () => {
        const one = await begin('u', content);
        const two = await made.reopen().upload('u', content.byteLength, { fingerprint: 'one', partSize });
        await Promise.all([sendMissing(one, content), sendMissing(two, content)]);
        const infos = await Promise.all([one.commit(), two.commit()]);
        expect(infos.map((info) => info.size)).toEqual([content.byteLength, content.byteLength]);
        expect(await readAll('u')).toEqual(content);
      });

      test('a process that is slower than another with the same upload finds it done', async () => {
        const condition = { ifAbsent: true } as const;
        const slow = await begin('u', content, { condition });
        await send(slow, content, 1);
        const fast = await made.reopen().upload('u', content.byteLength, { fingerprint: 'one', partSize, condition });
        await sendMissing(fast, content);
        const info = await fast.commit();
        await sendMissing(slow, content);
        expect(await slow.commit()).toMatchObject({ key: 'u', size: content.byteLength, etag: info.etag });
        expect(await readAll('u')).toEqual(content);
      });

      test('commit is idempotent', async () => {
        const upload = await begin('u', content, { condition: { ifAbsent: true } });
        await sendMissing(upload, content);
        const info = await upload.commit();
        expect((await upload.commit()).etag).toBe(info.etag);
      });

      test('ifAbsent is checked when the upload ends, not when it begins', async () => {
        const upload = await begin('u', content, { condition: { ifAbsent: true } });
        await sendMissing(upload, content);
        await store.write('u', Buffer.from('sooner'));
        await expect(upload.commit()).rejects.toMatchObject({ code: 'CONFLICT' });
        expect((await readAll('u')).toString()).toBe('sooner');
      });

      test('ifMatch replaces only what it names', async () => {
        const { etag } = await store.write('u', Buffer.from('old'));
        const right = await begin('u', content, { condition: { ifMatch: etag } });
        const late = await begin('u', content.subarray(1), { condition: { ifMatch: etag }, fingerprint: 'late' });
        await sendMissing(right, content);
        await sendMissing(late, content.subarray(1));
        await right.commit();
        await expect(late.commit()).rejects.toMatchObject({ code: 'CONFLICT' });
        expect(await readAll('u')).toEqual(content);
      });

      test('abort discards what was stored, also when called twice, and never what is committed', async () => {
        const upload = await begin('u', content);
        await send(upload, content, 1, 2, 3);
        await upload.abort();
        await upload.abort();
        const again = await begin('u', content);
        expect(again.done.size).toBe(0);
        await sendMissing(again, content);
        await again.commit();
        await again.abort();
        expect(await readAll('u')).toEqual(content);
      });

      test('a finished upload leaves nothing to resume', async () => {
        const upload = await begin('u', content);
        await sendMissing(upload, content);
        await upload.commit();
        expect((await begin('u', content)).done.size).toBe(0);
      });

      test('metadata of an upload is returned where it is kept', async () => {
        const upload = await begin('u', content, { metadata: { 'root-digest': 'sha256:abc' } });
        await sendMissing(upload, content);
        await upload.commit();
        expect((await store.stat('u')).metadata['root-digest']).toBe(made.keepsMetadata ? 'sha256:abc' : undefined);
      });

      test('an aborted signal stops part and commit', async () => {
        const upload = await begin('u', content);
        const options = { signal: AbortSignal.abort() };
        await expect(upload.part(1, content.subarray(0, partSize), options)).rejects.toMatchObject({ code: 'ABORTED' });
        await sendMissing(upload, content);
        await expect(upload.commit(options)).rejects.toMatchObject({ code: 'ABORTED' });
        await upload.commit();
      });
    });
  });
}

async function* brokenAfter(body: Uint8Array, failure: Failure): Bytes {
  yield* chunked(body, 65_536);
  throw failure;
}

function allParts(upload: Upload): number[] {
  return Array.from({ length: upload.parts }, (_, i) => i + 1);
}

function partOf(upload: Upload, content: Uint8Array, n: number): Uint8Array {
  return content.subarray((n - 1) * upload.partSize, n * upload.partSize);
}

/** Which of `count` calls succeeded; all others must have met CONFLICT. */
async function race(count: number, work: (i: number) => Promise<ObjectInfo>): Promise<number[]> {
  const results = await Promise.allSettled(Array.from({ length: count }, async (_, i) => work(i)));
  for (const result of results)
    if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'CONFLICT' });
  return results.flatMap((result, i) => (result.status === 'fulfilled' ? [i] : []));
}
