import type { Source } from '../../content/content.ts';
import type { ListedImage } from '../../images/backends.ts';
import { isDigest } from '../../oci/digest.ts';
import type { Candidate, CopyRule } from '../../rules/rule.ts';
import { select } from '../../rules/select.ts';
import { append } from '../../util/lists.ts';
import type { Abortable } from '../../util/abort.ts';
import { shortened } from './plan-jobs.ts';
import { addPushed, affectedBy, subjectsOf } from './pushed-images.ts';
import { byName, type Pushed, type SourceList } from './source-list.ts';
import { untaggedImages } from './untagged-images.ts';

/** The list of a registry that lists images with their tags, as ECR does: nothing else is asked for each of them. */
export async function listImages(
  rule: CopyRule,
  source: Source,
  list: AsyncIterable<ListedImage>,
  nowMs: number,
  options: Abortable & { readonly pushed?: Pushed | undefined },
): Promise<SourceList> {
  const listed = await Array.fromAsync(list);
  const rows = options.pushed === undefined ? listed : await addPushed(source, listed, options.pushed, nowMs, options);
  const active = rows.filter(({ status }) => status === 'ACTIVE');
  const candidates: Candidate[] = [];
  const referrers = new Map<string, string[]>();
  for (const row of active) {
    for (const tag of row.tags) candidates.push({ tag, digest: row.digest, pushedAtMs: row.pushedAt?.getTime() });
    for (const subject of subjectsOf(row)) {
      const others = referrers.get(shortened(subject)) ?? [];
      others.push(shortened(row.digest));
      referrers.set(shortened(subject), others);
    }
  }
  if (rule.tags.untagged) append(candidates, await untaggedImages(source, active, nowMs, options));
  const selected = select(candidates, rule.tags, nowMs).toSorted(byName);
  return {
    selected: options.pushed === undefined ? selected : affectedBy(options.pushed, selected, active),
    resolve: async (some) => ({
      images: some.flatMap(({ tag, digest }) => (isDigest(digest) ? [{ tag, digest }] : [])),
      failed: [],
    }),
    referrers: async () => referrers,
    archived: rows.length - active.length,
  };
}
