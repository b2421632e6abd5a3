import { describe, expect, test } from 'vitest';
import type { ImageDeletions, TagOf } from '../../../worker/images/deletions.ts';
import { pruneImages } from '../../../worker/images/prune-images.ts';
import { digestOf, type Digest } from '../../../worker/oci/digest.ts';
import type { Inventory, Item } from '../../../worker/retention/inventory.ts';
import type { PlannedItem, RepositoryPlan } from '../../../worker/retention/plan.ts';
import { Failure } from '../../../worker/util/failure.ts';
import type { Clock } from '../../../worker/util/clock.ts';
import { fakeClock, manualClock } from '../../support/clock.ts';

const PLACE = 'registry.example/app';
const id = (name: string): Digest => digestOf(Buffer.from(name));
const nameOf = new Map(['index', 'child', 'other', 'late', 'signature', 'a', 'b'].map((name) => [id(name), name]));
const named = (digest: string): string => nameOf.get(digest as Digest) ?? digest;

function item(name: string, more: Partial<Item> = {}): Item {
  return { id: id(name), digest: id(name), tags: [], children: [], ...more };
}

function going(name: string, more: Partial<PlannedItem> = {}): PlannedItem {
  return { id: id(name), tags: [], action: 'delete', reason: 'old', group: id('index'), ...more };
}

interface Ran {
  /** Every request, with its items by name. */
  readonly requests: readonly (readonly string[])[];
  readonly deleted: readonly string[];
  readonly gone: readonly string[];
  readonly untagged: readonly string[];
  /** Messages by name. */
  readonly failed: Readonly<Record<string, string>>;
}

async function run(
  planned: readonly PlannedItem[],
  now: readonly Item[],
  o: {
    readonly refuses?: readonly string[];
    readonly deletions?: Partial<ImageDeletions>;
    readonly signal?: AbortSignal;
    readonly clock?: Clock;
  } = {},
): Promise<Ran> {
  const requests: string[][] = [];
  const [deleted, gone, untagged, failed]: [string[], string[], string[], Record<string, string>] = [[], [], [], {}];
  const plan: RepositoryPlan = { place: PLACE, kind: 'images', inventory: id('inventory'), items: planned };
  const inventory: Inventory = { place: PLACE, repository: 'app', kind: 'images', items: now, untags: true };
  const deletions: ImageDeletions = {
    deleteImages: async (digests) => {
      requests.push(digests.map(named));
      const refused = digests.filter((digest) => o.refuses?.includes(named(digest)) === true);
      return refused.map((digest) => ({ id: digest, failure: new Failure('CONFLICT', 'an index names it') }));
    },
    removeTags: async (tags: readonly TagOf[]) => {
      requests.push(tags.map(({ tag }) => tag));
      return [];
    },
    ...o.deletions,
  };
  const outcomes = {
    deleted: (one: PlannedItem) => void deleted.push(named(one.id)),
    gone: (one: PlannedItem) => void gone.push(named(one.id)),
    untagged: (_: PlannedItem, tags: readonly string[]) => void untagged.push(...tags),
    failed: (one: string, failure: Failure) => void (failed[named(one)] = failure.message),
  };
  await pruneImages(plan, inventory, deletions, outcomes, { clock: o.clock ?? manualClock(), signal: o.signal });
  return { requests, deleted, gone, untagged, failed };
}

const INDEX = item('index', { tags: ['v1'], children: [id('child')] });
const GROUP = [going('index', { tags: ['v1'] }), going('child'), going('signature')];
const MEMBERS = [INDEX, item('child'), item('signature', { subject: id('child') })];

