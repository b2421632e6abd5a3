import type { Digest } from '../oci/digest.ts';
import { matchesPattern } from '../oci/location.ts';
import type { Snapshot, SnapshotRepository } from '../store/snapshot.ts';
import { compareStrings } from '../util/text.ts';

/** A name of an image: a tag of a repository, or the digest of an image without one. */
export interface ImageName {
  readonly repository: string;
  /** Absent: an untagged image. */
  readonly tag?: string;
  readonly digest?: Digest;
}

/** A name that stands for another image than before, or for the same image with other referrers (`referrers`). */
export interface ImageChange extends ImageName {
  readonly kind: 'new' | 'moved' | 'referrers' | 'deleted';
  /** What it stood for. Absent: new. */
  readonly before?: Digest;
}

/** What a name stands for. */
interface RecordedName extends ImageName {
  readonly digest: Digest;
  /** What refers to the image, sorted. Absent: the snapshot does not list all referrers. */
  readonly referrers?: readonly Digest[];
}

/** What a side of the comparison has: a registry, or what a snapshot recorded of one. */
export interface Recorded {
  /** By `repository:tag`, or `repository@digest` of an untagged image. */
  readonly names: ReadonlyMap<string, RecordedName>;
  /** Whether a name that this side does not have did not exist then. */
  readonly knows: (name: ImageName) => boolean;
}

/** The key of a name. */
export function keyOf({ repository, tag, digest }: ImageName): string {
  return tag === undefined ? `${repository}@${digest}` : `${repository}:${tag}`;
}

/** What changed from `a` to `b`, by name. A name that one side does not have, and may have had, is not a change. Pure. */
export function changesBetween(a: Recorded, b: Recorded): readonly ImageChange[] {
  const changes: ImageChange[] = [];
  for (const [key, { referrers, ...name }] of b.names) {
    const before = a.names.get(key);
    if (before === undefined) {
      if (a.knows(name)) changes.push({ kind: 'new', ...name });
    } else if (before.digest !== name.digest) changes.push({ kind: 'moved', ...name, before: before.digest });
    else if (!sameReferrers(before.referrers, referrers))
      changes.push({ kind: 'referrers', ...name, before: before.digest });
  }
  for (const [key, { digest, referrers: _, ...name }] of a.names)
    if (!b.names.has(key) && b.knows({ ...name, digest }))
      changes.push({ kind: 'deleted', ...name, ...(name.tag === undefined ? { digest } : {}), before: digest });
  return changes.sort((x, y) => compareStrings(keyOf(x), keyOf(y)));
}

/** Whether both sides list the same, or one of them does not list all. */
function sameReferrers(a: readonly Digest[] | undefined, b: readonly Digest[] | undefined): boolean {
  if (a === undefined || b === undefined) return true;
  return a.length === b.length && a.every((digest, index) => digest === b[index]);
}

/** What a snapshot recorded; of an archived image, too, that it was there. */
export function recordedIn({ repositories, scope, failures }: Snapshot): Recorded {
  const names = new Map<string, RecordedName>();
  for (const { name: repository, images } of repositories)
    for (const { digest, tags, referrers, unchecked, archived } of images)
      for (const tag of tags.length === 0 ? [undefined] : tags) {
        const isKnown = scope.referrers && unchecked === undefined && archived !== true;
        const found = isKnown ? { referrers: referrers.map((one) => one.digest).sort(compareStrings) } : {};
        const name = { repository, ...(tag === undefined ? {} : { tag }), digest, ...found };
        names.set(keyOf(name), name);
      }
  const byName = new Map<string, SnapshotRepository>(repositories.map((one) => [one.name, one]));
  const failed = new Set(failures.map((one) => keyOf({ repository: one.repository ?? '', ...one })));
  const failedWhole = new Set(
    failures.flatMap(({ repository, tag, digest }) =>
      tag === undefined && digest === undefined ? (repository ?? []) : [],
    ),
  );
  return {
    names,
    knows: ({ repository, tag, digest }) => {
      if (
        failed.has(
          keyOf({ repository, ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) }),
        )
      )
        return false;
      const found = byName.get(repository);
      if (found === undefined)
        return scope.listed && matchesPattern(scope.repositories, repository) && !failedWhole.has(repository);
      if (!found.complete) return false;
      if (tag === undefined) return scope.untagged && scope.tags === undefined;
      return scope.tags === undefined || matchesPattern(scope.tags, tag);
    },
  };
}
