import { isDerivedTag } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import type { ListedImage } from './backends.ts';

/** An image of a repository, before it is chosen. */
export interface SelectableImage {
  /** Absent: an image without one. */
  readonly tag: string | undefined;
  /** Known where the list of the registry has it (ECR). */
  readonly digest: string | undefined;
  readonly pushedAtMs: number | undefined;
}

/**
 * Chooses from all images of one repository at once: one for each tag, and one for each manifest without a tag. Choosing from what was chosen
 * takes all of it.
 */
export type SelectImages = (images: readonly SelectableImage[]) => readonly SelectableImage[];

/** The tags and the untagged manifests that `select` takes of a list. */
export function chosenImages(
  select: SelectImages,
  manifests: Iterable<Pick<ListedImage, 'digest' | 'tags' | 'pushedAt'>>,
): { readonly tags: ReadonlySet<string>; readonly untagged: ReadonlySet<Digest> } {
  const images: SelectableImage[] = [];
  for (const { digest, tags, pushedAt } of manifests) {
    const pushedAtMs = pushedAt?.getTime();
    if (tags.length === 0) images.push({ tag: undefined, digest, pushedAtMs });
    for (const tag of tags) if (!isDerivedTag(tag)) images.push({ tag, digest, pushedAtMs });
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

/** The names that `select` takes of tags of which nothing else is known. */
export function chosenTags(select: SelectImages, tags: readonly string[]): readonly string[] {
  const images = tags.map((tag) => ({ tag, digest: undefined, pushedAtMs: undefined }));
  return select(images).flatMap(({ tag }) => (tag === undefined ? [] : [tag]));
}
