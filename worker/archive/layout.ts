import type { Graph } from '../content/graph.ts';
import type { Digest } from '../oci/digest.ts';
import type { Descriptor } from '../oci/manifest.ts';

/** One file of the archive. */
export interface LayoutEntry {
  /** Path in the tar. */
  readonly name: string;
  /** The header: 512 bytes, or more when the name or the size need a pax header. */
  readonly header: Uint8Array;
  /** Where the header starts. The content follows it, padded to 512. */
  readonly offset: number;
  /** Bytes of the content. */
  readonly size: number;
  /** Content known when planning; absent for blobs that are still to come. */
  readonly bytes?: Uint8Array;
  /** What the content is, for blobs that are still to come. */
  readonly descriptor?: Descriptor;
}

export interface ArchiveLayout {
  readonly entries: readonly LayoutEntry[];
  /** Bytes of the whole archive, the closing two blocks included. */
  readonly size: number;
  /** Bytes up to the first layer: one range read of them lists the archive. */
  readonly headSize: number;
  /** The image. */
  readonly root: Descriptor;
  /** Digest of everything that is planned: names, sizes, order and the content of what is known. Equal layouts give equal archives. */
  readonly digest: Digest;
}

export interface ArchiveNames {
  /** The image's tag; absent for one that has a digest only. */
  readonly tag?: string | undefined;
  /** `registry/repository`. */
  readonly repository: string;
}

export type PlanArchive = (graph: Graph, names: ArchiveNames) => ArchiveLayout;
