// Random registries, archives and policies, for the properties of the planner.
import * as fc from 'fast-check';
import type { Digest } from '../../../worker/oci/digest.ts';
import type { Inventory, Item } from '../../../worker/retention/inventory.ts';
import type { RepositoryPolicy } from '../../../worker/retention/policy.ts';

export const NOW = Date.UTC(2026, 11, 1, 2);
export const DAY = 24 * 60 * 60 * 1000;

/** The digest that stands for item `number`. */
export function digest(number: number): Digest {
  return `sha256:${number.toString(16).padStart(64, '0')}`;
}

const TAGS = ['v1.0', 'v1.1.0', 'v2.0', 'v2.1-rc1', 'prod-1', 'prod-2', 'pr-1', 'pr-2', 'pr-prod-3', 'main', 'latest'];
const PATTERNS = fc.subarray(['pr-*', 'prod-*', '/^v\\d/', 'main', '*', 'latest'], { minLength: 1 });
/** Half days, so that some share a moment, and some a day. */
const moment = fc.option(
  fc.nat(120).map((half) => NOW - (half * DAY) / 2),
  { nil: undefined, freq: 15 },
);
const some = fc.integer({ min: 1, max: 6 });
const days = fc.integer({ min: 1, max: 40 });

const anyPolicies: fc.Arbitrary<readonly RepositoryPolicy[]> = fc
  .record({
    untaggedAfterDays: days,
    keepLast: some,
    keepDays: days,
    expireAfterDays: days,
    keepDaily: some,
    keepWeekly: some,
    keepMonthly: some,
    keepYearly: some,
    keepTags: PATTERNS,
    keepSemver: fc.constantFrom('>=2', '<2', '*'),
    deleteTags: PATTERNS.map((patterns) => patterns.filter((one) => one !== '*')).filter((all) => all.length > 0),
    notPulledForDays: days,
  })
  // a few of them, as people write them
  .chain((all) => fc.subarray(Object.entries(all), { maxLength: 4 }))
  .map((entries) => [{ repositories: ['team/*'], ...Object.fromEntries(entries) }]);

/** Item `number` of a repository: its children, its subject and the items that its tags are about come before it. */
function item(number: number): fc.Arbitrary<Item & { readonly cosign: readonly string[] }> {
  const before = fc.nat(Math.max(0, number - 1));
  const kinds = fc.constantFrom(
    'index',
    'index',
    'referrer',
    'signature',
    'fallback',
    'foreign signature',
    ...Array<string>(6).fill('manifest'),
  );
  return fc
    .tuple(kinds, fc.uniqueArray(before, { maxLength: 3 }), before, moment, moment, fc.nat(29))
    .map(([kind, some_, one, pushedAtMs, pulledAtMs, luck]) => {
      const isAlone = number === 0;
      const suffix = ['sig', 'att', 'sbom'][luck % 3] ?? 'sig';
      const about = kind === 'foreign signature' ? digest(1000 + number) : digest(one);
      const tag = `${about.replace(':', '-')}${kind === 'fallback' ? '' : `.${suffix}`}`;
      const isSignature = kind === 'foreign signature' || (!isAlone && (kind === 'signature' || kind === 'fallback'));
      const hasChildren = !isAlone && (kind === 'index' || kind === 'fallback');
      return {
        id: digest(number),
        digest: digest(number),
        tags: [],
        cosign: isSignature ? [tag] : [],
        bytes: number,
        pushedAtMs,
        pulledAtMs,
        children: [...(hasChildren ? some_.map(digest) : []), ...(luck === 1 ? [digest(2000)] : [])],
        subject: kind === 'referrer' ? (isAlone ? digest(3000) : digest(one)) : undefined,
        held: luck === 2 ? 'a copy is being written' : undefined,
      };
    });
}

/** A repository: each tag is on one item, and an item may have several. */
const anyImages: fc.Arbitrary<Inventory> = fc
  .integer({ min: 1, max: 14 })
  .chain((length) =>
    fc.record({
      items: fc.tuple(...Array.from({ length }, (_, number) => item(number))),
      tags: fc.array(fc.nat(length + 3), { minLength: TAGS.length, maxLength: TAGS.length }),
      untags: fc.boolean(),
      incomplete: fc.constantFrom(...Array<undefined>(15).fill(undefined), 'the registry broke off'),
    }),
  )
  .map(({ items, tags, untags, incomplete }) => {
    const taken = new Set<string>();
    return {
      place: 'registry.example/team/app',
      repository: 'team/app',
      kind: 'images',
      untags,
      incomplete,
      items: items.map(({ cosign, ...one }, number) => ({
        ...one,
        tags: [
          ...cosign.filter((tag) => !taken.has(tag) && taken.add(tag)),
          ...TAGS.filter((_, index) => tags[index] === number),
        ],
      })),
    };
  });

/** A folder of archives. */
export const archives: fc.Arbitrary<Inventory> = fc
  .array(
    fc.record({
      tag: fc.constantFrom('v1.0', 'pr-1', 'main', undefined),
      pushedAtMs: moment,
      luck: fc.nat(9),
    }),
    { minLength: 1, maxLength: 12 },
  )
  .map((all) => ({
    place: 's3://backups/team/app',
    repository: 'team/app',
    kind: 'archives',
    untags: false,
    items: [
      { id: 'team/app/repository.json', tags: [], children: [], pushedAtMs: NOW - 400 * DAY },
      ...all.map(({ tag, pushedAtMs, luck }, number) => ({
        id: `team/app/${number}.tar`,
        tags: [],
        children: [],
        pushedAtMs,
        image: tag && `registry.example/team/app:${tag}`,
        etag: `"${number}"`,
        bad: luck === 0 ? 'it cannot be read' : undefined,
        held: luck === 1 ? 'locked until 2027-01-01' : undefined,
      })),
    ],
  }));

// without its bias, most values of fast-check are as small as possible
export const policies = fc.noBias(anyPolicies);
export const images = fc.noBias(anyImages);

/** The same inventory, listed in another order. */
export function reordered(inventory: Inventory, key: number): Inventory {
  const mix = <T>(list: readonly T[]): T[] =>
    list
      .toReversed()
      .slice(key % 3)
      .concat(list.toReversed().slice(0, key % 3));
  return {
    ...inventory,
    items: mix(inventory.items).map((one) =>
      Object.assign({}, one, { tags: mix(one.tags), children: mix(one.children) }),
    ),
  };
}
