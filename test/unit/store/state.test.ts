import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { matchesPattern } from '../../../worker/oci/location.ts';
import type { Digest } from '../../../worker/oci/digest.ts';
import type { ExpandedImage } from '../../../worker/store/expanded.ts';
import { IndexFold, type CountedImages } from '../../../worker/store/index-fold.ts';
import { layoutIndexOf } from '../../../worker/store/layout-index.ts';
import type { Snapshot } from '../../../worker/store/snapshot.ts';
import { snapshotKey } from '../../../worker/store/snapshot-key.ts';
import type { NamedSnapshot } from '../../../worker/store/snapshots.ts';
import { stateAt, type State } from '../../../worker/store/state.ts';
import { compareStrings } from '../../../worker/util/text.ts';
import { digestFor, makeSnapshot, SNAPSHOT_FACTS, snapshotImage, snapshotSignature } from '../../support/snapshots.ts';

const START = Date.UTC(2026, 11, 1);
const HOUR = 3_600_000;
const PARTIAL = { ...SNAPSHOT_FACTS.scope, listed: false };

function timeOf(hour: number): string {
  return new Date(START + hour * HOUR).toISOString();
}

function named(snapshot: Snapshot): NamedSnapshot {
  const { finishedAt } = snapshot;
  const id = digestFor(finishedAt).slice('sha256:'.length);
  const finishedAtMs = Date.parse(finishedAt);
  return {
    snapshot,
    name: { id, key: snapshotKey('', finishedAt, id), finishedAtMs, size: 1, storedAtMs: finishedAtMs },
  };
}

/** `repository:tag` of every tag, with the name of its image; `!` where it is an older copy. */
function tagsOf(state: State, names: readonly string[] = 'abcdef'.split('')): Readonly<Record<string, string>> {
  const byDigest = new Map<Digest, string>(names.map((name) => [digestFor(name), name]));
  return Object.fromEntries(
    state.repositories.flatMap(({ name, images }) =>
      images.flatMap(({ digest, tags, stale = [] }) =>
        tags.map((tag) => [`${name}:${tag}`, `${byDigest.get(digest)}${stale.includes(tag) ? '!' : ''}`]),
      ),
    ),
  );
}

const full = (hour: number, repositories: Readonly<Record<string, Readonly<Record<string, string>>>>): Snapshot =>
  makeSnapshot({
    finishedAt: timeOf(hour),
    repositories: Object.fromEntries(
      Object.entries(repositories).map(([name, tags]) => [
        name,
        { images: Object.entries(tags).map(([tag, image]) => snapshotImage(image, [tag])) },
      ]),
    ),
  });

