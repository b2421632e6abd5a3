import type { Bytes } from '../content/content.ts';
import type { Abortable } from '../util/abort.ts';

/** An object as its store describes it. */
export interface ObjectInfo {
  readonly key: string;
  readonly size: number;
  /** Changes whenever the content changes; for conditions only, never an identity of content. */
  readonly etag: string;
  readonly modified: Date;
  /** What was stored with it, names in lower case. `list` leaves it empty; files keep none. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Which version of the object it is, where its bucket keeps versions. `list` leaves it out. */
  readonly version?: string | undefined;
  /** Its media type, as it was stored with it. `list` leaves it out; files do not have one. */
  readonly contentType?: string | undefined;
  /**
   * The storage class of an object that must be restored before it can be read, such as `GLACIER`. Set only by `list`. Absent: it can be read at
   * once.
   */
  readonly frozenIn?: string | undefined;
}

/** When a write may become visible. Absent: always. */
export type Condition = { readonly ifAbsent: true } | { readonly ifMatch: string };

export interface WriteOptions extends Abortable {
  /** CONFLICT, nothing changed, when it does not hold at the moment the object would become visible. */
  readonly condition?: Condition | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly contentType?: string | undefined;
  /** Called with the number of bytes that each request hands to the store, even if the request fails or is repeated. */
  readonly onSent?: ((bytes: number) => void) | undefined;
}

export interface UploadOptions extends WriteOptions {
  /**
   * Stands for the whole content that is going to be written: an unfinished upload to the same key is taken up again only when it was begun
   * with the same fingerprint, size and part size.
   */
  readonly fingerprint: string;
  /** Bytes of every part but the last. Default: chosen from the size, at least 8 MiB where the store has a least size. */
  readonly partSize?: number | undefined;
  /**
   * No other writer shares what this upload stores, until it is committed, aborted or released. Default: uploads of the same content may share it, and
   * each sends right bytes. A store that checks every part at the commit needs no such promise, and passes over it.
   */
  readonly exclusive?: boolean;
}

/** Which version of an object is meant. A place that keeps no versions, such as a folder, has one, and passes over it. */
export interface VersionOptions extends Abortable {
  /** As `ObjectInfo` has it. NOT_FOUND where that version was deleted. Default: the current one. */
  readonly version?: string | undefined;
}

export interface ReadOptions extends VersionOptions {
  /** The first byte. Default 0. */
  readonly offset?: number;
  /** How many bytes. Default: to the end. */
  readonly length?: number;
  /** The ETag that the object must have. */
  readonly ifMatch?: string | undefined;
}

/**
 * Objects by key: a bucket, or a folder. Keys are `/`-separated and have no leading slash, no empty, `.` or `..` component where the store is
 * a folder. Failures name the store and the key (`s3://bucket/key`, a path); those of `stat` and `read` have the same as
 * `context.location`.
 */
export interface ObjectStore {
  /** For people and logs: `s3://bucket/key`, `folder/key`. */
  describe(key: string): string;

  /** How many ranges of one object may well be read at once. Absent: one. */
  readonly rangesAtOnce?: number;

  /** Describes an object. NOT_FOUND without it. */
  stat(key: string, options?: VersionOptions): Promise<ObjectInfo>;

  /**
   * `length` bytes from `offset` (to the end when absent). UNAVAILABLE when the body breaks off. With `ifMatch`, CONFLICT when the object was
   * replaced. NOT_FOUND without it; INVALID when the range starts beyond the end (a range that starts at the end is empty).
   */
  read(key: string, options?: ReadOptions): Promise<Bytes>;

  /**
   * A URL by which its holder may read the object for so many seconds (at most, until our credentials end): a secret. No request is sent; the object
   * need not exist. Absent where the store has no such URLs.
   */
  presigned?(key: string, options: Abortable & { readonly seconds: number }): Promise<string>;

  /** Stores a small object whole (64 MiB at most: larger ones are uploads). */
  write(key: string, body: Uint8Array, options?: WriteOptions): Promise<ObjectInfo>;

  /** Stores a body of unknown length, in memory bounded by a few parts; nothing is visible unless it ends well. Cannot be resumed. */
  stream(key: string, body: Bytes, options?: WriteOptions): Promise<ObjectInfo>;

