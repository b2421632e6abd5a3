import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Bytes, Source, Target } from '../../../worker/content/content.ts';
import { read } from '../../../worker/content/read.ts';
import { digestOf, isDigest } from '../../../worker/oci/digest.ts';
import {
  isManifestType,
  mediaTypeOf,
  parseManifest,
  referrerEntry,
  type Descriptor,
} from '../../../worker/oci/manifest.ts';
import { openFiles } from '../../../worker/objects/files/store.ts';
import { openImageStore } from '../../../worker/store/image-store.ts';
import { blobKey } from '../../../worker/store/place.ts';
import type { ImageStore, StoreBackup } from '../../../worker/store/store.ts';
import { Failure } from '../../../worker/util/failure.ts';
import { targetSuite } from '../../contracts/target.ts';
import { collect } from '../../support/chunks.ts';
import { fakeClock, manualClock } from '../../support/clock.ts';
import { crashed } from '../../support/crash.ts';
import { crashing } from '../../support/faulty-objects.ts';
import { seededBytes } from '../../support/images.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';
import { MemoryContent } from '../../../worker/content/memory.ts';

const PREFIX = 'backups/';
const MIB = 1024 * 1024;

async function open(objects: MemoryObjects): Promise<ImageStore> {
  const place = { store: objects, prefix: PREFIX, location: 'store:memory' };
  return openImageStore(place, { clock: manualClock(), create: true });
}

targetSuite('a backup into a store', async () => {
  const store = await open(new MemoryObjects());
  const backup = await store.begin();
  const { target, view } = named(store, backup);
  return { target, view: async () => view, close: async () => backup[Symbol.asyncDispose]() };
});

/** The target with names, which a store keeps in its snapshots, and what can be seen of the store meanwhile. */
function named(store: ImageStore, backup: StoreBackup): { readonly target: Target; readonly view: Source } {
  const tags = new Map<string, Descriptor>();
  const manifestOf = async (digest: string): Promise<Descriptor> => {
    const size = isDigest(digest) ? (await store.blobs()).get(digest) : undefined;
    if (size === undefined || !isDigest(digest)) throw new Failure('NOT_FOUND', `there is no ${digest}`);
    const bytes = await collect(await store.content.open({ digest, size, mediaType: '' }));
    const mediaType = mediaTypeOf(bytes);
    if (mediaType === undefined) throw new Failure('NOT_FOUND', `${digest} is no manifest`);
    return { mediaType, digest, size };
  };
  return {
    target: {
      has: async (descriptor, options) => backup.target.has(descriptor, options),
      put: async (descriptor, body, options) => backup.target.put(descriptor, body, options),
      tag: async (name, descriptor, body, options) => {
        await backup.target.tag(name, descriptor, body, options);
        tags.set(name, descriptor);
      },
    },
    view: {
      open: async (descriptor, options) => store.content.open(descriptor, options),
      resolve: async (reference) => tags.get(reference) ?? manifestOf(reference),
      tags: async function* () {
        yield* tags.keys();
      },
      referrers: async function* ({ digest: subject }) {
        for (const digest of (await store.blobs()).keys()) {
          const descriptor = await manifestOf(digest).catch(() => undefined);
          if (descriptor === undefined || !isManifestType(descriptor.mediaType)) continue;
          const bytes = await collect(await store.content.open(descriptor));
          const manifest = parseManifest(bytes, descriptor.mediaType);
          if (manifest.subject?.digest === subject) yield referrerEntry(descriptor, manifest);
        }
      },
    },
  };
}

