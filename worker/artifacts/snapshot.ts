import { digestOf, isDigest, type Digest } from '../oci/digest.ts';
import { MAX_MANIFEST_BYTES, MEDIA_TYPE, type Descriptor, type Manifest } from '../oci/manifest.ts';
import { Failure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { quote } from '../util/text.ts';
import { compareKeys, type Listed } from './listing.ts';
import { ARTIFACT_TYPE, CREATED, OBJECT, SNAPSHOT } from './names.ts';

/** The version that this program writes, and the only one that it reads. */
const FORMAT = '1';
/** The tag of the newest snapshot. */
export const LATEST = 'latest';

/** An object in a snapshot. */
export interface SnapshotEntry extends Listed {
  /** The manifest of its artifact. */
  readonly artifact: Descriptor;
  /** The digest of the object's bytes. */
  readonly digest: Digest;
  readonly version: string | undefined;
  readonly contentType: string | undefined;
  readonly metadata: Readonly<Record<string, string>>;
}

/** What the annotations of a snapshot record. */
export interface SnapshotFacts {
  /** `s3://bucket/prefix/`, or `folder`. */
  readonly source: string;
  /** RFC 3339 in UTC, whole seconds. */
  readonly created: string;
  readonly objects: number;
  readonly bytes: number;
  /** How many objects could not be published: they are missing, or are as they were before. */
  readonly failed: number;
  /** Digest of the listing from which it was made. */
  readonly listing: Digest;
}

export interface Snapshot extends SnapshotFacts {
  readonly shards: readonly Descriptor[];
}

/** Bytes of a manifest with what describes them. */
export interface Document {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
}

/** `snapshot-20261201T020000Z` of `2026-12-01T02:00:00Z`. */
export function snapshotTag(created: string): string {
  return `snapshot-${created.replaceAll(/[-:]/g, '')}`;
}

/** The index of a snapshot. INVALID where it names so many shards that no registry takes it. */
export function snapshotDocument(facts: SnapshotFacts, shards: readonly Descriptor[]): Document {
  const document = indexOf(
    ARTIFACT_TYPE.snapshot,
    shards.map(({ mediaType, digest, size }) => ({ mediaType, digest, size, artifactType: ARTIFACT_TYPE.shard })),
    {
      [SNAPSHOT.version]: FORMAT,
      [SNAPSHOT.source]: facts.source,
      [CREATED]: facts.created,
      [SNAPSHOT.objects]: String(facts.objects),
      [SNAPSHOT.bytes]: String(facts.bytes),
      [SNAPSHOT.failed]: String(facts.failed),
      [SNAPSHOT.listing]: facts.listing,
    },
  );
  if (document.descriptor.size <= MAX_MANIFEST_BYTES) return document;
  throw new Failure(
    'INVALID',
    `${facts.objects} objects are more than one snapshot can list: publish parts of ${facts.source} to repositories of their own`,
  );
}

/** The snapshot in a manifest. Undefined for a manifest that is not one; INVALID for one that is broken or of another version. */
export function readSnapshot(manifest: Manifest): Snapshot | undefined {
  if (manifest.kind !== 'index' || manifest.artifactType !== ARTIFACT_TYPE.snapshot) return undefined;
  const said = manifest.annotations ?? {};
  const version = said[SNAPSHOT.version];
  if (version !== FORMAT)
    throw new Failure('INVALID', `the snapshot is of version ${quote(version)}: this program reads version ${FORMAT}`);
  const listing = said[SNAPSHOT.listing];
  const { [SNAPSHOT.source]: source, [CREATED]: created } = said;
  if (!isDigest(listing) || source === undefined || created === undefined || !isTime(created))
    throw new Failure('INVALID', 'the snapshot lacks its source, its time or its listing');
  return {
    source,
    created,
    listing,
    objects: numberIn(said, SNAPSHOT.objects),
    bytes: numberIn(said, SNAPSHOT.bytes),
    failed: numberIn(said, SNAPSHOT.failed),
    shards: manifest.manifests,
  };
}

/** Whether it is a time as `SnapshotFacts.created` has it. Years of five digits have no tag. */
function isTime(text: string): boolean {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(text) && !Number.isNaN(Date.parse(text));
}

/** The objects of a shard, whose keys come in order, after `last`. Undefined for a manifest that is not one; INVALID for a broken one. */
export function readShard(manifest: Manifest, last?: string): readonly SnapshotEntry[] | undefined {
  if (manifest.kind !== 'index' || manifest.artifactType !== ARTIFACT_TYPE.shard) return undefined;
  const entries = manifest.manifests.map(readEntry);
  let before = last;
  for (const { key } of entries) {
    if (before !== undefined && compareKeys(before, key) >= 0)
      throw new Failure('INVALID', `the snapshot lists ${quote(key)} out of order`);
    before = key;
  }
  return entries;
}

function readEntry({ mediaType, digest: artifact, size: manifestSize, annotations = {} }: Descriptor): SnapshotEntry {
  const { [OBJECT.key]: key = '', [OBJECT.digest]: digest } = annotations;
  if (key === '' || !isDigest(digest))
    throw new Failure('INVALID', `the snapshot lists ${artifact} without its object`);
  return {
    artifact: { mediaType, digest: artifact, size: manifestSize },
    key,
    digest,
    size: numberIn(annotations, OBJECT.size),
    etag: annotations[OBJECT.etag] ?? '',
    modified: annotations[OBJECT.modified] ?? '',
    version: annotations[OBJECT.version],
    contentType: annotations[OBJECT.contentType],
    metadata: readMetadata(key, annotations[OBJECT.metadata]),
  };
}

function readMetadata(key: string, text: string | undefined): Readonly<Record<string, string>> {
  if (text === undefined) return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new Failure('INVALID', `the snapshot has broken metadata for ${quote(key)}`, { cause });
  }
  const pairs = isRecord(value) ? Object.entries(value) : undefined;
  if (pairs?.every((pair): pair is [string, string] => typeof pair[1] === 'string') === true)
    return Object.fromEntries(pairs);
  throw new Failure('INVALID', `the snapshot has broken metadata for ${quote(key)}`);
}

function numberIn(annotations: Readonly<Record<string, string>>, name: string): number {
  const text = annotations[name] ?? '';
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value;
  throw new Failure('INVALID', `the snapshot has no number in ${name}`);
}

/** An index with its members in a fixed order. */
export function indexOf(
  artifactType: string,
  manifests: readonly object[],
  annotations?: Readonly<Record<string, string>>,
): Document {
  const index = { schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, artifactType, manifests, annotations };
  const bytes = Buffer.from(JSON.stringify(index));
  return { descriptor: { mediaType: MEDIA_TYPE.ociIndex, digest: digestOf(bytes), size: bytes.byteLength }, bytes };
}
