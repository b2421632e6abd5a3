// The bytes that docs/artifact-format.md promises: they are the same in every later version.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { compareKeys, isListedAs, ListingDigest, modifiedOf } from '../../../worker/artifacts/listing.ts';
import { contentOf, objectArtifact } from '../../../worker/artifacts/object-artifact.ts';
import { Shards } from '../../../worker/artifacts/shards.ts';
import {
  readShard,
  readSnapshot,
  snapshotDocument,
  snapshotTag,
  type Document,
  type SnapshotEntry,
} from '../../../worker/artifacts/snapshot.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import { parseManifest, type Manifest } from '../../../worker/oci/manifest.ts';

const bytes = Buffer.from('a note');
const note = { key: 'reports/note.txt', digest: digestOf(bytes), size: 6, contentType: 'text/plain' };

function parsed({ bytes: document, descriptor }: Pick<Document, 'bytes' | 'descriptor'>): Manifest {
  return parseManifest(document, descriptor.mediaType);
}

function entry(key: string, more: Partial<SnapshotEntry> = {}): SnapshotEntry {
  const { descriptor } = objectArtifact({ ...note, key });
  const listed = { key, size: 6, etag: 'e', modified: '2026-12-01T02:00:00Z' };
  const described = { version: undefined, contentType: undefined, metadata: {} };
  return { ...listed, ...described, artifact: descriptor, digest: note.digest, ...more };
}

function shardsOf(keys: readonly string[], more?: Partial<SnapshotEntry>): readonly Document[] {
  const shards = new Shards();
  return [...keys.flatMap((key) => shards.add(entry(key, more))), ...shards.end()];
}

/** Leading zeros, so that keys are in the order of their numbers. */
const key = (i: number): string => `key-${String(i).padStart(5, '0')}`;

describe('the artifact of an object', () => {
  test('has the bytes of the document', () => {
    const example = /```json\n(.*?)```/s.exec(readFileSync('docs/artifact-format.md', 'utf8'))?.[1] ?? '';
    const { bytes: manifest, tag } = objectArtifact(note);
    const written = example.replace('sha256:<of the object>', note.digest);
    expect(manifest.toString()).toBe(JSON.stringify(JSON.parse(written)));
    expect(`sha256:${tag}`).toBe(note.digest);
  });

  test.each([
    [undefined, 'application/octet-stream'],
    ['Text/HTML', 'text/html'],
    ['text/plain; charset=utf-8', 'application/octet-stream'],
    ['nonsense', 'application/octet-stream'],
    ['application/vnd.oci.image.index.v1+json', 'application/octet-stream'],
    ['application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', 'application/octet-stream'],
    ['application/x.foreign.y', 'application/octet-stream'],
    ['application/vnd.ms-excel', 'application/vnd.ms-excel'],
  ])('of the content type %s has a layer of %s', (contentType, mediaType) => {
    expect(objectArtifact({ ...note, contentType }).layer.mediaType).toBe(mediaType);
  });

  test.each([
    ['a/b', 'b'],
    ['a/b/', 'b'],
    ['a/..', 'object'],
    ['///', 'object'],
  ])('of the key %s has the title %s', (name, title) => {
    const manifest = parsed(objectArtifact({ ...note, key: name }));
    expect(manifest.kind === 'image' && manifest.layers[0]?.annotations).toEqual({
      'org.opencontainers.image.title': title,
    });
  });

  test('distinguishes an empty object from one that is the two bytes {}', () => {
    const empty = objectArtifact({ ...note, digest: digestOf(Buffer.from('')), size: 0 });
    const braces = objectArtifact({ ...note, digest: digestOf(Buffer.from('{}')), size: 2 });
    expect(contentOf(parsed(empty))).toMatchObject({ size: 0, digest: digestOf(Buffer.from('')) });
    expect(contentOf(parsed(braces))).toMatchObject({ size: 2, digest: digestOf(Buffer.from('{}')) });
  });
});

