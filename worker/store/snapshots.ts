import { collect } from '../content/bytes.ts';
import type { ObjectStore } from '../objects/objects.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, ifFound, isFailure } from '../util/failure.ts';
import { compareStrings, quote } from '../util/text.ts';
import {
  decodeSignature,
  encodeSignature,
  isSignedBy,
  MAX_SIGNATURE_BYTES,
  type SnapshotKey,
  type SnapshotKeys,
  type SnapshotSigner,
} from './signature.ts';
import { decompressSnapshot, encodeSnapshot, MAX_COMPRESSED_BYTES, parseSnapshot } from './snapshot-codec.ts';
import {
  readSnapshotKey,
  signatureKey,
  SNAPSHOT_END,
  snapshotKey,
  SNAPSHOTS_FOLDER,
  type SnapshotName,
} from './snapshot-key.ts';
import type { Snapshot } from './snapshot.ts';

export type { SnapshotName } from './snapshot-key.ts';

/** A snapshot that was read. */
export interface NamedSnapshot {
  readonly name: SnapshotName;
  readonly snapshot: Snapshot;
}

/** The snapshots below a prefix: `<prefix>snapshots/<YYYYMMDD>T<hhmmss><mmm>Z-<id>.json.zst`. */
export interface Snapshots {
  /** From the oldest to the newest, by keys alone. Keys that are not snapshots are passed over. */
  list(options?: Abortable): Promise<readonly SnapshotName[]>;

  /**
   * Keys of objects that end as those of snapshots do and are named otherwise: renamed by hand, or written by another version. They are not listed,
   * and a person may count on them.
   */
  misnamed(options?: Abortable): Promise<readonly string[]>;

  /**
   * One that was listed; or the one with this id, or whose id begins so (at least 4 digits), or `latest`, which are looked for in a list.
   * NOT_FOUND without one; INVALID where several begin so, and for a snapshot of a newer format; CORRUPT where the bytes are not those that the id
   * names, or the trusted key did not sign them.
   */
  read(which: SnapshotName | string, options?: Abortable): Promise<NamedSnapshot>;

  /** Stores a snapshot, after its signature. Idempotent: the same document has the same key. CORRUPT where its key has other bytes. */
  write(snapshot: Snapshot, options?: Abortable): Promise<SnapshotName>;
}

/** The shortest beginning of an id that is taken for it. */
const MIN_ID_DIGITS = 4;

/** Where snapshots are. */
export interface SnapshotsPlace {
  readonly store: ObjectStore;
  /** What all keys begin with: empty, or ends in `/`. */
  readonly prefix: string;
  /** Default: snapshots are not signed, and signatures are not looked at. */
  readonly keys?: SnapshotKeys | undefined;
}

/** The snapshots of a store or of archives. No request is sent yet. */
export function openSnapshots({ store, prefix, keys = {} }: SnapshotsPlace): Snapshots {
  return new StoredSnapshots(store, prefix, keys);
}

class StoredSnapshots implements Snapshots {
  readonly #store: ObjectStore;
  readonly #prefix: string;
  readonly #keys: SnapshotKeys;

  constructor(store: ObjectStore, prefix: string, keys: SnapshotKeys) {
    this.#store = store;
    this.#prefix = prefix;
    this.#keys = keys;
  }