  /** Every object whose key starts with `prefix`, in the order of keys' UTF-8 bytes. Unfinished uploads are not objects. */
  list(prefix: string, options?: Abortable): AsyncIterable<ObjectInfo>;

  /** Begins an upload of exactly `size` bytes (at least 1), or takes up again an unfinished one with the same fingerprint. */
  upload(key: string, size: number, options: UploadOptions): Promise<Upload>;
}

/** As many bytes from `offset` of an object as a part has, for as long as the object has this ETag. */
export interface PartSource {
  readonly key: string;
  readonly etag: string;
  readonly offset: number;
}

export interface PartOptions extends Abortable {
  /** The CRC-32 of the bytes, where the caller computed it while they were still in the processor's cache. Default: it is computed. */
  readonly crc?: number | undefined;
}

/** An unfinished object whose bytes are written where they belong, without being gathered into parts. One call at a time. */
export interface InPlace extends AsyncDisposable {
  /** Whether another process has made the object visible meanwhile: it has every byte, and nothing can be written any more. */
  readonly isPublished: boolean;

  /** Whether an earlier process, or another one, may have written to it. */
  readonly isResumed: boolean;

  /** Writes bytes at `offset`. The parts that they are in do not count as stored until `keep` names them. `bytes` is not kept after the call. */
  write(offset: number, bytes: Uint8Array, options?: Abortable): Promise<void>;

  /** Whether exactly these bytes are at `offset`. */
  has(offset: number, bytes: Uint8Array, options?: Abortable): Promise<boolean>;

  /** `length` bytes from `offset`, as they are stored. */
  read(offset: number, length: number, options?: Abortable): Bytes;

  /** Counts these parts as stored, for later processes too: each of their bytes was written, or was there. */
  keep(numbers: readonly number[], options?: Abortable): Promise<void>;

  /** Does not count these parts as stored any more. */
  forget(numbers: readonly number[]): void;
}

/** An object being written in parts. Nothing is visible before commit; an upload that is neither committed nor aborted can be taken up again. */
export interface Upload {
  /** Bytes of every part but the last. */
  readonly partSize: number;
  /** How many parts there are: numbered from 1. */
  readonly parts: number;
  /**
   * Every part that is stored already, with its CRC-32 (IEEE, as an unsigned number) where the store has it. Grows as parts are stored. A part that an
   * earlier process wrote in place has no CRC-32, and its bytes may be lost: the caller looks at them by `openInPlace`.
   */
  readonly done: ReadonlyMap<number, number | undefined>;

  /** Whether part `number` is stored already with exactly these bytes. `crc`: their CRC-32, where the caller has it. */
  holds(number: number, bytes: Uint8Array, crc?: number): boolean;

  /**
   * Stores part `number`, replacing what was stored as that part before. Any order, many at once. `bytes` must be the part's whole content and
   * is not changed or kept after the call. BUG when the length is not the part's.
   */
  part(number: number, bytes: Uint8Array, options?: PartOptions): Promise<void>;

  /**
   * Stores part `number` without sending it, by a copy of bytes that another object of the store has. `bytes` is what the part must be. True: the
   * store reports their CRC-32 for what it copied. False: it does not copy, the object is gone or another by now, or its bytes are others; then
   * the part has to be sent, and whatever was copied does not count. Absent: the store copies nothing.
   */
  copyPart?(number: number, bytes: Uint8Array, from: PartSource, options?: PartOptions): Promise<boolean>;

  /**
   * Opens the object for bytes at any place in it, until it is disposed. Absent: the store takes whole parts only. `part` and what is written in place do
   * not mix within one part.
   */
  openInPlace?(options?: Abortable): Promise<InPlace>;

  /** Makes the object visible. BUG unless every part is stored; CONFLICT when the condition of the upload does not hold; CORRUPT when the store holds other bytes than were sent. */
  commit(options?: Abortable): Promise<ObjectInfo>;

  /** Throws away what was stored. Idempotent. */
  abort(): Promise<void>;

  /** Ends an `exclusive` upload that is neither committed nor aborted: what is stored can be taken up again at once. Idempotent. Absent: nothing is held. */
  release?(): void;
}
