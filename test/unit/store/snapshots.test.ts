import { readdirSync, readFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { zstdCompress, zstdDecompressSync } from 'node:zlib';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { openFiles } from '../../../worker/objects/files/store.ts';
import { snapshotPrefix } from '../../../worker/oci/key-template.ts';
import { decompressSnapshot, encodeSnapshot, parseSnapshot } from '../../../worker/store/snapshot-codec.ts';
import { verifySnapshots } from '../../../worker/images/verify-snapshots.ts';
import { snapshotKey } from '../../../worker/store/snapshot-key.ts';
import { SnapshotBuilder } from '../../../worker/store/snapshot-builder.ts';
import { openSnapshots } from '../../../worker/store/snapshots.ts';
import { readState } from '../../../worker/store/read-state.ts';
import type { Snapshot } from '../../../worker/store/snapshot.ts';
import { canonicalJson } from '../../../worker/util/canonical-json.ts';
import { violations } from '../../support/json-schema.ts';
import { fakeClock } from '../../support/clock.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';
import {
  anySnapshot,
  goldenSnapshot,
  makeSnapshot,
  SNAPSHOT_FACTS,
  snapshotImage,
  snapshotSignature,
} from '../../support/snapshots.ts';

const SCHEMA: unknown = JSON.parse(readFileSync('docs/transship-snapshot.schema.json', 'utf8'));
const GOLDEN_FOLDER = 'test/fixtures/snapshots-v1';
const compress = promisify(zstdCompress);

async function decodeSnapshot(bytes: Uint8Array, id: string, what: string): Promise<Snapshot> {
  return parseSnapshot(await decompressSnapshot(bytes, id, what), what);
}

/** A document as another program may have written it, under the id of its bytes. */
async function decoded(document: unknown): Promise<Snapshot> {
  const json = Buffer.from(typeof document === 'string' ? document : canonicalJson(document));
  const id = createHash('sha256').update(json).digest('hex');
  return decodeSnapshot(await compress(json), id, 'the snapshot');
}

describe('a snapshot', () => {
  test('is read as it was written, and matches the JSON Schema', async () => {
    await fc.assert(
      fc.asyncProperty(anySnapshot, async (snapshot) => {
        const { id, bytes } = await encodeSnapshot(snapshot);
        expect(await decodeSnapshot(bytes, id, 'it')).toEqual(snapshot);
        expect(violations(SCHEMA, JSON.parse(zstdDecompressSync(bytes).toString()))).toEqual([]);
      }),
      { numRuns: 100 },
    );
  });

  test('is the golden one', async () => {
    const [file = ''] = readdirSync(`${GOLDEN_FOLDER}/snapshots`);
    const { id } = await encodeSnapshot(goldenSnapshot());
    expect(file).toBe(snapshotKey('', goldenSnapshot().finishedAt, id).slice('snapshots/'.length));
    const { snapshot } = await openSnapshots({ store: openFiles(GOLDEN_FOLDER), prefix: '' }).read('latest');
    expect(snapshot).toEqual(goldenSnapshot());
    expect(violations(SCHEMA, snapshot)).toEqual([]);
  });

  test('is read although it has members of a later version that may be ignored', async () => {
    const golden = goldenSnapshot();
    expect(await decoded({ ...golden, more: 1, registry: { ...golden.registry, partition: 'aws' } })).toEqual(golden);
  });

  test('is found to be changed, whichever byte of it is changed', async () => {
    const { id, bytes } = await encodeSnapshot(goldenSnapshot());
    let found = 0;
    for (let index = 0; index < bytes.byteLength; index++) {
      const edited = Uint8Array.from(bytes);
      edited[index] = (bytes[index] ?? 0) ^ (1 << (index % 8));
      const outcome = await decodeSnapshot(edited, id, 'it').catch((error: unknown) => error);
      if (outcome instanceof Error) expect(outcome).toMatchObject({ code: 'CORRUPT' });
      // a bit that zstd ignores
      else expect(outcome).toEqual(goldenSnapshot());
      found += Number(outcome instanceof Error);
    }
    expect(found).toBeGreaterThan(bytes.byteLength * 0.98);
    const json = zstdDecompressSync(bytes);
    for (let index = 0; index < json.byteLength; index += 7) {
      const edited = Buffer.from(json);
      edited[index] = (json[index] ?? 0) ^ 1;
      await expect(decodeSnapshot(await compress(edited), id, 'it')).rejects.toMatchObject({ code: 'CORRUPT' });
    }
    await expect(decodeSnapshot(bytes.subarray(0, -1), id, 'it')).rejects.toMatchObject({ code: 'CORRUPT' });
    await expect(decodeSnapshot(new Uint8Array(), id, 'it')).rejects.toMatchObject({ code: 'CORRUPT' });
  });

  test('is refused before it fills memory when it expands without end', async () => {
    const bomb = await compress(Buffer.alloc(300 * 1024 * 1024));
    expect(bomb.byteLength).toBeLessThan(100_000);
    await expect(decodeSnapshot(bomb, '0'.repeat(64), 'the snapshot s3://b/x')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: 'the snapshot s3://b/x is longer than 268435456 bytes',
    });
  });

  const golden = goldenSnapshot();
  const [first, ...others] = golden.repositories;
  const [image] = first?.images ?? [];
  const withImage = (changes: object): object => ({
    ...golden,
    repositories: [{ ...first, images: [{ ...image, ...changes }] }],
  });
  test.each<readonly [string, unknown, RegExp]>([
    ['of a newer version', { ...golden, version: 2 }, /was written by a newer Transship: it has version 2/],
    ['not in JSON', '{"version":1', /it is not JSON/],
    ['in a list', [], /is not a snapshot: the document: expected a mapping of keys to values, and it is a list/],
    ['without a host', { ...golden, registry: {} }, /registry\.host: expected a string, and it is undefined/],
    ['of an unknown kind', { ...golden, kind: 'tapes' }, /kind: .*"tapes"/],
    ['with a time in words', { ...golden, startedAt: 'yesterday' }, /startedAt: expected a time such as/],
    [
      'with a malformed pattern',
      { ...golden, scope: { ...golden.scope, tags: '{' } },
      /scope\.tags: expected a pattern/,
    ],
    ['with a repository twice', { ...golden, repositories: [first, first] }, /listed twice or out of order/],
    ['out of order', { ...golden, repositories: [...others, first] }, /listed twice or out of order/],
    ['with a path as a repository', { ...golden, repositories: [{ ...first, name: '../x' }] }, /repositories\.0\.name/],
    [
      'with content twice',
      { ...golden, content: [...golden.content, golden.content[0]] },
      /content lists a digest twice/,
    ],
    ['with a malformed tag', withImage({ tags: ['a b'] }), /images\.0\.tags\.0: expected a tag, and it is "a b"/],
    ['with content beyond the list', withImage({ content: [999] }), /names content that is not listed/],
    ['whose content is of another image', withImage({ content: [1] }), /does not begin with it/],
    ['without content', withImage({ content: [] }), /has no content, or is archived/],
    [
      'of a store with archives',
      withImage({ archives: [{ key: 'k', size: 1, etag: 'e' }] }),
      /1 archives in a snapshot of a store/,
    ],
    ['of archives without one', { ...golden, kind: 'archives' }, /0 archives in a snapshot of archives/],
  ])('%s is refused with one sentence', async (_, document, message) => {
    await expect(decoded(document)).rejects.toMatchObject({
      code: 'INVALID',
      message: expect.stringMatching(message),
    });
  });

  test('is the same whatever the order in which a backup adds to it', () => {
    const images = ['a', 'b', 'c', 'd'].map((name) => snapshotImage(name, name === 'c' ? [] : [`v-${name}`]));
    fc.assert(
      fc.property(fc.shuffledSubarray(images, { minLength: images.length }), (order) => {
        const made = makeSnapshot({ repositories: { app: { images: order } } });
        expect(made).toEqual(makeSnapshot({ repositories: { app: { images } } }));
      }),
    );
  });

  test('lists an image once that was added under two tags, and counts its bytes once', () => {
    const signed = snapshotImage('a', ['v2'], { referrers: [snapshotSignature('a')] });
    const snapshot = makeSnapshot({ repositories: { app: { images: [snapshotImage('a', ['v1']), signed] } } });
    expect(snapshot.repositories[0]?.images).toMatchObject([{ tags: ['v1', 'v2'], bytes: 31_001_750 }]);
    expect(snapshot.content.map(({ size }) => size)).toEqual([700, 300, 30_000_000, 1_000_000, 500, 250]);
  });

  test('is not built of content that has two sizes, nor of missing or duplicate repositories', () => {
    const builder = new SnapshotBuilder(SNAPSHOT_FACTS);
    expect(() => builder.image('app', snapshotImage('a', []))).toThrow(/"app" is not added/);
    builder.repository('app', { complete: true });
    expect(() => builder.repository('app', { complete: true })).toThrow(/added twice/);
    builder.image('app', snapshotImage('a', []));
    const [content] = snapshotImage('a', []).content;
    if (content === undefined) throw new Error('the image has no content');
    expect(() => builder.image('app', snapshotImage('b', [], { content: [{ ...content, size: 1 }] }))).toThrow(
      /has 1 bytes, and had 700 before/,
    );
  });
});

