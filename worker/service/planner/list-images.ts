import type { Source } from '../../content/content.ts';
import type { ListedImage } from '../../images/backends.ts';
import { imageNames } from '../../images/select-images.ts';
import { isDigest } from '../../oci/digest.ts';
import { isIndexType } from '../../oci/manifest.ts';
import type { Candidate, CopyRule } from '../../rules/rule.ts';
import { select } from '../../rules/select.ts';
import { append } from '../../util/lists.ts';
import type { Abortable } from '../../util/abort.ts';
import { shortened } from './plan-jobs.ts';
import { addPushed, affectedByAny, subjectsOf } from './pushed-images.ts';
import { byName, type Pushed, type SourceList } from './source-list.ts';
import { untaggedImages } from './untagged-images.ts';

/** The list of a registry that lists images with their tags, as ECR does: nothing else is asked for each of them. */
export async function listImages(
  rule: CopyRule,
  source: Source,
  list: AsyncIterable<ListedImage>,
  nowMs: number,
  options: Abortable & { readonly pushed?: readonly Pushed[] | undefined },
): Promise<SourceList> {
  const { pushed } = options;
  let rows: readonly ListedImage[] = await Array.fromAsync(list);
  for (const push of pushed ?? []) rows = await addPushed(source, rows, push, nowMs, options);
  const active = rows.filter(({ status }) => status === 'ACTIVE');
  const namesImage = imageNames(rows);
  const candidates: Candidate[] = [];
  const referrers = new Map<string, string[]>();
  for (const row of active) {
    const pushedAtMs = row.pushedAt?.getTime();
    for (const tag of row.tags)
      candidates.push({ tag, digest: row.digest, pushedAtMs, namesImage: namesImage(tag, row) });
    for (const subject of subjectsOf(row)) {
      const others = referrers.get(shortened(subject)) ?? [];
      others.push(shortened(row.digest));
      referrers.set(shortened(subject), others);
    }
  }
  if (rule.tags.untagged) append(candidates, await untaggedImages(source, active, nowMs, options));
  const selected = select(candidates, rule.tags, nowMs).toSorted(byName);
  return {
    selected: pushed === undefined ? selected : affectedByAny(pushed, selected, active),
    resolve: async (some) => ({
      images: some.flatMap(({ tag, digest }) => (isDigest(digest) ? [{ tag, digest }] : [])),
      failed: [],
    }),
    referrers: async () => referrers,
    unreferenced: rows.every((row) => subjectsOf(row).length === 0),
    size: sizeOf(rows),
    bytes: new Map(active.flatMap(({ digest, sizeBytes }) => (sizeBytes === undefined ? [] : [[digest, sizeBytes]]))),
    archived: rows.filter(({ status }) => status !== 'ACTIVE'),
  };
}

/** An index is not an image of its own: ECR lists the images of its platforms beside it. */
function sizeOf(rows: readonly ListedImage[]): SourceList['size'] {
  const images = rows.filter(({ mediaType = '' }) => !isIndexType(mediaType));
  return { images: images.length, bytes: images.reduce((sum, { sizeBytes = 0 }) => sum + sizeBytes, 0) };
}
