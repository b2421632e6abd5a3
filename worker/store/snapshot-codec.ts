import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { zstdCompress, zstdDecompress } from 'node:zlib';
import { canonicalJson } from '../util/canonical-json.ts';
import { Failure } from '../util/failure.ts';
import type { Snapshot } from './snapshot.ts';
import { firstFault, readSnapshotDocument } from './snapshot-schema.ts';

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** The longest document, in bytes of JSON. A registry of 100,000 tags needs about 50 MiB. */
const MAX_SNAPSHOT_BYTES = 256 * 1024 * 1024;
/** The longest object of a snapshot: more is not written in one request. */
export const MAX_COMPRESSED_BYTES = 64 * 1024 * 1024;

/** A snapshot as it is stored. */
export interface EncodedSnapshot {
  /** SHA-256 of the JSON, 64 hex digits. */
  readonly id: string;
  /** What is signed. */
  readonly json: Uint8Array;
  /** The JSON, compressed with zstd. */
  readonly bytes: Uint8Array;
}

/** The object of a snapshot. UNSUPPORTED for one that is longer than a reader takes; BUG for one that contradicts itself. */
export async function encodeSnapshot(snapshot: Snapshot): Promise<EncodedSnapshot> {
  const fault = firstFault(snapshot);
  if (fault !== undefined) throw new Failure('BUG', `write the snapshot: ${fault}`);
  const json = Buffer.from(canonicalJson(snapshot));
  const id = createHash('sha256').update(json).digest('hex');
  const bytes = json.byteLength > MAX_SNAPSHOT_BYTES ? undefined : await compress(json);
  if (bytes !== undefined && bytes.byteLength <= MAX_COMPRESSED_BYTES) return { id, json, bytes };
  throw new Failure(
    'UNSUPPORTED',
    `write the snapshot: ${snapshot.content.length} manifests and layers are more than one snapshot can list: back up fewer repositories at once, such as HOST/team/*`,
  );
}

/** The JSON in an object that was stored as `id`. `what` names it in messages. CORRUPT for bytes that are not those that the id names. */
export async function decompressSnapshot(bytes: Uint8Array, id: string, what: string): Promise<Buffer> {
  let json: Buffer;
  try {
    json = await decompress(bytes, { maxOutputLength: MAX_SNAPSHOT_BYTES });
  } catch (cause) {
    if (cause instanceof RangeError)
      throw new Failure('UNSUPPORTED', `${what} is longer than ${MAX_SNAPSHOT_BYTES} bytes`, { cause });
    throw changed(what, cause);
  }
  if (createHash('sha256').update(json).digest('hex') === id) return json;
  throw changed(what);
}

/** The snapshot that the JSON is. INVALID, naming `what`, for a newer version of the format, and for what is not a snapshot. */
export function parseSnapshot(json: Buffer, what: string): Snapshot {
  let value: unknown;
  try {
    value = JSON.parse(json.toString());
  } catch (cause) {
    throw new Failure('INVALID', `${what} is not a snapshot: it is not JSON`, { cause });
  }
  return readSnapshotDocument(value, what);
}

function changed(what: string, cause?: unknown): Failure {
  return new Failure(
    'CORRUPT',
    `${what} was changed or damaged after it was written: its bytes are not those that its id names: take another snapshot, or an older version of this object`,
    { cause },
  );
}
