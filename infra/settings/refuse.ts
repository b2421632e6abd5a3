/** Reports what is wrong with the setting at a path, and what is allowed. */
export type Refuse = (path: readonly (string | number)[], message: string) => void;

/** The characters of all strings of a list, with `more` added for each. */
export function sizeOf(list: readonly string[], more: number): number {
  return list.reduce((sum, one) => sum + one.length + more, 0);
}

/** Characters of an ARN without the name of its repository. */
const ARN_OF_REPOSITORY = 50;

/** Refuses names of repositories whose ARNs do not fit into a role. `advice`: how to need fewer characters. */
export function refuseTooMany(
  names: readonly string[],
  { path, room, advice }: { readonly path: readonly string[]; readonly room: number; readonly advice: string },
  refuse: Refuse,
): void {
  const characters = sizeOf(names, ARN_OF_REPOSITORY);
  if (characters > room)
    refuse(
      path,
      `${names.length} names are more than a role has room for, which is some ${Math.floor((room / characters) * names.length)}: ${advice}`,
    );
}
