import { createHash } from 'node:crypto';
import { ARTIFACT_TYPE, OBJECT } from './names.ts';
import { indexOf, type Document, type SnapshotEntry } from './snapshot.ts';

/** The most objects of one shard. */
const MAX_ENTRIES = 1000;
/** JSON of one shard at most: registries take manifests of 4 MiB. */
const MAX_BYTES = 3 * 1024 * 1024;
/** One key in this many, on average, ends a shard by its hash. */
const ENDS_ONCE_IN = 512;

/**
 * Cuts objects, which come in the order of their keys, into shards. A shard ends where a hash of the last key decides it, or where it is full. So a
 * key that is added or removed changes only the shards next to it; the others stay the same byte for byte.
 */
export class Shards {
  #entries: object[] = [];
  #bytes = 0;

  /** Adds an object. Returns the shards that it completes, in order. */
  add(entry: SnapshotEntry): readonly Document[] {
    const listed = entryOf(entry);
    const bytes = Buffer.byteLength(JSON.stringify(listed)) + 1;
    const full = this.#entries.length === MAX_ENTRIES || this.#bytes + bytes > MAX_BYTES ? this.end() : [];
    this.#entries.push(listed);
    this.#bytes += bytes;
    return isEnd(entry.key) ? [...full, ...this.end()] : full;
  }

  /** The shard of what is left, where there is any. */
  end(): readonly Document[] {
    if (this.#entries.length === 0) return [];
    const shard = indexOf(ARTIFACT_TYPE.shard, this.#entries);
    this.#entries = [];
    this.#bytes = 0;
    return [shard];
  }
}

function isEnd(key: string): boolean {
  return createHash('sha256').update(key).digest().readUInt16BE() % ENDS_ONCE_IN === 0;
}

/** The descriptor of an object's artifact, which describes the object. Members and annotations in a fixed order. */
function entryOf(entry: SnapshotEntry): object {
  const { mediaType, digest, size } = entry.artifact;
  const metadata = Object.entries(entry.metadata).sort(([a], [b]) => (a < b ? -1 : 1));
  const annotations = {
    [OBJECT.key]: entry.key,
    [OBJECT.digest]: entry.digest,
    [OBJECT.size]: String(entry.size),
    [OBJECT.etag]: entry.etag,
    [OBJECT.modified]: entry.modified,
    [OBJECT.version]: entry.version,
    [OBJECT.contentType]: entry.contentType,
    [OBJECT.metadata]: metadata.length === 0 ? undefined : JSON.stringify(Object.fromEntries(metadata)),
  };
  return { mediaType, digest, size, artifactType: ARTIFACT_TYPE.object, annotations };
}
