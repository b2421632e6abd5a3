import type { ImageFilter } from '../oci/image-filter.ts';
import type { Place } from '../oci/place.ts';
import type { PlaceMoment } from './diff-places.ts';
import type { Code } from '../util/failure.ts';
import type { Sample } from '../util/sample.ts';
import type { Depth, VerifyRequest, VerifyResult } from './verify-image.ts';

/** What of a place is verified, and how deep. */
export interface PlaceRequest extends Pick<VerifyRequest, 'onManifests'> {
  readonly place: Place;
  /** Default: `bytes` of archives, `blobs` of registries and stores. */
  readonly depth?: Depth | undefined;
  /** Only this part is read. Names are compared all the same. Default: everything. */
  readonly sample?: Sample | undefined;
  /** What a store or archives have to be equal to: exactly this snapshot. */
  readonly snapshot?: string | undefined;
  /** What they were at this time. */
  readonly asOfMs?: number | undefined;
  readonly only?: readonly ImageFilter[] | undefined;
  /** A place whose names this one must have, for the same images, and no others: for instance the source of a mirror. */
  readonly against?: PlaceMoment | undefined;
}

/** Something that is not as it should be. */
export interface Finding {
  /**
   * `missing`: a name, an image, or a blob that should be there. `moved`: a name stands for another image. `extra`: a name that nothing lists.
   * `faulty`: bytes that are wrong. `snapshot`: one that cannot be read, was edited, or is not signed. `index`: index.json differs from the
   * snapshots. `unread`: it could not be read, which is not evidence about its content.
   */
  readonly kind: 'missing' | 'moved' | 'extra' | 'faulty' | 'snapshot' | 'index' | 'unread';
  /** What it is about: a name, a key, or a digest. */
  readonly at: string;
  /** One sentence. */
  readonly message: string;
  /** Only of `unread`: the code of the failure. */
  readonly code?: Code | undefined;
}

/** What a verification of a place looked at, and found. */
export interface PlaceResult {
  readonly place: string;
  readonly depth: Depth;
  /** Which part was read. Absent: everything. */
  readonly sample?: Sample | undefined;
  /** Names and images that were looked at, and how many there are. */
  readonly names: Looked;
  /** For a store: its blobs and manifests, each once. */
  readonly blobs?: Looked | undefined;
  /** For a store, and for archives with snapshots: the snapshots that were read. */
  readonly snapshots?: Looked | undefined;
  readonly hashedBytes: number;
  /** Images that were opened, of registries and archives. */
  readonly images: readonly VerifyResult[];
  readonly findings: readonly Finding[];
  /** What was not looked at, a sentence each. */
  readonly unchecked: readonly string[];
  /** Whether every byte of everything was looked at. */
  readonly complete: boolean;
}

/** How many of something were looked at, and how many there are. */
export interface Looked {
  readonly checked: number;
  readonly of: number;
}

/** The findings about images that were opened. */
export function faultsOf(images: readonly VerifyResult[]): readonly Finding[] {
  return images.flatMap(({ at, faults }) => faults.map((message): Finding => ({ kind: 'faulty', at, message })));
}
