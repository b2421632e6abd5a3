import type { Digest } from '../oci/digest.ts';
import { compareStrings } from '../util/text.ts';
import type { PlaceEntry } from './place-entry.ts';

/** How two places differ in one name. */
export interface Difference {
  /** `missing`: only the first place has it. `extra`: only the second has it. `different`: the name stands for different images. */
  readonly kind: 'missing' | 'different' | 'extra';
  /** Absent where each place has one registry: names are compared without it. */
  readonly registry?: string | undefined;
  /** As the second place names it. */
  readonly repository: string;
  readonly tag?: string | undefined;
  /** What the name stands for in the first place, and in the second. */
  readonly digest?: Digest | undefined;
  readonly otherDigest?: Digest | undefined;
  /** The image that it refers to. Absent: an image. */
  readonly subject?: Digest | undefined;
  /** Where it is in the first place, and in the second. */
  readonly where?: string | undefined;
  readonly otherWhere?: string | undefined;
}

/** What is compared: names (`name`, the default), or which images a repository has, whatever their tags (`digest`). */
export type CompareBy = 'name' | 'digest';

/** The entries of one place, by the name that they are compared by. */
export type EntryIndex = ReadonlyMap<string, PlaceEntry>;

/** What stands for an entry in a comparison; undefined for one that cannot be compared: its digest is not known. */
function nameOf(entry: PlaceEntry, by: CompareBy, withRegistry: boolean): string | undefined {
  const { registry = '', repository, tag, digest } = entry;
  const place = withRegistry ? `${registry}/${repository}` : repository;
  if (digest === undefined) return undefined;
  return by === 'digest' || tag === undefined ? `${place}@${digest}` : `${place}:${tag}`;
}

/**
 * The entries by name. Where two have one name, as archives of several days do, the one that was pushed last counts; among those without a time, the
 * later one.
 */
export function indexEntries(entries: Iterable<PlaceEntry>, by: CompareBy, withRegistry: boolean): EntryIndex {
  const index = new Map<string, PlaceEntry>();
  for (const entry of entries) {
    const name = nameOf(entry, by, withRegistry);
    if (name === undefined) continue;
    const before = index.get(name);
    if (before === undefined || (before.pushedAt ?? '') <= (entry.pushedAt ?? '')) index.set(name, entry);
  }
  return index;
}

/** Every difference, by repository and tag, and how many names are equal. Pure. */
export function compareEntries(
  a: EntryIndex,
  b: EntryIndex,
  withRegistry: boolean,
): { readonly equal: number; readonly differences: readonly Difference[] } {
  const differences: Difference[] = [];
  let equal = 0;
  for (const [name, entry] of a) {
    const other = b.get(name);
    if (other === undefined) differences.push(differenceOf('missing', entry, undefined, withRegistry));
    else if (other.digest === entry.digest) equal++;
    else differences.push(differenceOf('different', entry, other, withRegistry));
  }
  for (const [name, other] of b)
    if (!a.has(name)) differences.push(differenceOf('extra', undefined, other, withRegistry));
  return { equal, differences: differences.sort(compareDifferences) };
}

function differenceOf(
  kind: Difference['kind'],
  entry: PlaceEntry | undefined,
  other: PlaceEntry | undefined,
  withRegistry: boolean,
): Difference {
  const { registry, repository, tag, subject } = other ?? entry ?? { repository: '' };
  return {
    kind,
    ...(withRegistry && registry !== undefined ? { registry } : {}),
    repository,
    ...(tag === undefined ? {} : { tag }),
    ...(entry === undefined ? {} : { digest: entry.digest, where: entry.where }),
    ...(other === undefined ? {} : { otherDigest: other.digest, otherWhere: other.where }),
    ...(subject === undefined ? {} : { subject }),
  };
}

function compareDifferences(a: Difference, b: Difference): number {
  const key = ({ registry = '', repository, tag = '', digest, otherDigest }: Difference): readonly string[] => [
    registry,
    repository,
    tag,
    digest ?? otherDigest ?? '',
  ];
  const [left, right] = [key(a), key(b)];
  for (const [index, part] of left.entries()) {
    const order = compareStrings(part, right[index] ?? '');
    if (order !== 0) return order;
  }
  return 0;
}
