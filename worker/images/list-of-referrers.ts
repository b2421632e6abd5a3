import type { Source } from '../content/content.ts';
import { isDigest, type Digest } from '../oci/digest.ts';
import { isIndexType } from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';
import { ifFound } from '../util/failure.ts';

/**
 * Whether `tag`, which looks like the tag of a list of referrers, stands for the list of an image that exists: then its referrers come along with the
 * image. Every other such tag names an image. `has` knows manifests that exist; others are asked for.
 */
export async function isListOfReferrers(
  tag: string,
  { digest, mediaType = '' }: { readonly digest: Digest; readonly mediaType?: string | undefined },
  source: Source,
  { has, ...options }: Abortable & { readonly has?: ((subject: Digest) => boolean) | undefined },
): Promise<boolean> {
  if (!isIndexType(mediaType)) return false;
  const subject = tag.replace('-', ':');
  // the tag has only the beginning of a longer digest
  if (!isDigest(subject)) return true;
  // the tag of an image may be its own digest
  if (subject === digest) return false;
  return has?.(subject) === true || (await ifFound(source.resolve(subject, options))) !== undefined;
}