describe('a large blob', () => {
  const content = new MemoryContent();
  const blob = content.add('application/octet-stream', seededBytes('large', 8.5 * MIB));

  test('is sent in several parts at once', async () => {
    let [sending, most] = [0, 0];
    const objects = new MemoryObjects({
      partSize: MIB / 2,
      onPart: async () => {
        most = Math.max(most, ++sending);
        for (let i = 0; i < 50; i++) await turn();
        sending--;
      },
    });
    const backup = await (await open(objects)).begin();
    await backup.target.put(blob, () => read(content, blob));
    // the memory is for 16 parts
    expect(most).toBe(16);
    await backup[Symbol.asyncDispose]();
  });

  test('is sent in parts, and resumes after a kill at every write with at most the parts in transit sent twice', async () => {
    for (let crashAt = 1; ; crashAt++) {
      const objects = new MemoryObjects({ partSize: 3 * MIB });
      const first = crashing(objects, crashAt);
      const place = { store: first.store, prefix: PREFIX, location: 'store:memory' };
      const clock = fakeClock();
      const hasCrashed = await crashed(
        (async () => {
          const store = await openImageStore(place, { clock: manualClock(), create: true });
          const backup = await store.begin();
          await backup.target.put(blob, () => read(content, blob, { clock }));
        })(),
      );
      objects.stored.length = 0;
      const backup = await (await open(objects)).begin();
      await backup.target.put(blob, () => read(content, blob, { clock }));
      expect(digestOf(objects.bytesOf(blobKey({ prefix: PREFIX }, blob.digest)))).toBe(blob.digest);
      await backup[Symbol.asyncDispose]();
      if (!hasCrashed) {
        expect(objects.stored).toEqual([]);
        break;
      }
      // three parts; those that the killed process was sending are stored or not
      const sentBefore = Math.floor(first.bytesSent() / (3 * MIB));
      expect(objects.stored.length).toBeLessThanOrEqual(3 - sentBefore + 1);
    }
  });

  test('becomes visible only when all of it was verified', async () => {
    const objects = new MemoryObjects({ partSize: 3 * MIB });
    const store = await open(objects);
    const backup = await store.begin();
    const wrong = async function* (): AsyncGenerator<Uint8Array> {
      yield await collect(await content.open(blob, { to: 8 * MIB }));
      throw new Failure('CORRUPT', 'its end is wrong');
    };
    await expect(backup.target.put(blob, wrong)).rejects.toMatchObject({ code: 'CORRUPT' });
    expect((await store.blobs()).size).toBe(0);
    await backup[Symbol.asyncDispose]();
  });
});

test('a large blob in a folder is right, and only what is missing is written, after a crash lost bytes that its journal names', async () => {
  const content = new MemoryContent();
  const blob = content.add('application/octet-stream', seededBytes('large', 8.5 * MIB));
  const folder = await mkdtemp(join(tmpdir(), 'transship-store-'));
  onTestFinished(async () => rm(folder, { recursive: true }));
  const files = openFiles(folder);
  const key = blobKey({ prefix: PREFIX }, blob.digest);
  const interrupted = await files.upload(key, blob.size, { fingerprint: blob.digest });
  {
    await using file = (await interrupted.openInPlace?.()) ?? expect.unreachable();
    const bytes = Buffer.from(await collect(await content.open(blob, { to: 6 * MIB })));
    bytes[1000] = (bytes[1000] ?? 0) ^ 1;
    await file.write(0, bytes);
    await file.keep([1, 2, 3, 4, 5, 6]);
  }
  const again = crashing(files, Infinity);
  const place = { store: again.store, prefix: PREFIX, location: 'store:folder' };
  const backup = await (await openImageStore(place, { clock: manualClock(), create: true })).begin();
  const before = again.bytesSent();
  await backup.target.put(blob, () => read(content, blob));
  expect(again.bytesSent() - before).toBeLessThan(4 * MIB);
  expect(digestOf(await readFile(join(folder, key)))).toBe(blob.digest);
  await backup[Symbol.asyncDispose]();
});

describe('an existing blob', () => {
  const content = new MemoryContent();
  const blob = content.add('application/octet-stream', seededBytes('small', 1000));
  const key = blobKey({ prefix: PREFIX }, blob.digest);

  test('is stored again where another program truncated it, and reported', async () => {
    const objects = new MemoryObjects();
    await objects.write(key, new Uint8Array(10));
    const messages: unknown[] = [];
    const place = { store: objects, prefix: PREFIX, location: 'store:memory' };
    const store = await openImageStore(place, {
      clock: manualClock(),
      create: true,
      report: (event) => event.type === 'warning' && messages.push(event.message),
    });
    await using backup = await store.begin();
    expect(await backup.target.has(blob)).toBe(false);
    await backup.target.put(blob, () => read(content, blob));
    expect((await objects.stat(key)).size).toBe(1000);
  });

  test('counts as existing when another backup stored it since the list, and is not counted as added', async () => {
    const objects = new MemoryObjects();
    await using backup = await (await open(objects)).begin();
    await using other = await (await open(objects)).begin();
    await other.target.put(blob, () => read(content, blob));
    await backup.target.put(blob, () => read(content, blob));
    expect(await backup.target.has(blob)).toBe(true);
    expect([other.added, backup.added]).toEqual([
      { blobs: 1, bytes: 1000 },
      { blobs: 0, bytes: 0 },
    ]);
  });

  test('is put once by many copies at once', async () => {
    const objects = new MemoryObjects();
    await using backup = await (await open(objects)).begin();
    let opened = 0;
    const body = (): Bytes => {
      opened++;
      return read(content, blob);
    };
    await Promise.all(Array.from({ length: 5 }, async () => backup.target.put(blob, body)));
    expect(opened).toBe(1);
  });
});