describe('the snapshots of a place', () => {
  const at = (time: string): Snapshot => makeSnapshot({ finishedAt: time, repositories: { app: {} } });

  test('are listed by time, and found by id, by its beginning, and as latest', async () => {
    const store = new MemoryObjects();
    const snapshots = openSnapshots({ store, prefix: 'backups/' });
    const newer = await snapshots.write(at('2026-12-02T02:00:00.900Z'));
    const older = await snapshots.write(at('2026-12-01T02:00:00.000Z'));
    await store.write('backups/snapshots/notes.txt', Buffer.from('not a snapshot'));
    await store.write(`backups/snapshots/20261301T000000000Z-${'0'.repeat(64)}.json.zst`, Buffer.from('month 13'));
    expect(await snapshots.list()).toEqual([older, newer]);
    expect(older.key).toBe(`backups/snapshots/20261201T020000000Z-${older.id}.json.zst`);
    expect(newer.finishedAtMs).toBe(Date.parse('2026-12-02T02:00:00.900Z'));
    for (const which of ['latest', newer.id, newer.id.slice(0, 8), newer])
      expect(await snapshots.read(which)).toEqual({ name: newer, snapshot: at('2026-12-02T02:00:00.900Z') });
  });

  test('within one second are ordered by their milliseconds, whatever their ids are', async () => {
    const snapshots = openSnapshots({ store: new MemoryObjects(), prefix: '' });
    const times = Array.from(
      { length: 12 },
      (_, index) => `2026-12-01T02:00:00.${String(index * 7).padStart(3, '0')}Z`,
    );
    const written = [];
    for (const time of times) written.push(await snapshots.write(at(time)));
    expect(await snapshots.list()).toEqual(written);
    expect(await snapshots.read('latest')).toMatchObject({ snapshot: { finishedAt: times.at(-1) } });
  });

  test('are written once: a repeated write changes nothing', async () => {
    const store = new MemoryObjects();
    const snapshots = openSnapshots({ store, prefix: '' });
    const first = await snapshots.write(goldenSnapshot());
    expect(await snapshots.write(goldenSnapshot())).toEqual(first);
    await store.write(first.key, Buffer.from('damaged'));
    await expect(snapshots.write(goldenSnapshot())).rejects.toMatchObject({ code: 'CORRUPT' });
  });

  test.each([
    ['../etc', 'INVALID', /is not a snapshot: expected "latest", or at least the first 4 digits/],
    ['abc', 'INVALID', /at least the first 4 digits/],
    ['ffffffff', 'NOT_FOUND', /no snapshot in memory:\/\/p\/snapshots\/ has an id that begins with ffffffff/],
  ])('do not contain one called %s', async (which, code, message) => {
    const snapshots = openSnapshots({ store: new MemoryObjects(), prefix: 'p/' });
    await snapshots.write(goldenSnapshot());
    await expect(snapshots.read(which)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test('do not exist before the first backup', async () => {
    const snapshots = openSnapshots({ store: new MemoryObjects(), prefix: '' });
    expect(await snapshots.list()).toEqual([]);
    expect(await readState(snapshots)).toEqual({ repositories: [] });
    await expect(snapshots.read('latest')).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: 'there is no snapshot in memory://snapshots/: a backup writes one',
    });
  });

  test('are not guessed among when their ids begin alike', async () => {
    const store = new MemoryObjects();
    for (const end of ['a', 'b'])
      await store.write(`snapshots/20261201T020000000Z-${'1234'.padEnd(63, '0')}${end}.json.zst`, Buffer.from('x'));
    await expect(openSnapshots({ store, prefix: '' }).read('1234')).rejects.toMatchObject({
      code: 'INVALID',
      message: expect.stringMatching(/^2 snapshots in .* have ids that begin with 1234: write more digits$/),
    });
  });

  test('with another name than a snapshot are not listed, and can be found', async () => {
    const store = new MemoryObjects();
    const snapshots = openSnapshots({ store, prefix: 'p/' });
    const { key } = await snapshots.write(goldenSnapshot());
    const copy = 'p/snapshots/copy-of-yesterday.json.zst';
    for (const other of [copy, `${key}.sig`, 'p/snapshots/notes.txt']) await store.write(other, store.bytesOf(key));
    expect((await snapshots.list()).map((name) => name.key)).toEqual([key]);
    expect(await snapshots.misnamed()).toEqual([copy]);
    const { findings } = await verifySnapshots(snapshots, {}, { clock: fakeClock() });
    expect(findings).toMatchObject([{ kind: 'snapshot', at: copy }]);
  });

  test('are reported when they were renamed', async () => {
    const store = new MemoryObjects();
    const snapshots = openSnapshots({ store, prefix: '' });
    const { key, id } = await snapshots.write(goldenSnapshot());
    await store.write(key.replace('20261201', '20271201'), store.bytesOf(key));
    store.remove(key);
    await expect(snapshots.read(id)).rejects.toMatchObject({
      code: 'CORRUPT',
      message: expect.stringMatching(/was renamed/),
    });
  });

  test('stop reading the state when they are broken, unless the caller asks to hear of them', async () => {
    const store = new MemoryObjects();
    const snapshots = openSnapshots({ store, prefix: '' });
    await snapshots.write(at('2026-12-01T02:00:00.000Z'));
    const broken = await snapshots.write(at('2026-12-02T02:00:00.000Z'));
    await store.write(broken.key, Buffer.from('damaged'));
    await expect(readState(snapshots)).rejects.toMatchObject({ code: 'CORRUPT' });
    const heard: string[] = [];
    const state = await readState(snapshots, { onBroken: ({ id }) => heard.push(id) });
    expect(state.repositories.map(({ name }) => name)).toEqual(['app']);
    expect(heard).toEqual([broken.id]);
    expect(await readState(snapshots, { asOfMs: broken.finishedAtMs - 1 })).toEqual(state);
  });

  test('of one registry are read only back to the one that has all of it', async () => {
    const store = new MemoryObjects();
    const snapshots = openSnapshots({ store, prefix: '' });
    for (let day = 1; day <= 20; day++)
      await snapshots.write(at(`2026-11-${String(day).padStart(2, '0')}T00:00:00.000Z`));
    const before = store.reads.length;
    const state = await readState(snapshots, { registry: SNAPSHOT_FACTS.registry.host });
    expect(state.repositories).toHaveLength(1);
    expect(store.reads.length - before).toBeLessThanOrEqual(4);
  });
});

test.each([
  ['backups/{regionName}/{repository}/{tag}.tar', 'backups/'],
  ['a/b-{tag}/x.tar', 'a/'],
  ['{registry}/x.tar', ''],
  ['', ''],
  ['a/b/one.tar', 'a/b/'],
])('the snapshots of archives with the template %s are below "%s"', (template, prefix) => {
  expect(snapshotPrefix(template)).toBe(prefix);
});