  async list(options?: Abortable): Promise<readonly SnapshotName[]> {
    const found: SnapshotName[] = [];
    for await (const { key, size, modified } of this.#store.list(`${this.#prefix}${SNAPSHOTS_FOLDER}`, options)) {
      const name = readSnapshotKey(this.#prefix, key);
      if (name !== undefined) found.push({ ...name, size, storedAtMs: modified.getTime() });
    }
    return found.sort((a, b) => compareStrings(a.key, b.key));
  }

  async misnamed(options?: Abortable): Promise<readonly string[]> {
    const found: string[] = [];
    for await (const { key } of this.#store.list(`${this.#prefix}${SNAPSHOTS_FOLDER}`, options))
      if (key.endsWith(SNAPSHOT_END) && readSnapshotKey(this.#prefix, key) === undefined) found.push(key);
    return found;
  }

  async read(which: SnapshotName | string, options?: Abortable): Promise<NamedSnapshot> {
    const name = typeof which === 'string' ? await this.#find(which, options) : which;
    const what = `the snapshot ${this.#store.describe(name.key)}`;
    const json = await decompressSnapshot(
      await this.#bytes(name.key, MAX_COMPRESSED_BYTES, what, options),
      name.id,
      what,
    );
    if (this.#keys.trusted !== undefined) await this.#checkSigned(name.key, json, this.#keys.trusted, options);
    const snapshot = parseSnapshot(json, what);
    if (snapshotKey(this.#prefix, snapshot.finishedAt, name.id) === name.key) return { name, snapshot };
    throw new Failure(
      'CORRUPT',
      `${what} was renamed after it was written: it was finished at ${snapshot.finishedAt}: copy it back to ${snapshotKey(this.#prefix, snapshot.finishedAt, name.id)}`,
    );
  }

  async write(snapshot: Snapshot, options?: Abortable): Promise<SnapshotName> {
    const { id, json, bytes } = await encodeSnapshot(snapshot);
    const key = snapshotKey(this.#prefix, snapshot.finishedAt, id);
    if (this.#keys.signer !== undefined) await this.#sign(key, json, this.#keys.signer, options);
    const name = { id, key, finishedAtMs: Date.parse(snapshot.finishedAt) };
    try {
      const { size, modified } = await this.#store.write(key, bytes, {
        ...options,
        condition: { ifAbsent: true },
        contentType: 'application/zstd',
      });
      return { ...name, size, storedAtMs: modified.getTime() };
    } catch (error) {
      if (!isFailure(error, 'CONFLICT')) throw error;
      // an attempt whose answer was lost stored it; the key proves the content only when it is read
      const { size, modified } = await this.#store.stat(key, options);
      const { name: stored } = await this.read({ ...name, size, storedAtMs: modified.getTime() }, options);
      return stored;
    }
  }

  /** Stores the signature first, so that no snapshot is ever seen without it. */
  async #sign(key: string, json: Uint8Array, signer: SnapshotSigner, options: Abortable | undefined): Promise<void> {
    const bytes = encodeSignature(await signer.sign(json, options));
    const condition = { ifAbsent: true } as const;
    try {
      await this.#store.write(signatureKey(key), bytes, { ...options, condition, contentType: 'application/json' });
    } catch (error) {
      if (!isFailure(error, 'CONFLICT')) throw error;
      // that of an attempt whose answer was lost is as good
      await this.#checkSigned(key, json, signer, options);
    }
  }

  async #checkSigned(key: string, json: Uint8Array, by: SnapshotKey, options: Abortable | undefined): Promise<void> {
    const what = `the snapshot ${this.#store.describe(key)}`;
    const bytes = await ifFound(
      this.#bytes(signatureKey(key), MAX_SIGNATURE_BYTES, `the signature of ${what}`, options),
    );
    if (bytes === undefined)
      throw new Failure('CORRUPT', `${what} is not signed, and ${by.name} is the key that must have signed it`);
    if (isSignedBy(await by.publicKey(options), json, decodeSignature(bytes, what))) return;
    throw new Failure('CORRUPT', `${what} has a signature that ${by.name} did not make: do not trust it`);
  }

  async #bytes(key: string, limit: number, what: string, options: Abortable | undefined): Promise<Buffer> {
    const body = await this.#store.read(key, { ...options });
    return collect(body, limit, () => new Failure('UNSUPPORTED', `${what} is longer than ${limit} bytes`));
  }

  async #find(which: string, options: Abortable | undefined): Promise<SnapshotName> {
    const isId = new RegExp(`^[0-9a-f]{${MIN_ID_DIGITS},64}$`).test(which);
    if (which !== 'latest' && !isId)
      throw new Failure(
        'INVALID',
        `${quote(which)} is not a snapshot: expected "latest", or at least the first ${MIN_ID_DIGITS} digits of an id that \`transship snapshots list\` prints`,
      );
    const names = await this.list(options);
    const matching = which === 'latest' ? names.slice(-1) : names.filter(({ id }) => id.startsWith(which));
    const place = this.#store.describe(`${this.#prefix}${SNAPSHOTS_FOLDER}`);
    const [found] = matching;
    if (found === undefined)
      throw new Failure(
        'NOT_FOUND',
        names.length === 0
          ? `there is no snapshot in ${place}: a backup writes one`
          : `no snapshot in ${place} has an id that begins with ${which}: \`transship snapshots list\` prints their ids`,
      );
    const ids = new Set(matching.map(({ id }) => id));
    if (ids.size === 1) return found;
    throw new Failure(
      'INVALID',
      `${ids.size} snapshots in ${place} have ids that begin with ${which}: write more digits`,
    );
  }
}
