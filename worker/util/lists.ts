// For lists of any length: spread into the arguments of `push` or `Math.max`, a list of more than some 120,000 is a RangeError.

/** Adds `more` to the end of `list`. */
export function append<T>(list: T[], more: Iterable<T>): void {
  for (const one of more) list.push(one);
}

/** The highest of `numbers`, and at least `least`. */
export function highest(numbers: Iterable<number>, least: number): number {
  let found = least;
  for (const one of numbers) found = Math.max(found, one);
  return found;
}
