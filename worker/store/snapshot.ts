import type { Digest } from '../oci/digest.ts';

/**
 * What one backup saw of a registry, and where it stored it: one JSON document, written last and never changed. docs/snapshot-format.md is
 * normative. All times are ISO 8601 in UTC with milliseconds; all sizes are bytes.
 */
export interface Snapshot {
  /** The version of the format. A reader refuses one that it does not know. */
  readonly version: 1;
  readonly startedAt: string;
  readonly finishedAt: string;
  /** The program that wrote it, such as `transship 0.1.0`. */
  readonly tool: string;
  /** The rule and the run of the service. Absent for a command. */
  readonly rule?: string;
  readonly run?: string;
  /** Where the images are: each blob once in the store that holds the snapshot, or each in archives. */
  readonly kind: 'store' | 'archives';
  readonly registry: SnapshotRegistry;
  readonly scope: SnapshotScope;
  /** Every manifest, config and layer that the images name, once. Images name them by their place in this list. */
  readonly content: readonly SnapshotContent[];
  /** By name. */
  readonly repositories: readonly SnapshotRepository[];
  /** What should be in the snapshot and is not. */
  readonly failures: readonly SnapshotFailure[];
  /** What this backup had to send, beside what was there before. */
  readonly added: { readonly blobs: number; readonly bytes: number };
}

/** The registry that was backed up. */
export interface SnapshotRegistry {
  readonly host: string;
  /** ECR only. */
  readonly account?: string;
  readonly region?: string;
  /** The settings of the registry itself. Absent for a registry without settings, or where they were not backed up. */
  readonly settings?: Readonly<Record<string, unknown>>;
}

/** What was asked for. */
export interface SnapshotScope {
  /** A pattern of repositories, such as `*` or `team/*`. */
  readonly repositories: string;
  /** A pattern of tags. Absent: every tag. */
  readonly tags?: string;
  readonly untagged: boolean;
  readonly referrers: boolean;
  /** Empty: all. */
  readonly platforms: readonly string[];
  /** Whether every repository of the registry that matches was listed: one that is not in the snapshot did not exist. */
  readonly listed: boolean;
}

/** A manifest, config or layer. Sizes are bytes. */
export interface SnapshotContent {
  readonly digest: Digest;
  readonly size: number;
  /** Only of manifests. */
  readonly mediaType?: string;
}

/** A repository, with its images as they were at the time of the backup. */
export interface SnapshotRepository {
  readonly name: string;
  /** Whether every tag was listed: an image that is neither here nor among the failures did not exist. */
  readonly complete: boolean;
  /** The same as `settings` of a `repository.json`. Absent for a registry without settings, or where they were not backed up. */
  readonly settings?: Readonly<Record<string, unknown>>;
  /** By their first tag, then digest. One entry for each digest. */
  readonly images: readonly SnapshotImage[];
}

/** An image or index with its tags, what it is made of, and what refers to it. */
export interface SnapshotImage {
  readonly digest: Digest;
  readonly mediaType: string;
  /** Bytes of the manifest itself. */
  readonly size: number;
  /** Bytes of everything: the manifests, configs and layers of the image and of what refers to it, each once. */
  readonly bytes: number;
  /** Empty for an untagged image. */
  readonly tags: readonly string[];
  readonly artifactType?: string;
  readonly pushedAt?: string;
  /** Places in `Snapshot.content`: the image's manifests, itself first, then its blobs. Empty where `archived`. */
  readonly content: readonly number[];
  /** A referrer comes after what it refers to. */
  readonly referrers: readonly SnapshotReferrer[];
  /** Foreign layers whose bytes are elsewhere. Absent: none. */
  readonly foreign?: readonly Digest[];
  /** Why more may refer to it than is listed, a sentence each. Absent: all was listed. */
  readonly unchecked?: readonly string[];
  /** True: it is in ECR's archive storage class, and was not backed up. */
  readonly archived?: true;
  /** Where it is: an archive for each tag. Only where `kind` is `archives`. */
  readonly archives?: readonly SnapshotArchive[];
}

/** What refers to an image: a signature, an SBOM, an attestation. */
export interface SnapshotReferrer {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  readonly artifactType?: string;
  /** The manifest that it refers to. */
  readonly subject: Digest;
  /** The tags of cosign; empty for a referrer by its subject. */
  readonly tags: readonly string[];
  /** As those of an image. */
  readonly content: readonly number[];
}

/** The object that holds an image, as it was written. */
export interface SnapshotArchive {
  /** Absent: the archive of an untagged image. */
  readonly tag?: string;
  readonly key: string;
  readonly size: number;
  readonly etag: string;
  /** Where the bucket keeps versions. */
  readonly version?: string;
}

/** What was not backed up, and why. Without a repository: the registry as a whole. */
export interface SnapshotFailure {
  readonly repository?: string;
  readonly tag?: string;
  readonly digest?: Digest;
  /** One sentence. */
  readonly reason: string;
}
