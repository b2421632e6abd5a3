import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { planRestore, type RestoreSelection } from '../../../worker/images/restore-plan.ts';
import { SharedBlobs } from '../../../worker/images/shared-blobs.ts';
import { parseImageFilter } from '../../../worker/oci/image-filter.ts';
import { parseRepositoryMap } from '../../../worker/oci/repository-map.ts';
import { contentOf } from '../../../worker/store/expanded.ts';
import type { Snapshot } from '../../../worker/store/snapshot.ts';
import { stateAt, type State } from '../../../worker/store/state.ts';
import { digestFor, makeSnapshot, SNAPSHOT_FACTS, snapshotImage } from '../../support/snapshots.ts';

const TO = { registry: '222222222222.dkr.ecr.eu-west-1.amazonaws.com', prefix: '' };

function stateOf(...snapshots: readonly Snapshot[]): State {
  const named = snapshots.map((snapshot, at) => ({
    name: { id: String(at), key: String(at).padStart(9, '0'), finishedAtMs: at, storedAtMs: at, size: 1 },
    snapshot,
  }));
  return stateAt(named, Infinity);
}

const plan = (state: State, more: Partial<RestoreSelection> = {}): ReturnType<typeof planRestore> =>
  planRestore(state, { only: [], maps: [], to: TO, ...more });

describe('the plan of a restore', () => {
  const state = stateOf(
    makeSnapshot({
      repositories: {
        'team/app': {
          images: [
            snapshotImage('new', ['v2', 'latest'], { pushedAt: '2026-11-30T10:00:00.000Z' }),
            snapshotImage('old', ['v1'], { pushedAt: '2026-01-01T10:00:00.000Z' }),
            snapshotImage('cold', ['v0'], { archived: true, content: [], bytes: 5 }),
          ],
        },
        'team/web': { images: [snapshotImage('web', ['v1'])] },
        empty: {},
      },
      failures: [{ repository: 'team/web', tag: 'v2', reason: 'it broke' }],
    }),
  );

  test('has every repository, the oldest push first, and names what was not backed up', () => {
    expect(
      plan(state).map(({ to, images, absent }) => [to.repository, images.map(({ tags }) => tags.join()), absent]),
    ).toEqual([
      ['empty', [], []],
      [
        'team/app',
        ['v1', 'latest,v2'],
        [expect.objectContaining({ tag: 'v0', reason: expect.stringContaining('archive') })],
      ],
      ['team/web', ['v1'], [expect.objectContaining({ tag: 'v2', reason: 'it broke' })]],
    ]);
  });

  test('has the chosen tags, of repositories that have one', () => {
    const only = ['team/*:v1'].map(parseImageFilter);
    expect(
      plan(state, { only }).map(({ to, images, absent }) => [to.repository, images.length, absent.length]),
    ).toEqual([
      ['team/app', 1, 0],
      ['team/web', 1, 0],
    ]);
    expect(plan(state, { only: ['team/app:latest'].map(parseImageFilter) })[0]?.images[0]?.tags).toEqual(['latest']);
  });

  test('puts repositories below the prefix of the target, after they were mapped', () => {
    const maps = ['team/*=group/*'].map(parseRepositoryMap);
    const names = plan(state, { maps, to: { ...TO, prefix: 'rescued' } }).map(({ to }) => to.repository);
    expect(names).toEqual(['rescued/empty', 'rescued/group/app', 'rescued/group/web']);
  });

  test('never gives two repositories one name', () => {
    const names = ['a', 'b', 'a/b', 'b/a', 'x/a', 'x/b'];
    const all = stateOf(makeSnapshot({ repositories: Object.fromEntries(names.map((name) => [name, {}])) }));
    const map = fc
      .tuple(fc.constantFrom('a', 'b', 'x/*', '*'), fc.constantFrom('a', 'x/b', 'y'))
      .map(([from, to]) => parseRepositoryMap(`${from}=${to}${from.includes('*') ? '/*' : ''}`));
    fc.assert(
      fc.property(fc.array(map, { maxLength: 3 }), (maps) => {
        try {
          const targets = plan(all, { maps }).map(({ to }) => to.repository);
          expect(new Set(targets).size).toBe(names.length);
        } catch (error) {
          expect(error).toMatchObject({ code: 'INVALID' });
        }
      }),
    );
  });

  test('of two registries that share a name requires a choice', () => {
    const other = makeSnapshot({
      registry: { host: 'registry.example' },
      repositories: { 'team/app': { images: [snapshotImage('other', ['v1'])] } },
    });
    const both = stateOf(makeSnapshot({ repositories: { 'team/app': {} } }), other);
    expect(() => plan(both)).toThrow(/restore one registry at a time: --registry/);
    expect(plan(both, { registry: 'registry.example' }).map(({ from }) => from.registry)).toEqual(['registry.example']);
    expect(() => plan(both, { registry: 'nowhere.example' })).toThrow(SNAPSHOT_FACTS.registry.host);
  });

  test('of 100,000 tags takes seconds at most, and no deep stack', () => {
    const images = Array.from({ length: 100_000 }, (_, at) => snapshotImage(`image ${at}`, [`v${at}`]));
    const large = stateOf(makeSnapshot({ repositories: { many: { images } } }));
    const [planned] = plan(large);
    expect(planned?.images).toHaveLength(100_000);
    expect(new SharedBlobs(plan(large))).toBeDefined();
  });
});

