import { compareStrings } from './text.ts';

/** The one of `words` that `word` was probably meant to be: at most a third of it is mistyped. */
export function suggest(word: string, words: readonly string[]): string | undefined {
  let best: { readonly word: string; readonly distance: number } | undefined;
  for (const candidate of words) {
    const distance = distanceOf(word.toLowerCase(), candidate.toLowerCase());
    if (distance <= Math.max(1, candidate.length / 3) && distance < (best?.distance ?? Infinity))
      best = { word: candidate, distance };
  }
  return best?.word;
}

/** The `most` of `words` that are nearest to `word`, the nearest first; the later of two that are as near. */
export function nearest(word: string, words: Iterable<string>, most: number): readonly string[] {
  return Array.from(words, (one) => ({ one, distance: distanceOf(word.toLowerCase(), one.toLowerCase()) }))
    .sort((a, b) => (a.distance === b.distance ? compareStrings(b.one, a.one) : a.distance - b.distance))
    .slice(0, most)
    .map(({ one }) => one);
}

/** Characters to insert, remove, replace or swap with their neighbour. */
function distanceOf(a: string, b: string): number {
  // a name is not mistyped that much
  if (Math.abs(a.length - b.length) > 8) return Infinity;
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let index = 1; index <= a.length; index++) {
    const next = [index];
    for (let j = 1; j <= b.length; j++) {
      const same = a[index - 1] === b[j - 1];
      const swapped = index > 1 && j > 1 && a[index - 1] === b[j - 2] && a[index - 2] === b[j - 1];
      next.push(
        Math.min(
          (row[j] ?? 0) + 1,
          (next[j - 1] ?? 0) + 1,
          (row[j - 1] ?? 0) + (same ? 0 : 1),
          swapped ? (before[j - 2] ?? 0) + 1 : Infinity,
        ),
      );
    }
    before = row;
    row = next;
  }
  return row[b.length] ?? 0;
}
