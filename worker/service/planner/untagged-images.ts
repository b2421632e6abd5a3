import type { Source } from '../../content/content.ts';
import { readAll } from '../../content/read.ts';
import type { ListedImage } from '../../images/backends.ts';
import type { Digest } from '../../oci/digest.ts';
import { childrenOf, isIndexType, MAX_MANIFEST_BYTES, parseManifest, type Descriptor } from '../../oci/manifest.ts';
import type { Candidate } from '../../rules/rule.ts';
import type { Abortable } from '../../util/abort.ts';
import { ifFound } from '../../util/failure.ts';
import { forEachOf } from '../../util/limit.ts';
import { REQUESTS_AT_ONCE } from './source-list.ts';

/** A push of an index begins with its images: until it is surely over they are not taken for images of their own. */
const PUSH_MS = 10 * 60_000;

/** Images without a tag that are no child of an index and refer to no image. */
export async function untaggedImages(
  source: Source,
  rows: readonly ListedImage[],
  nowMs: number,
  options: Abortable,
): Promise<readonly Candidate[]> {
  const untagged = rows.filter(
    ({ tags, subject, pushedAt }) =>
      tags.length === 0 && subject === undefined && (pushedAt === undefined || pushedAt.getTime() <= nowMs - PUSH_MS),
  );
  if (untagged.length === 0) return [];
  const children = await childrenOfIndexes(source, rows, options);
  return untagged
    .filter(({ digest }) => !children.has(digest))
    .map(({ digest, pushedAt }) => ({ tag: undefined, digest, pushedAtMs: pushedAt?.getTime() }));
}

/** The children of all indexes. The list does not show them, so each index is read. That is why untagged images are not selected by default. */
async function childrenOfIndexes(
  source: Source,
  rows: readonly ListedImage[],
  options: Abortable,
): Promise<ReadonlySet<Digest>> {
  const children = new Set<Digest>();
  const indexes = rows.filter(({ mediaType }) => mediaType !== undefined && isIndexType(mediaType));
  await forEachOf(
    indexes,
    REQUESTS_AT_ONCE,
    async ({ digest }, taskOptions) => {
      const found = await ifFound(readChildren(source, digest, taskOptions));
      for (const child of found ?? []) children.add(child.digest);
    },
    options,
  );
  return children;
}

async function readChildren(source: Source, index: Digest, options: Abortable): Promise<readonly Descriptor[]> {
  const descriptor = await source.resolve(index, options);
  const bytes = await readAll(source, descriptor, MAX_MANIFEST_BYTES, options);
  return childrenOf(parseManifest(bytes, descriptor.mediaType));
}