describe('blobs that several repositories share', () => {
  const repositories = Object.fromEntries(
    ['a', 'b', 'c'].map((name) => [
      name,
      { images: [snapshotImage(`${name}/1`, ['v1']), snapshotImage(`${name}/2`, ['v2'])] },
    ]),
  );
  const planned = plan(stateOf(makeSnapshot({ repositories })));
  const base = digestFor('base');
  const [a, b, c] = planned;
  if (a === undefined || b === undefined || c === undefined) throw new Error('there are three repositories');
  const [first] = a.images;
  if (first === undefined) throw new Error('there are images');

  test('are mounted from the repository that gets them first, once its image is there', async () => {
    const blobs = new SharedBlobs(planned);
    const waiting = Promise.all([b, c].flatMap((one) => one.images.map(async (image) => blobs.ready(one, image, {}))));
    expect(blobs.mountFrom(b, base)).toEqual([]);
    blobs.settle(first, true);
    await waiting;
    expect(blobs.mountFrom(b, base)).toEqual(['a']);
    expect(blobs.mountFrom(a, base)).toEqual([]);
    expect(blobs.mountFrom(b, digestFor('b/1/layer'))).toEqual([]);
  });

  test('are sent by each where the first failed, and where the registry does not mount', async () => {
    const failed = new SharedBlobs(planned);
    failed.settle(first, false);
    await failed.ready(b, b.images[0] ?? first, {});
    expect(failed.mountFrom(b, base)).toEqual([]);
    const refused = new SharedBlobs(planned);
    for (let times = 0; times < 3; times++) refused.mounted(false);
    await refused.ready(b, b.images[0] ?? first, {});
    refused.settle(first, true);
    expect(refused.mountFrom(b, base)).toEqual([]);
  });

  test('make an image wait for earlier repositories only, so that no two wait for each other', async () => {
    const shared = fc.array(fc.array(fc.nat(5), { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(fc.array(shared, { minLength: 1, maxLength: 4 }), async (all) => {
        const made = Object.fromEntries(
          all.map((images, r) => [
            `r${r}`,
            {
              images: images.map((layers, i) =>
                snapshotImage(`${r}/${i}`, [`v${i}`], {
                  content: [
                    ...snapshotImage(`${r}/${i}`, []).content.slice(0, 1),
                    ...[...new Set(layers)].map((layer) => ({ digest: digestFor(`layer ${layer}`), size: 10 })),
                  ],
                }),
              ),
            },
          ]),
        );
        const those = plan(stateOf(makeSnapshot({ repositories: made })));
        const blobs = new SharedBlobs(those);
        const sent = new Map<string, number>();
        // all at once: one that waited for a later one would never end
        await Promise.all(
          those.map(async (one) => {
            for (const image of one.images) {
              await blobs.ready(one, image, {});
              const there = new Set(
                one.images.slice(0, one.images.indexOf(image)).flatMap((i) => contentOf(i).map(({ digest }) => digest)),
              );
              for (const { digest, mediaType } of contentOf(image))
                if (mediaType === undefined && !there.has(digest) && blobs.mountFrom(one, digest).length === 0)
                  sent.set(digest, (sent.get(digest) ?? 0) + 1);
              blobs.settle(image, true);
            }
          }),
        );
        expect([...sent.values()].every((times) => times === 1)).toBe(true);
      }),
      { numRuns: 50 },
    );
  });
});
