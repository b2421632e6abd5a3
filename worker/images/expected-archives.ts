import { matchesRepository, matchingTags, type ImageFilter } from '../oci/image-filter.ts';
import type { SnapshotArchive } from '../store/snapshot.ts';
import type { State, StateImage } from '../store/state.ts';

/** An archive as a snapshot names it. */
export interface ExpectedArchive {
  readonly archive: SnapshotArchive;
  readonly image: StateImage;
  /** `host/repository:tag`. */
  readonly name: string;
}

/** The archives of a state, by key. Pure. */
export function expectedArchives(
  state: State,
  only: readonly ImageFilter[] = [],
): ReadonlyMap<string, ExpectedArchive> {
  const found = new Map<string, ExpectedArchive>();
  for (const { registry, name, images } of state.repositories) {
    if (!matchesRepository(only, name)) continue;
    for (const image of images) {
      const tags = matchingTags(only, name, image.tags);
      if (image.kind !== 'archives' || tags === undefined) continue;
      for (const archive of image.archives ?? []) {
        const { tag } = archive;
        if (tag !== undefined && !tags.includes(tag)) continue;
        const of = tag === undefined ? `@${image.digest}` : `:${tag}`;
        found.set(archive.key, { archive, image, name: `${registry.host}/${name}${of}` });
      }
    }
  }
  return found;
}
