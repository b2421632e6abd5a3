import { isReferrersTag } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import type { ListedImage } from './backends.ts';
import { isListAmong } from './list-of-referrers.ts';

/** An image of a repository, before it is chosen. */
export interface SelectableImage {
  /** Absent: an image without one. */
  readonly tag: string | undefined;
  /** Known where the list of the registry has it (ECR). */
  readonly digest: string | undefined;
  readonly pushedAtMs: number | undefined;
  /** Whether the tag, which looks like that of a list of referrers (`sha256-…`), is known to name an image. Default false. */
  readonly namesImage?: boolean | undefined;
}

/**
 * Chooses from all images of one repository at once: one for each tag, and one for each manifest without a tag. Choosing from what was chosen
 * takes all of it.
 */
export type SelectImages = (images: readonly SelectableImage[]) => readonly SelectableImage[];

/** The tags and the untagged manifests that `select` takes of a whole list. */
export function chosenImages(
  select: SelectImages,
  manifests: readonly Pick<ListedImage, 'digest' | 'tags' | 'pushedAt' | 'mediaType'>[],
): { readonly tags: ReadonlySet<string>; readonly untagged: ReadonlySet<Digest> } {
  const images: SelectableImage[] = [];
  const namesImage = imageNames(manifests);
  for (const listed of manifests) {
    const { digest, tags } = listed;
    const pushedAtMs = listed.pushedAt?.getTime();
    if (tags.length === 0) images.push({ tag: undefined, digest, pushedAtMs });
    for (const tag of tags) images.push({ tag, digest, pushedAtMs, namesImage: namesImage(tag, listed) });
  }
  const tags = new Set<string>();
  const untagged = new Set<string | undefined>();
  for (const { tag, digest } of select(images)) {
    if (tag === undefined) untagged.add(digest);
    else tags.add(tag);
  }
  const digests = Array.from(manifests, ({ digest }) => digest).filter((digest) => untagged.has(digest));
  return { tags, untagged: new Set(digests) };
}

/** Returns whether a tag of a whole list names an image, although it looks like that of a list of referrers. */
export function imageNames(
  manifests: readonly Pick<ListedImage, 'digest'>[],
): (tag: string, listed: Pick<ListedImage, 'digest' | 'mediaType'>) => boolean {
  const digests = new Set(manifests.map(({ digest }) => digest));
  return (tag, { digest, mediaType }) =>
    isReferrersTag(tag) &&
    // the list does not show a tag that was pushed just now, nor what it stands for
    mediaType !== undefined &&
    !isListAmong(tag, { digest, mediaType }, (subject) => digests.has(subject));
}

/** The names that `select` takes of tags of which nothing else is known. */
export function chosenTags(select: SelectImages, tags: readonly string[]): readonly string[] {
  const images = tags.map((tag) => ({ tag, digest: undefined, pushedAtMs: undefined }));
  return select(images).flatMap(({ tag }) => (tag === undefined ? [] : [tag]));
}
