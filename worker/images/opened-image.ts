import type { ArchivedImage } from '../archive/reader.ts';
import type { Source } from '../content/content.ts';
import type { Root } from '../content/graph.ts';
import type { Digest } from '../oci/digest.ts';

/** An image that was found. */
export interface OpenedImage extends AsyncDisposable {
  readonly source: Source;
  /** What the name stands for now, with the tag it was found under or calls itself. */
  readonly root: Root;
  /** `registry/repository`, as the image calls itself; undefined for files that do not name it. */
  readonly repository: string | undefined;
  /** As `ArchivedImage` has it. Undefined for registries. */
  readonly settingsDigest?: string | undefined;
  /** As `ArchivedImage` has it. Undefined for registries. */
  readonly layoutDigest?: Digest | undefined;
  /** As `ArchivedImage` has it. Absent for registries, where there is nothing but manifests and blobs. */
  readonly compare?: ArchivedImage['compare'];
}