describe('the state of a place', () => {
  const daily = [
    full(0, { app: { v1: 'a', v2: 'b' }, gone: { v1: 'c' } }),
    full(24, { app: { v2: 'b', v3: 'd' } }),
    makeSnapshot({
      finishedAt: timeOf(30),
      scope: PARTIAL,
      repositories: { app: { complete: false, images: [snapshotImage('e', ['v3'])] } },
    }),
  ].map(named);

  test('is that of the newest snapshot, with the images that later snapshots of single tags added', () => {
    expect(tagsOf(stateAt(daily, START + 40 * HOUR))).toEqual({ 'app:v2': 'b', 'app:v3': 'e' });
  });

  test('can be read for an earlier time', () => {
    expect(tagsOf(stateAt(daily, START + 24 * HOUR))).toEqual({ 'app:v2': 'b', 'app:v3': 'd' });
    expect(tagsOf(stateAt(daily, START + 23 * HOUR))).toEqual({ 'app:v1': 'a', 'app:v2': 'b', 'gone:v1': 'c' });
    expect(stateAt(daily, START - 1)).toEqual({ repositories: [] });
  });

  test('has the content of each image and of its referrers', () => {
    const image = snapshotImage('a', ['v1'], { referrers: [snapshotSignature('a')] });
    const snapshot = makeSnapshot({ repositories: { app: { images: [image] } } });
    const [repository] = stateAt([named(snapshot)], Infinity).repositories;
    expect(repository?.images).toEqual([expect.objectContaining({ ...image, bytes: 31_001_750, kind: 'store' })]);
  });

  test('keeps the push time of an image that a copy of one tag lists again without it', () => {
    const { pushedAt: _, ...copied } = snapshotImage('b', ['copied']);
    const copy = makeSnapshot({
      finishedAt: timeOf(40),
      scope: { ...PARTIAL, repositories: 'app', tags: 'copied' },
      repositories: { app: { complete: false, images: [copied] } },
    });
    const [app] = stateAt([...daily, named(copy)], Infinity).repositories;
    expect(app?.images.find(({ tags }) => tags.includes('copied'))).toMatchObject({
      tags: ['copied', 'v2'],
      pushedAt: '2026-11-30T10:00:00.000Z',
    });
  });

  test('keeps registries apart', () => {
    const other = makeSnapshot({ finishedAt: timeOf(50), registry: { host: 'registry.example' }, repositories: {} });
    const state = stateAt([...daily, named(other)], Infinity);
    expect(tagsOf(state)).toEqual({ 'app:v2': 'b', 'app:v3': 'e' });
  });

  test('has an older copy of a tag that could not be backed up, and names the failure', () => {
    const failed = makeSnapshot({
      finishedAt: timeOf(48),
      repositories: { app: { images: [snapshotImage('b', ['v2'])] } },
      failures: [{ repository: 'app', tag: 'v3', reason: 'the layer is broken' }],
    });
    const state = stateAt([...daily, named(failed)], Infinity);
    expect(tagsOf(state)).toEqual({ 'app:v2': 'b', 'app:v3': 'e!' });
    expect(state.repositories[0]?.failures).toEqual([{ repository: 'app', tag: 'v3', reason: 'the layer is broken' }]);
  });

  test('has no older copy from before the tag was deleted', () => {
    const snapshots = [
      full(0, { app: { v1: 'a' } }),
      full(1, { app: {} }),
      makeSnapshot({
        finishedAt: timeOf(2),
        repositories: { app: {} },
        failures: [{ repository: 'app', tag: 'v1', reason: 'it failed' }],
      }),
    ].map(named);
    expect(tagsOf(stateAt(snapshots, Infinity))).toEqual({});
  });

  test('keeps a repository that could not be listed', () => {
    const failed = makeSnapshot({
      finishedAt: timeOf(48),
      repositories: {},
      failures: [{ repository: 'app', reason: 'access was denied' }],
    });
    const state = stateAt([...daily, named(failed)], Infinity);
    expect(tagsOf(state)).toEqual({ 'app:v2': 'b', 'app:v3': 'e' });
    expect(state.repositories[0]?.failures).toEqual(failed.failures);
  });

  test('of 100,000 tags has each of them', () => {
    const [image] = full(0, { app: { v1: 'a' } }).repositories[0]?.images ?? [];
    if (image === undefined) throw new Error('the snapshot has no image');
    const images = Array.from({ length: 100_000 }, (_, index) => ({ ...image, tags: [`v${index}`] }));
    const { content } = full(0, { app: { v1: 'a' } });
    const later = { ...makeSnapshot({ finishedAt: timeOf(1), scope: PARTIAL }), content };
    const snapshots = [
      { ...full(0, {}), content, repositories: [{ name: 'app', complete: true, images: distinct(images) }] },
      { ...later, repositories: [{ name: 'app', complete: false, images: distinct(images.slice(0, 1000)) }] },
    ].map(named);
    const [app] = stateAt(snapshots, Infinity).repositories;
    expect(app?.images).toHaveLength(100_000);
    expect(app?.images.filter(({ snapshot }) => snapshot.finishedAtMs === START + HOUR)).toHaveLength(1000);
  });

  function distinct<T>(images: readonly T[]): readonly (T & { readonly digest: Digest })[] {
    return images.map((image, index) => ({ ...image, digest: `sha256:${index.toString(16).padStart(64, '0')}` }));
  }
});