describe('deleting the images of a plan', () => {
  test('deletes an index before its children, and an image before its referrers', async () => {
    const { requests, deleted, failed } = await run(GROUP, MEMBERS);
    expect(requests).toEqual([['index'], ['child'], ['signature']]);
    expect({ deleted, failed }).toEqual({ deleted: ['index', 'child', 'signature'], failed: {} });
  });

  test('removes tags before anything else', async () => {
    const tagged = going('other', { action: 'untag', tags: ['a', 'b'], untag: ['b'] });
    const { requests, untagged } = await run([...GROUP, tagged], [...MEMBERS, item('other', { tags: ['a', 'b'] })]);
    expect(requests[0]).toEqual(['b']);
    expect(untagged).toEqual(['b']);
  });

  test('leaves an image that was tagged since, and everything that belongs to it', async () => {
    const now = [{ ...INDEX, tags: ['v1', 'production'] }, ...MEMBERS.slice(1)];
    const { requests, failed } = await run(GROUP, now);
    expect(requests).toEqual([]);
    expect(failed['index']).toBe(
      `delete ${PLACE}@${id('index')}: it has the tag production since the plan was made; it stays`,
    );
    expect(failed['child']).toContain('it belongs to sha256:');
    expect(Object.keys(failed)).toEqual(['index', 'child', 'signature']);
  });

  test('leaves a child that a newer index lists', async () => {
    const { deleted, failed } = await run(GROUP, [...MEMBERS, item('late', { tags: ['v2'], children: [id('child')] })]);
    expect(deleted).toEqual(['index']);
    expect(Object.keys(failed)).toEqual(['child', 'signature']);
  });

  test('leaves the children of an index that the registry does not delete', async () => {
    const { requests, failed } = await run(GROUP, MEMBERS, { refuses: ['index'] });
    expect(requests).toEqual([['index']]);
    expect(failed).toMatchObject({ index: 'an index names it', child: expect.stringContaining('was not deleted') });
  });

  test('retries a child once that its registry still considers part of the deleted index', async () => {
    const refusals = ['child'];
    const requests: (readonly string[])[] = [];
    const deleteImages: ImageDeletions['deleteImages'] = async (digests) => {
      requests.push(digests.map(named));
      const refused = digests.filter((digest) => refusals[0] === named(digest) && refusals.pop() !== undefined);
      return refused.map((digest) => ({ id: digest, failure: new Failure('CONFLICT', 'an index names it') }));
    };
    const { deleted, failed } = await run(GROUP, MEMBERS, { deletions: { deleteImages }, clock: fakeClock() });
    expect(requests).toEqual([['index'], ['child'], ['child'], ['signature']]);
    expect({ deleted, failed }).toEqual({ deleted: ['index', 'child', 'signature'], failed: {} });
  });

  test('leaves a child that its registry refuses twice, with its signature', async () => {
    const { requests, failed } = await run(GROUP, MEMBERS, { refuses: ['child'], clock: fakeClock() });
    expect(requests).toEqual([['index'], ['child'], ['child']]);
    expect(Object.keys(failed)).toEqual(['child', 'signature']);
  });

  test('leaves an image whose other tag is gone, instead of removing its last', async () => {
    const tagged = going('other', { action: 'untag', tags: ['a', 'b'], untag: ['b'] });
    const { requests, failed } = await run([tagged], [item('other', { tags: ['b'] })]);
    expect(requests).toEqual([]);
    expect(failed['other']).toContain('the tag that was to stay is gone');
  });

  test('counts missing images as deleted, also an image without its children', async () => {
    const { gone, deleted } = await run(GROUP, [item('child')]);
    expect({ gone, deleted }).toEqual({ gone: ['index', 'signature'], deleted: ['child'] });
  });

  test('deletes images whose cosign tags name each other', async () => {
    const tagOf = (name: string): string => `${id(name).replace(':', '-')}.sig`;
    const [a, b] = [item('a', { tags: [tagOf('b')] }), item('b', { tags: [tagOf('a')] })];
    const planned = [going('a', { tags: a.tags, group: id('a') }), going('b', { tags: b.tags, group: id('a') })];
    expect((await run(planned, [a, b])).deleted).toEqual(['a', 'b']);
  });

  test('finishes the image that it has begun when it is stopped, and begins no other', async () => {
    const stop = new AbortController();
    const requests: string[] = [];
    const deleteImages: ImageDeletions['deleteImages'] = async (digests, options) => {
      stop.abort();
      expect(options?.signal?.aborted).toBe(false);
      requests.push(...digests.map(named));
      return [];
    };
    const many = Array.from({ length: 98 }, (_, at) => `filler ${at}`);
    const planned = [...GROUP, ...many.map((name) => going(name, { group: id(name) }))];
    const now = [...MEMBERS, ...many.map((name) => item(name))];
    const work = run(planned, now, { deletions: { deleteImages }, signal: stop.signal });
    await expect(work).rejects.toMatchObject({ code: 'ABORTED' });
    expect(requests).toContain('signature');
    expect(requests).not.toContain(id('filler 97'));
  });

  test('is given up when a registry does not answer within the grace period of a stop', async () => {
    const clock = manualClock();
    const stop = new AbortController();
    const plan: RepositoryPlan = { place: PLACE, kind: 'images', inventory: id('inventory'), items: GROUP };
    const inventory: Inventory = { place: PLACE, repository: 'app', kind: 'images', items: MEMBERS, untags: true };
    const hangs = Promise.withResolvers<readonly []>();
    const begun = Promise.withResolvers<void>();
    const deletions: ImageDeletions = {
      deleteImages: async (_, options) => {
        options?.signal?.addEventListener('abort', () => hangs.reject(new Failure('ABORTED', 'stopped')));
        begun.resolve();
        return hangs.promise;
      },
      removeTags: async () => [],
    };
    const ignore = (): void => undefined;
    const outcomes = { deleted: ignore, gone: ignore, untagged: ignore, failed: ignore };
    const work = pruneImages(plan, inventory, deletions, outcomes, { clock, signal: stop.signal });
    work.catch(() => undefined);
    await begun.promise;
    stop.abort();
    await clock.advance(9_999);
    expect(
      await Promise.race([
        work.then(
          () => 'ended',
          () => 'ended',
        ),
        Promise.resolve('waits'),
      ]),
    ).toBe('waits');
    await clock.advance(1);
    await expect(work).rejects.toMatchObject({ code: 'ABORTED' });
  });
});
