/** Says what is wrong with the setting at a path, and what is allowed. */
export type Refuse = (path: readonly (string | number)[], message: string) => void;

/** Characters of a list in JSON, each with so many more. */
export function sizeOf(list: readonly string[], more: number): number {
  return list.reduce((sum, one) => sum + one.length + more, 0);
}
