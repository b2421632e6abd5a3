import type { ChecksumAlgorithm, ChecksumType } from './checksum.ts';
import type { Segment } from './data.ts';

export interface Checksum {
  readonly algorithm: ChecksumAlgorithm;
  readonly type: ChecksumType;
  /** Base64; a composite one ends in `-<parts>`. */
  readonly value: string;
}

export interface Retention {
  readonly mode: 'GOVERNANCE' | 'COMPLIANCE';
  readonly untilMs: number;
}

/** What is said about an object when it is created, or when its upload is. */
export interface Description {
  /** Sent back with the object as they are: content type, user metadata and the like. */
  readonly headers: Readonly<Record<string, string>>;
  readonly storageClass: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly retention?: Retention | undefined;
  readonly legalHold: boolean;
}

export interface PartSummary {
  readonly number: number;
  readonly bytes: number;
  readonly checksum?: string | undefined;
}

export interface ObjectVersion extends Description {
  readonly kind: 'object';
  /** `null`, as text, for what was written without versioning. */
  readonly versionId: string;
  /** The version with the highest is the current one. Of multipart uploads it is the moment of their beginning. */
  readonly order: number;
  readonly modifiedMs: number;
  readonly bytes: number;
  /** Without quotes. */
  readonly etag: string;
  readonly checksum?: Checksum | undefined;
  readonly segments: readonly Segment[];
  /** Each part, for an object that was uploaded in parts. */
  readonly parts?: readonly PartSummary[] | undefined;
}

interface DeleteMarker {
  readonly kind: 'marker';
  readonly versionId: string;
  readonly order: number;
  readonly modifiedMs: number;
}

export type Version = ObjectVersion | DeleteMarker;

export interface Part extends PartSummary {
  readonly etag: string;
  readonly modifiedMs: number;
  readonly segments: readonly Segment[];
}

export interface UploadStart extends Description {
  readonly id: string;
  readonly key: string;
  readonly order: number;
  readonly startedMs: number;
  readonly algorithm: ChecksumAlgorithm;
  readonly checksumType: ChecksumType;
  /** Whether the client chose the algorithm. If not, S3 computes a CRC64NVME for itself. */
  readonly isDeclared: boolean;
}

export interface Upload extends UploadStart {
  readonly parts: Map<number, Part>;
}

/** An upload that became an object: Complete answers the same again. */
export interface CompletedUpload {
  readonly uploadId: string;
  readonly bucket: string;
  readonly key: string;
  readonly versionId: string;
  readonly etag: string;
  readonly checksum?: Checksum | undefined;
}

export interface BucketSettings {
  readonly versioning?: 'Enabled' | 'Suspended' | undefined;
  readonly hasObjectLock: boolean;
  /** The retention of new objects, in days. */
  readonly defaultRetention?:
    { readonly mode: Retention['mode']; readonly days?: number; readonly years?: number } | undefined;
  /** The document as it came. */
  readonly lifecycle?: string | undefined;
}

export interface Bucket {
  readonly name: string;
  readonly createdMs: number;
  settings: BucketSettings;
  /** In the order of their UTF-8 bytes. */
  readonly keys: string[];
  /** By key, newest first, never empty. */
  readonly versions: Map<string, Version[]>;
  readonly uploads: Map<string, Upload>;
}

/** Everything that can happen to the state. Applied in the order of the journal they always give the same state. */
export type Change =
  | { readonly type: 'bucket'; readonly name: string; readonly createdMs: number; readonly settings: BucketSettings }
  | { readonly type: 'bucket-settings'; readonly name: string; readonly settings: BucketSettings }
  | { readonly type: 'bucket-removed'; readonly name: string }
  /** Adds it, or replaces the one with the same version id. */
  | { readonly type: 'version'; readonly bucket: string; readonly key: string; readonly version: Version }
  | { readonly type: 'version-removed'; readonly bucket: string; readonly key: string; readonly versionId: string }
  | { readonly type: 'upload'; readonly bucket: string; readonly upload: UploadStart }
  | { readonly type: 'part'; readonly bucket: string; readonly uploadId: string; readonly part: Part }
  | { readonly type: 'upload-removed'; readonly bucket: string; readonly uploadId: string }
  | { readonly type: 'upload-completed'; readonly completed: CompletedUpload };
