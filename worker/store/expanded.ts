import { compareStrings } from '../util/text.ts';
import type { Snapshot, SnapshotContent, SnapshotImage, SnapshotReferrer } from './snapshot.ts';

/** A referrer with its content itself, instead of places in the list of a snapshot. */
export interface ExpandedReferrer extends Omit<SnapshotReferrer, 'content'> {
  readonly content: readonly SnapshotContent[];
}

/** An image with its content itself, instead of places in the list of a snapshot: what makes sense without its snapshot. */
export interface ExpandedImage extends Omit<SnapshotImage, 'content' | 'referrers'> {
  readonly content: readonly SnapshotContent[];
  readonly referrers: readonly ExpandedReferrer[];
}

/** An image of `snapshot` with its content itself. The parts are those of the snapshot, not copies. */
export function expandImage(snapshot: Pick<Snapshot, 'content'>, image: SnapshotImage): ExpandedImage {
  const at = (places: readonly number[]): readonly SnapshotContent[] =>
    places.flatMap((place) => snapshot.content[place] ?? []);
  return {
    ...image,
    content: at(image.content),
    referrers: image.referrers.map((referrer) => ({ ...referrer, content: at(referrer.content) })),
  };
}

/** Everything that an image and what refers to it are made of, each digest once. */
export function contentOf(image: ExpandedImage): readonly SnapshotContent[] {
  const found = new Map([image, ...image.referrers].flatMap(({ content }) => content.map((one) => [one.digest, one])));
  return [...found.values()];
}

/** The order of images in a repository: by the first tag, those without one last, then by digest. */
export function compareImages(
  a: Pick<SnapshotImage, 'tags' | 'digest'>,
  b: Pick<SnapshotImage, 'tags' | 'digest'>,
): number {
  const [first, second] = [a.tags[0], b.tags[0]];
  if (first === undefined || second === undefined)
    return Number(first === undefined) - Number(second === undefined) || compareStrings(a.digest, b.digest);
  return compareStrings(first, second) || compareStrings(a.digest, b.digest);
}
