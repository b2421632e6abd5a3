import type { Source } from '../content/content.ts';
import { isDigest, type Digest } from '../oci/digest.ts';
import { isIndexType } from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';
import { ifFound } from '../util/failure.ts';

/**
 * Whether `tag`, which looks like the tag of a list of referrers, stands for one of an image that is there: then its referrers come along with the
 * image. Every other such tag names an image. `has`: which manifests are known to be there; others are asked for.
 */
export async function isListOfReferrers(
  tag: string,
  { digest, mediaType = '' }: { readonly digest: Digest; readonly mediaType?: string | undefined },
  source: Source,
  { has, ...options }: Abortable & { readonly has?: ((subject: Digest) => boolean) | undefined },
): Promise<boolean> {
  if (!isIndexType(mediaType)) return false;
  const subject = tag.replace('-', ':');
  // only the beginning of a longer digest is in the tag
  if (!isDigest(subject)) return true;
  // an image may have its own digest for a tag
  if (subject === digest) return false;
  return has?.(subject) === true || (await ifFound(source.resolve(subject, options))) !== undefined;
}
