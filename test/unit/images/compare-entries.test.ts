import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compareEntries, indexEntries, type CompareBy } from '../../../worker/images/compare-entries.ts';
import type { PlaceEntry } from '../../../worker/images/place-entry.ts';
import { digestOf } from '../../../worker/oci/digest.ts';

const entry: fc.Arbitrary<PlaceEntry> = fc
  .record({
    registry: fc.constantFrom('a.example', 'b.example'),
    repository: fc.constantFrom('app', 'team/app'),
    tag: fc.option(fc.constantFrom('v1', 'v2', 'v3'), { nil: undefined }),
    image: fc.nat(4),
    pushedAt: fc.option(fc.constantFrom('2026-11-30T00:00:00.000Z', '2026-12-01T00:00:00.000Z'), { nil: undefined }),
  })
  .map(({ image, ...of }) => Object.assign(of, { digest: digestOf(Buffer.from(String(image))), where: 'x' }));
const entries = fc.array(entry, { maxLength: 12 });
const by = fc.constantFrom<CompareBy>('name', 'digest');

describe('a comparison of entries', () => {
  test('finds a place equal to itself', () => {
    fc.assert(
      fc.property(entries, by, fc.boolean(), (all, how, withRegistry) => {
        const index = indexEntries(all, how, withRegistry);
        expect(compareEntries(index, index, withRegistry)).toEqual({ equal: index.size, differences: [] });
      }),
    );
  });

  test('accounts for every name of both places once, and is symmetric', () => {
    fc.assert(
      fc.property(entries, entries, by, fc.boolean(), (left, right, how, withRegistry) => {
        const [a, b] = [indexEntries(left, how, withRegistry), indexEntries(right, how, withRegistry)];
        const there = compareEntries(a, b, withRegistry);
        const back = compareEntries(b, a, withRegistry);
        const count = (found: typeof there, kind: string): number =>
          found.differences.filter((one) => one.kind === kind).length;
        expect(there.equal + count(there, 'missing') + count(there, 'different')).toBe(a.size);
        expect(there.equal + count(there, 'extra') + count(there, 'different')).toBe(b.size);
        expect([count(back, 'missing'), count(back, 'extra')]).toEqual([
          count(there, 'extra'),
          count(there, 'missing'),
        ]);
        for (const { kind, digest, otherDigest } of there.differences)
          if (kind === 'different') expect(digest).not.toBe(otherDigest);
      }),
    );
  });

  test('takes the newest of several entries of one name, in any order', () => {
    const of = (image: string, pushedAt: string): PlaceEntry => ({
      repository: 'app',
      tag: 'v1',
      digest: digestOf(Buffer.from(image)),
      pushedAt,
      where: image,
    });
    const [old, current] = [of('old', '2026-11-30T00:00:00.000Z'), of('new', '2026-12-01T00:00:00.000Z')];
    for (const all of [
      [old, current],
      [current, old],
    ])
      expect([...indexEntries(all, 'name', false).values()]).toEqual([current]);
  });
});
