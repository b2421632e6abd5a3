import type { Source } from '../content/content.ts';
import { isDigest, type Digest } from '../oci/digest.ts';
import { isIndexType } from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';
import { ifFound } from '../util/failure.ts';

interface ListedTag {
  /** What the tag stands for. */
  readonly digest: Digest;
  readonly mediaType?: string | undefined;
}

/**
 * Whether `tag`, which looks like the tag of a list of referrers, stands for the list of an image that exists: then its referrers come along with the
 * image. Every other such tag names an image. `has` knows manifests that exist; others are asked for.
 */
export async function isListOfReferrers(
  tag: string,
  { digest, mediaType }: ListedTag,
  source: Source,
  { has, ...options }: Abortable & { readonly has?: ((subject: Digest) => boolean) | undefined },
): Promise<boolean> {
  const known = isListAmong(tag, { digest, mediaType }, has ?? (() => false));
  if (known || !mayBeList(tag, { digest, mediaType })) return known;
  return (await ifFound(source.resolve(tag.replace('-', ':'), options))) !== undefined;
}

/** As `isListOfReferrers`, where `has` knows every manifest of the repository. Pure. */
export function isListAmong(tag: string, listed: ListedTag, has: (subject: Digest) => boolean): boolean {
  const subject = tag.replace('-', ':');
  // the tag has only the beginning of a longer digest
  return mayBeList(tag, listed) && (!isDigest(subject) || has(subject));
}

/** A list is an index, and its tag names another manifest: the tag of an image may be its own digest. */
function mayBeList(tag: string, { digest, mediaType = '' }: ListedTag): boolean {
  return isIndexType(mediaType) && tag.replace('-', ':') !== digest;
}
