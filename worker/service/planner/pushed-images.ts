import type { Source } from '../../content/content.ts';
import type { ListedImage } from '../../images/backends.ts';
import { cosignSubject } from '../../oci/derived-tag.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Candidate } from '../../rules/rule.ts';
import type { Abortable } from '../../util/abort.ts';
import { Failure, ifFound } from '../../util/failure.ts';
import type { Pushed } from './source-list.ts';

/** The images that a listed one refers to. */
export function subjectsOf({ subject, tags }: ListedImage): readonly Digest[] {
  const signed = tags.map(cosignSubject).filter((about) => about !== undefined);
  return subject === undefined ? signed : [subject, ...signed];
}

/** The list as it is after the push, where it does not show the push yet. UNAVAILABLE for a push without a tag that it does not show. */
export async function addPushed(
  source: Source,
  rows: readonly ListedImage[],
  { tag, digest }: Pushed,
  nowMs: number,
  options: Abortable,
): Promise<readonly ListedImage[]> {
  const isTagged = (row: ListedImage): boolean => tag === undefined || row.tags.includes(tag);
  if (rows.some((row) => row.digest === digest && isTagged(row))) return rows;
  const now = await ifFound(source.resolve(tag ?? digest, options));
  if (now === undefined) return rows;
  // what it refers to is known by the list alone
  if (tag === undefined) throw new Failure('UNAVAILABLE', `${digest} was pushed, but the list does not show it yet`);
  const row = { mediaType: undefined, pushedAt: new Date(nowMs), status: 'ACTIVE', subject: undefined } as const;
  return [
    ...rows.map((other) => ({ ...other, tags: other.tags.filter((name) => name !== tag) })),
    { ...row, digest: now.digest, tags: [tag] },
  ];
}

/** The images that any of the pushes may have changed, in the order of `selected`. */
export function affectedByAny(
  pushes: readonly Pushed[],
  selected: readonly Candidate[],
  rows: readonly ListedImage[],
): readonly Candidate[] {
  const affected = new Set(pushes.flatMap((push) => affectedBy(push, selected, rows)));
  return selected.filter((candidate) => affected.has(candidate));
}

/** The images that the push may have changed. All of them for a push that refers to an image which is not selected itself, such as a child. */
function affectedBy(
  { tag, digest }: Pushed,
  selected: readonly Candidate[],
  rows: readonly ListedImage[],
): readonly Candidate[] {
  const subjects = new Set<string | undefined>(
    rows.flatMap((row) =>
      row.digest === digest || (tag !== undefined && row.tags.includes(tag)) ? subjectsOf(row) : [],
    ),
  );
  const known = new Set<string | undefined>(selected.map((candidate) => candidate.digest));
  if ([...subjects].some((subject) => !known.has(subject))) return selected;
  return selected.filter(
    (candidate) =>
      (tag !== undefined && candidate.tag === tag) || candidate.digest === digest || subjects.has(candidate.digest),
  );
}
