/** Says what is wrong with the setting at a path, and what is allowed. */
export type Refuse = (path: readonly (string | number)[], message: string) => void;

/** Characters of a list in JSON, each with so many more. */
export function sizeOf(list: readonly string[], more: number): number {
  return list.reduce((sum, one) => sum + one.length + more, 0);
}

/** Characters of an ARN beside the name of its repository. */
const ARN_OF_REPOSITORY = 50;

/** Refuses names of repositories whose ARNs have more characters than a role has room for. `advice`: how to need fewer. */
export function refuseTooMany(
  names: readonly string[],
  { path, room, advice }: { readonly path: readonly string[]; readonly room: number; readonly advice: string },
  refuse: Refuse,
): void {
  const characters = sizeOf(names, ARN_OF_REPOSITORY);
  if (characters > room)
    refuse(
      path,
      `${names.length} names are more than a role has room for, some ${Math.floor((room / characters) * names.length)}: ${advice}`,
    );
}
