import type { Descriptor } from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';

/**
 * Bytes as they come. Leaving the loop early closes the connection or the file that they come from. A chunk is lent: it is valid until the next one
 * is asked for, or the loop is left; then its memory may hold other bytes. A caller that keeps a chunk copies it. No caller writes to one.
 */
export type Bytes = AsyncIterable<Uint8Array>;

/** Half open: bytes `from` (0 when absent) up to, not including, `to` (the end when absent). */
export interface ByteRange {
  readonly from?: number;
  readonly to?: number;
}

export interface OpenOptions extends Abortable, ByteRange {
  /** Called when the bytes come from the backend itself, and not from an earlier answer that was kept. */
  readonly onAnswered?: (() => void) | undefined;
}

export interface AnswerOptions extends Abortable {
  /** A moment in milliseconds since 1970: an answer that the backend gave since then may be reused. Default: the backend is asked now. */
  readonly answersSinceMs?: number | undefined;
}

export interface ResolveOptions extends AnswerOptions {
  /** Whether the caller is going to read the manifest: a registry then gives it at once. Default false. */
  readonly willRead?: boolean | undefined;
  /** Whether NOT_FOUND includes the reason, where finding it takes another request. Default true. */
  readonly saysWhy?: boolean | undefined;
}

export interface ReferrersOptions extends Abortable {
  /** Called with the reason where the source refuses to list them: the list is then incomplete, and not evidence of what exists. */
  readonly onRefused?: ((reason: string) => void) | undefined;
  /** Every tag of the repository, the fallback tags of referrers too, where they were listed: a tag that is not among them is not asked for. */
  readonly listedTags?: { has(tag: string): boolean } | undefined;
  /** Whether to give what an API lists without asking the backend for each one's existence and size: the caller reads them. Default false. */
  readonly asListed?: boolean | undefined;
}

export interface TagOptions extends Abortable {
  /** Whether to write without asking first what the name stands for: the caller expects it to stand for something else. Default false. */
  readonly skipLook?: boolean | undefined;
}

/** Where images are read from. Never writes; may be used by many at once. */
export interface Source {
  /**
   * How many ranges of one blob this backend serves well at once, each over a connection of its own. Absent: one stream is best. `read` decides
   * whether to make use of it.
   */
  readonly rangesAtOnce?: number;

  /**
   * What a tag or a digest stands for now. NOT_FOUND when it does not exist; UNAUTHENTICATED or DENIED when the backend does not disclose that.
   * Transfers no body where the backend can do without (a HEAD). The media type is what the backend states; `walk` corrects it by the bytes.
   */
  resolve(reference: string, options?: ResolveOptions): Promise<Descriptor>;

  /**
   * The raw bytes of a manifest or blob: not verified, possibly short, long or wrong, and breaking off with UNAVAILABLE. Only `read` calls
   * it. NOT_FOUND when the content is not there. A range that begins at the end is empty. UNSUPPORTED when a range with `from` > 0 is asked for and only the whole can be had.
   */
  open(descriptor: Descriptor, options?: OpenOptions): Promise<Bytes>;

  /**
   * The manifests whose subject is `descriptor`, in any order, each once. Empty where no manifest refers to it, or the backend does not support
   * referrers.
   */
  referrers(descriptor: Descriptor, options?: ReferrersOptions): AsyncIterable<Descriptor>;

  /**
   * Every tag, in any order, each once. Those under which a registry without the referrers API keeps lists of referrers are left out. With `all`
   * they are there, and a list that may not be whole is UNSUPPORTED.
   */
  tags(options?: Abortable & { readonly all?: boolean }): AsyncIterable<string>;

  /**
   * Every tag, as of a moment after the call or `answersSinceMs`, with those that `tags` leaves out, where a few requests list them. Undefined where there are too
   * many, or the registry does not list them. Absent: asking for one tag after the other costs no more.
   */
  listedTags?(options?: AnswerOptions): Promise<ReadonlySet<string> | undefined>;
}

/** The part of a source that content is read from. */
export type Readable = Pick<Source, 'open' | 'rangesAtOnce'>;

/** Where images are written to. All calls are idempotent and may run at once for different descriptors. */
export interface Target {
  /** True: blobs should come in the order of `blobsOf`, because memory is held for what is between them. Absent: any order. */
  readonly inOrder?: boolean;

  /** Whether the content is there, complete. A target that starts empty returns false. */
  has(descriptor: Descriptor, options?: Abortable): Promise<boolean>;

  /**
   * Makes the content be there. Calls `open` never (it is there already), once, or again (to retry); each call gives the whole, verified:
   * its iteration throws when the bytes are not those of `descriptor`, before the last of them is handed out. Nothing is visible before the last
   * byte was accepted. Manifests must come after what they name: NOT_FOUND when the target misses a child.
   */
  put(descriptor: Descriptor, open: () => Bytes, options?: Abortable): Promise<void>;

  /**
   * Makes `name` stand for the manifest `descriptor`, storing the manifest too when it is not there. Success when it stands for `descriptor` already.
   * CONFLICT where the tag is immutable and stands for something else.
   */
  tag(name: string, descriptor: Descriptor, open: () => Bytes, options?: TagOptions): Promise<void>;

  /**
   * Takes a blob over from another repository at the same place without moving bytes. False: not possible, put it. Never fails for reasons
   * of its own: every refusal is false.
   */
  mount?(descriptor: Descriptor, fromRepository: string, options?: Abortable): Promise<boolean>;
}
