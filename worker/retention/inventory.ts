import type { Digest } from '../oci/digest.ts';

/** What is in one repository of a registry, or in one folder of archives, as it was listed. */
export interface Inventory {
  /** `host/repository`, or `s3://bucket/folder`. Unique in a run. */
  readonly place: string;
  /** The name that the patterns of policies are compared with. */
  readonly repository: string;
  /** Archives: further repositories that some of them name. Where they do not all have one policy, nothing is deleted. */
  readonly others?: readonly string[] | undefined;
  readonly kind: 'images' | 'archives';
  /** In any order. */
  readonly items: readonly Item[];
  /** Why the list is not complete; absent: it is. Nothing is deleted by a list that is not. */
  readonly incomplete?: string | undefined;
  /** Whether a tag can be removed from an image that keeps another one. */
  readonly untags: boolean;
}

/** A manifest of a registry, or an archive. */
export interface Item {
  /** A manifest's digest, or an archive's key. Unique in its inventory. */
  readonly id: string;
  /** A manifest's digest; the root digest of an archive where it is known. */
  readonly digest?: Digest | undefined;
  /** Every tag, those of cosign and of the referrers' fallback too. Archives: empty, or the tag of the image when `image` does not name it. */
  readonly tags: readonly string[];
  readonly mediaType?: string | undefined;
  readonly bytes?: number | undefined;
  /** When it was pushed or written, in milliseconds since 1970. Absent: not known; every rule about time keeps it. */
  readonly pushedAtMs?: number | undefined;
  /** When it was last pulled. Absent: not known; `notPulledForDays` keeps it. */
  readonly pulledAtMs?: number | undefined;
  /** The manifests that an index lists, also those that are not in this inventory. */
  readonly children: readonly Digest[];
  readonly subject?: Digest | undefined;
  /** Archives: the image that it holds, `registry/repository:tag`. Absent: its key stands for the image. */
  readonly image?: string | undefined;
  /** Archives: the ETag, for the conditional delete. */
  readonly etag?: string | undefined;
  /** Archives: why nothing could be restored from it. It is kept, and never counts as a backup. */
  readonly bad?: string | undefined;
  /** Why it may not be deleted now: `locked until 2027-01-01`, `a copy is being written`. */
  readonly held?: string | undefined;
}