describe('the state of any snapshots', () => {
  const tag = fc.constantFrom('v1', 'v2', 'w1');
  const repository = fc.record({
    complete: fc.boolean(),
    tags: fc.dictionary(tag, fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'), { maxKeys: 3, noNullPrototype: true }),
    untagged: fc.constantFrom(undefined, undefined, 'e', 'f'),
    failed: fc.uniqueArray(fc.option(tag, { nil: undefined, freq: 4 }), { maxLength: 2 }),
    isListed: fc.boolean(),
  });
  const snapshots = fc.array(
    fc.record({
      listed: fc.boolean(),
      untagged: fc.boolean(),
      pattern: fc.constantFrom('*', '*', 'a*'),
      tags: fc.constantFrom(undefined, undefined, 'v*'),
      repositories: fc.dictionary(fc.constantFrom('a/x', 'a/y', 'b'), repository, { noNullPrototype: true }),
    }),
    { maxLength: 6 },
  );

  test('is the result of applying them one after another', () => {
    fc.assert(
      fc.property(snapshots, fc.nat(7), (recipes, until) => {
        const made = snapshotsOf(recipes);
        const state = stateAt(made.map(named).toReversed(), START + until * HOUR);
        expect(summaryOf(state)).toEqual(appliedInOrder(made.filter((_, hour) => hour <= until)));
      }),
      { numRuns: 300 },
    );
  });

  test('gives the same index.json from a checkpoint of the oldest of them', () => {
    fc.assert(
      fc.property(snapshots, fc.nat(6), fc.nat(6), (recipes, first, second) => {
        const newestFirst = snapshotsOf(recipes).map(named).toReversed();
        const [a, b] = [first, second].toSorted((x, y) => x - y);
        const oldest = indexFoldOf(newestFirst.slice(b));
        // a checkpoint is made of the previous one and newer snapshots
        const older = indexFoldOf(newestFirst.slice(a, b), oldest.counted);
        const all = indexFoldOf(newestFirst.slice(0, a), older.counted);
        const whole = layoutIndexOf(stateAt(newestFirst, Infinity));
        expect(layoutIndexOf(all.state())).toEqual(whole);
        expect(layoutIndexOf(indexFoldOf(newestFirst).state())).toEqual(whole);
      }),
      { numRuns: 500 },
    );
  });

  function indexFoldOf(newestFirst: readonly NamedSnapshot[], older?: CountedImages): IndexFold {
    const fold = new IndexFold({ gathers: true });
    for (const one of newestFirst) fold.add(one);
    if (older !== undefined) fold.addOlder(older);
    return fold;
  }

  function snapshotsOf(recipes: typeof snapshots extends fc.Arbitrary<infer T> ? T : never): readonly Snapshot[] {
    return recipes.map(({ listed, untagged, pattern, tags, repositories }, hour) => {
      const inScope = Object.entries(repositories).filter(([name]) => matchesPattern(pattern, name));
      return makeSnapshot({
        finishedAt: timeOf(hour),
        scope: { ...PARTIAL, listed, untagged, repositories: pattern, ...(tags === undefined ? {} : { tags }) },
        repositories: Object.fromEntries(
          inScope
            .filter(([, { isListed }]) => isListed)
            .map(([name, { complete, tags: images, untagged: more }]) => [
              name,
              {
                complete,
                images: [
                  ...Object.entries(images)
                    .filter(([one]) => matchesPattern(tags ?? '*', one))
                    .map(([one, image]) => snapshotImage(image, [one], signed(image, hour))),
                  ...(more === undefined ? [] : [snapshotImage(more, [])]),
                ],
              },
            ]),
        ),
        failures: inScope.flatMap(([name, { failed }]) =>
          failed.map((one) => ({ repository: name, ...(one === undefined ? {} : { tag: one }), reason: 'why' })),
        ),
      });
    });
  }

  /** Sometimes with a signature, which an image gains and loses. */
  function signed(image: string, hour: number): Pick<ExpandedImage, 'referrers'> {
    return { referrers: (image.charCodeAt(0) + hour) % 3 === 0 ? [snapshotSignature(image)] : [] };
  }
});

type Summary = Readonly<Record<string, { complete: boolean; failures: string[]; images: Record<string, string[]> }>>;

function summaryOf(state: State): Summary {
  return Object.fromEntries(
    state.repositories.map(({ name, complete, images, failures }) => [
      name,
      {
        complete,
        failures: failures.map((failure) => failure.tag ?? '').toSorted(),
        images: Object.fromEntries(
          images.map(({ digest, tags, stale = [] }) => [
            digest,
            tags.map((tag) => (stale.includes(tag) ? `${tag}!` : tag)),
          ]),
        ),
      },
    ]),
  );
}

/** The same in the other direction: from the oldest to the newest, with each snapshot changing the state. */
function appliedInOrder(snapshots: readonly Snapshot[]): Summary {
  interface Known {
    complete: boolean;
    failures: Set<string>;
    tags: Map<string, { digest: Digest; stale: boolean }>;
    untagged: Set<Digest>;
  }
  const known = new Map<string, Known>();
  const knownOf = (name: string): Known => {
    const found = known.get(name) ?? { complete: false, failures: new Set(), tags: new Map(), untagged: new Set() };
    known.set(name, found);
    return found;
  };
  for (const { scope, repositories, failures } of snapshots) {
    const mentioned = new Set([...repositories.map(({ name }) => name), ...failures.map((one) => one.repository)]);
    for (const name of known.keys())
      if (scope.listed && matchesPattern(scope.repositories, name) && !mentioned.has(name)) known.delete(name);
    for (const { repository = '', tag = '' } of failures)
      if (!repositories.some(({ name }) => name === repository)) fail(knownOf(repository), tag);
    for (const { name, complete, images } of repositories) {
      const found = knownOf(name);
      const failed = failures.filter(({ repository }) => repository === name).map(({ tag = '' }) => tag);
      if (complete) {
        for (const tag of found.tags.keys())
          if (matchesPattern(scope.tags ?? '*', tag) && !failed.includes(tag)) found.tags.delete(tag);
        if (scope.tags === undefined) {
          found.complete = true;
          found.untagged.clear();
          found.failures.clear();
        }
        for (const tag of found.failures)
          if (scope.tags !== undefined && tag !== '' && matchesPattern(scope.tags, tag)) found.failures.delete(tag);
      }
      const own = new Set(images.flatMap(({ tags }) => tags));
      for (const { digest, tags } of images) {
        if (tags.length === 0 || scope.untagged) found.untagged.add(digest);
        for (const tag of tags) {
          found.tags.set(tag, { digest, stale: false });
          found.failures.delete(tag);
        }
      }
      for (const tag of failed) {
        if (own.has(tag)) found.failures.add(tag);
        else fail(found, tag);
      }
    }
  }
  return Object.fromEntries(
    [...known].map(([name, { complete, failures, tags, untagged }]) => {
      const images: Record<string, string[]> = {};
      for (const digest of untagged) images[digest] = [];
      for (const [tag, { digest, stale }] of [...tags].toSorted(([a], [b]) => compareStrings(a, b)))
        (images[digest] ??= []).push(stale ? `${tag}!` : tag);
      return [name, { complete, failures: [...failures].toSorted(), images }];
    }),
  );
}

function fail(
  found: { failures: Set<string>; tags: Map<string, { digest: Digest; stale: boolean }> },
  tag: string,
): void {
  found.failures.add(tag);
  const before = found.tags.get(tag);
  if (before !== undefined) before.stale = true;
}