describe('shards', () => {
  test('keep all but one or two of their number when a key is added', () => {
    const keys = Array.from({ length: 5000 }, (_, i) => key(i));
    const before = shardsOf(keys).map(({ descriptor }) => descriptor.digest);
    const after = shardsOf([...keys.slice(0, 2500), `${key(2499)}a`, ...keys.slice(2500)]);
    expect(before.length).toBeGreaterThan(5);
    expect(after.filter(({ descriptor }) => !before.includes(descriptor.digest)).length).toBeLessThanOrEqual(2);
  });

  test('have at most 1,000 objects and 3 MiB, and return what was put in', () => {
    const metadata = { note: '"'.repeat(1500), ['__proto__']: 'x', 10: 'ten' };
    const keys = Array.from({ length: 1100 }, (_, i) => key(i));
    for (const more of [{}, { metadata, version: 'v', contentType: 'text/plain; charset="utf-8"' }]) {
      const shards = shardsOf(keys, more);
      const found = shards.map((shard) => readShard(parsed(shard)) ?? []);
      expect(Math.max(...found.map((entries) => entries.length))).toBeLessThanOrEqual(1000);
      expect(Math.max(...shards.map(({ descriptor }) => descriptor.size))).toBeLessThan(3 * 1024 * 1024 + 1024);
      expect(found.flat()).toEqual(keys.map((one) => entry(one, more)));
    }
  });

  test('are refused when their keys are not in order, also between two shards', () => {
    const [one] = shardsOf(['b', 'a']);
    const [other] = shardsOf(['c']);
    if (one === undefined || other === undefined) throw new Error('there are no shards');
    expect(() => readShard(parsed(one))).toThrow(/lists "a" out of order/);
    expect(() => readShard(parsed(other), 'c')).toThrow(/lists "c" out of order/);
  });
});

describe('a snapshot', () => {
  const listing = digestOf(Buffer.from('listing'));
  const facts = {
    source: 's3://bucket/p/',
    created: '2026-12-01T02:00:00Z',
    objects: 2,
    bytes: 12,
    failed: 1,
    listing,
  };

  test('has what was written', () => {
    const shards = shardsOf(['a', 'b']).map(({ descriptor }) => descriptor);
    const document = snapshotDocument(facts, shards);
    expect(readSnapshot(parsed(document))).toMatchObject({ ...facts, shards });
    expect(snapshotTag(facts.created)).toBe('snapshot-20261201T020000Z');
    // the format, which never changes
    expect(document.descriptor.digest).toBe('sha256:b267c044123fa751ca2c8e8b331ef0af9e10beb767767fb1f8e54e15106a90b2');
  });

  test('of another version, or broken, is refused', () => {
    const text = snapshotDocument(facts, []).bytes.toString();
    const broken = (from: string, to: string): Manifest =>
      parseManifest(Buffer.from(text.replace(from, to)), 'application/vnd.oci.image.index.v1+json');
    expect(() => readSnapshot(broken('snapshot.version":"1"', 'snapshot.version":"2"'))).toThrow(/version "2"/);
    expect(() => readSnapshot(broken('2026-12-01', 'yesterday'))).toThrow(/lacks/);
    expect(() => readSnapshot(broken('snapshot.objects":"2"', 'snapshot.objects":"-2"'))).toThrow(/no number/);
  });
});

describe('a listing', () => {
  const listed = { key: 'a', size: 1, etag: 'e', modified: modifiedOf(new Date('2026-12-01T02:00:00.999Z')) };

  test('has another digest when an object has another size, ETag or time', () => {
    const digest = (more: object): string => {
      const listing = new ListingDigest();
      listing.add({ ...listed, ...more });
      return listing.digest();
    };
    const digests = [{}, { size: 2 }, { etag: 'f' }, { modified: '2026-12-01T02:00:01Z' }, { key: 'b' }].map(digest);
    expect(new Set(digests).size).toBe(5);
    expect(listed.modified).toBe('2026-12-01T02:00:00Z');
    expect(isListedAs(listed, { ...listed, etag: 'f' })).toBe(false);
  });

  test('is in the order of UTF-8 bytes, which is not that of UTF-16', () => {
    const [low, high] = ['\uffee', '\u{1f600}'];
    expect(low < high).toBe(false);
    expect(compareKeys(low, high)).toBeLessThan(0);
    const listing = new ListingDigest();
    for (const name of [low, high]) listing.add({ ...listed, key: name });
    expect(() => listing.add({ ...listed, key: low })).toThrow(/only stores that list keys in order/);
  });
});
