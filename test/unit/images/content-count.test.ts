import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { ContentCount } from '../../../worker/images/content-count.ts';
import type { Digest } from '../../../worker/oci/digest.ts';

const digest = (id: number): Digest => `sha256:${String(id).padStart(64, '0')}`;
/** A size that depends on the digest. */
const size = (id: number): number => (id * 37) % 101;

const IMAGE = fc.record({ tags: fc.nat({ max: 3 }), content: fc.array(fc.nat({ max: 15 }), { maxLength: 8 }) });
const PLACE = fc.array(fc.array(IMAGE, { maxLength: 5 }), { maxLength: 5 });

function sumOf(ids: Iterable<number>): number {
  let sum = 0;
  for (const id of ids) sum += size(id);
  return sum;
}

test('counts each blob once in the place, once a repository, and once a tag', () => {
  fc.assert(
    fc.property(PLACE, (place) => {
      const count = new ContentCount();
      for (const [index, images] of place.entries()) {
        count.repository('registry.example.com', `repository-${index}`);
        for (const { tags, content } of images)
          count.image(
            tags,
            content.map((id) => ({ digest: digest(id), size: size(id) })),
          );
      }
      const sets = place.map((images) => new Set(images.flatMap(({ content }) => content)));
      const stats = count.stats();
      expect(stats.uniqueBytes).toBe(sumOf(new Set(sets.flatMap((ids) => [...ids]))));
      expect(stats.repositoryBytes).toBe(sets.reduce((sum, ids) => sum + sumOf(ids), 0));
      const each = place.flat().map(({ tags, content }) => sumOf(new Set(content)) * Math.max(1, tags));
      expect(stats.archiveBytes).toBe(each.reduce((a, b) => a + b, 0));
      for (const [index, { bytes, ownBytes }] of stats.repositories.entries()) {
        const others = new Set(sets.flatMap((ids, other) => (other === index ? [] : [...ids])));
        expect(bytes).toBe(sumOf(sets[index] ?? []));
        expect(ownBytes).toBe(sumOf([...(sets[index] ?? [])].filter((id) => !others.has(id))));
      }
      for (const one of stats.shared) {
        const having = place.flat().filter(({ content }) => content.some((id) => digest(id) === one.digest));
        expect(one.images).toBe(having.length);
        expect(one.images).toBeGreaterThan(1);
      }
    }),
  );
});
