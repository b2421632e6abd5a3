import { hashFor, shortDigest, type Digest } from '../oci/digest.ts';
import type { Descriptor } from '../oci/manifest.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import { describeFailure, Failure, toFailure } from '../util/failure.ts';
import type { Limit } from '../util/limit.ts';
import type { Report } from '../util/events.ts';
import { MAX_RETRY_AFTER_MS, retryDelayMs } from '../util/retry.ts';
import { readAhead } from './read-ahead.ts';
import type { ByteRange, Bytes, Readable } from './content.ts';

export interface ReadOptions extends Abortable {
  readonly clock?: Clock | undefined;
  readonly report?: Report | undefined;
  /**
   * Bytes that all reads sharing it may hold ahead of their consumers. With it, a large blob of a source that serves several ranges at once
   * is read by several connections. Absent: one connection.
   */
  readonly ahead?: Limit | undefined;
}

/**
 * Failures in a row, without one new byte between them, until the read gives up. Bodies that are too slow count apart, since each brings some
 * bytes.
 */
const ATTEMPTS = 6;
/** A body that brings less than this while its reader waits for it is too slow. */
const LEAST_BYTES_PER_SECOND = 1024;
const RATE_SECONDS = 300;

/**
 * The bytes of `descriptor`, verified: exactly its size, exactly its digest, or the iteration throws CORRUPT. The last chunk is handed out only after
 * the digest was found right, so whoever has all bytes has right bytes. A body that breaks is reopened where it broke. The one place that
 * hashes.
 */
export async function* read(
  source: Readable,
  descriptor: Descriptor,
  options: ReadOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const hash = hashFor(descriptor.digest);
  let held: Uint8Array | undefined;
  let received = 0;
  for await (const chunk of resumed(source, descriptor, options)) {
    received += chunk.byteLength;
    if (received > descriptor.size)
      throw corrupt(descriptor, `has more than the ${descriptor.size} bytes its descriptor says`);
    hash.update(chunk);
    if (held !== undefined) yield held;
    held = chunk;
  }
  if (received < descriptor.size) throw corrupt(descriptor, `ended after ${received} of ${descriptor.size} bytes`);
  const got = hash.digest('hex');
  if (!descriptor.digest.endsWith(`:${got}`))
    throw corrupt(descriptor, `has other bytes than its digest says (they hash to ${got.slice(0, 12)}…)`);
  if (held !== undefined) yield held;
}

/**
 * The bytes from `from` up to `to` of `descriptor`, exactly so many, not hashed: a part has no digest. A body that breaks is reopened where it
 * broke. CORRUPT where there are fewer.
 */
export async function* readPart(
  source: Readable,
  descriptor: Descriptor,
  part: Required<ByteRange>,
  options: ReadOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  let left = part.to - part.from;
  for await (const chunk of resumed(source, descriptor, options, { part })) {
    // a source that cannot end in the middle gives more
    const wanted = chunk.subarray(0, left);
    left -= wanted.byteLength;
    if (wanted.byteLength > 0) yield wanted;
    if (left === 0) return;
  }
}

/** Content that has no digest yet. */
interface Unnamed {
  /** What messages call it. */
  readonly name: string;
  readonly size: number;
  /** The bytes are returned too where they are not more than this; they are held in memory. */
  readonly keep: number;
}

/**
 * Reads content that no descriptor names yet, once, for its sha256: all of the `size` bytes that `source` gives for any descriptor. A body that
 * breaks is reopened where it broke. CORRUPT where there are fewer or more bytes.
 */
export async function readUnnamed(
  source: Readable,
  { name, size, keep }: Unnamed,
  options: ReadOptions = {},
): Promise<{ readonly digest: Digest; readonly bytes: Uint8Array | undefined }> {
  const descriptor: Descriptor = { mediaType: 'application/octet-stream', digest: UNKNOWN, size };
  const hash = hashFor(UNKNOWN);
  const kept: Uint8Array[] = [];
  let received = 0;
  for await (const chunk of resumed(source, descriptor, options, { name })) {
    received += chunk.byteLength;
    if (received > size) break;
    hash.update(chunk);
    if (size <= keep) kept.push(chunk);
  }
  if (received !== size)
    throw new Failure('CORRUPT', `read ${name}: it does not have the ${size} bytes that it should`);
  return { digest: `sha256:${hash.digest('hex')}`, bytes: size <= keep ? Buffer.concat(kept) : undefined };
}

/** Stands for a digest that is not known. */
const UNKNOWN: Digest = `sha256:${'0'.repeat(64)}`;

/** All of `descriptor` in one piece, verified. For manifests and configs: more than `limit` bytes is INVALID before anything is fetched. */
export async function readAll(
  source: Readable,
  descriptor: Descriptor,
  limit: number,
  options: ReadOptions = {},
): Promise<Uint8Array> {
  if (descriptor.size > limit)
    throw new Failure(
      'INVALID',
      `${descriptor.digest} has ${descriptor.size} bytes, more than the ${limit} allowed for what it is`,
    );
  const chunks: Uint8Array[] = [];
  for await (const chunk of read(source, descriptor, options)) chunks.push(chunk);
  const only = chunks[0];
  return chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks);
}

/** Raw bytes of `part` without gaps: what was delivered is never asked for again, unless the source cannot start in the middle. */
async function* resumed(
  source: Readable,
  descriptor: Descriptor,
  options: ReadOptions,
  {
    name = shortDigest(descriptor.digest),
    part = { from: 0, to: descriptor.size },
  }: { readonly name?: string; readonly part?: Required<ByteRange> } = {},
): Bytes {
  const clock = options.clock ?? systemClock;
  const rate = new Rate(clock);
  let offset = part.from;
  let failures = 0;
  let slow = 0;
  let ranges = true;
  for (;;) {
    checkAborted(options);
    let ended = false;
    let isSlow = false;
    try {
      for await (const chunk of ranges
        ? openAt(source, descriptor, { from: offset, to: part.to }, options)
        : skipping(await source.open(descriptor, options), offset)) {
        checkAborted(options); // a body may have been on its way already, or not listen
        if (chunk.byteLength === 0) continue;
        const pace = rate.arrived(chunk.byteLength);
        isSlow = pace === 'slow';
        if (isSlow) throw tooSlow(name);
        if (pace === 'fast') slow = 0;
        failures = 0;
        offset += chunk.byteLength;
        yield chunk;
        rate.asked();
      }
      if (offset >= part.to) return;
      ended = true;
      throw new Failure('UNAVAILABLE', `reading ${name}: the body ended after ${offset} of ${descriptor.size} bytes`);
    } catch (error) {
      checkAborted(options);
      const failure = toFailure(error);
      if (failure.code === 'UNSUPPORTED' && ranges && offset > 0) {
        ranges = false;
        continue;
      }
      if (!failure.retryable) throw failure;
      const attempt = isSlow ? ++slow : ++failures;
      if (attempt >= ATTEMPTS)
        throw ended ? corrupt(descriptor, `ends after ${offset} of ${descriptor.size} bytes`, failure) : failure;
      await waitAfter(failure, attempt, name, { ...options, clock });
    }
  }
}

/** Waits before a body is opened again. Throws `failure` where the source asks for more time than a read may take. */
async function waitAfter(
  failure: Failure,
  attempt: number,
  name: string,
  { clock, report, signal }: ReadOptions & { readonly clock: Clock },
): Promise<void> {
  const delayMs = retryDelayMs(failure, attempt, clock);
  if (delayMs > MAX_RETRY_AFTER_MS) throw failure;
  const what = `read ${name}`;
  report?.({ type: 'retry', what, attempt, delayMs, code: failure.code, message: describeFailure(failure) });
  await clock.sleep(delayMs, { signal });
}

/** How fast a source gives bytes. The time that the reader takes to use them does not count. */
class Rate {
  readonly #clock: Clock;
  #askedAtMs: number;
  #waitedMs = 0;
  #bytes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#askedAtMs = clock.now();
  }

  /** The reader waits for the next bytes. */
  asked(): void {
    this.#askedAtMs = this.#clock.now();
  }

  /** Counts bytes that arrived. Returns how fast the source was once the reader has waited `RATE_SECONDS`, and begins anew; undefined before. */
  arrived(bytes: number): 'slow' | 'fast' | undefined {
    const nowMs = this.#clock.now();
    this.#waitedMs += nowMs - this.#askedAtMs;
    this.#askedAtMs = nowMs;
    this.#bytes += bytes;
    if (this.#waitedMs < RATE_SECONDS * 1000) return undefined;
    const isSlow = this.#bytes < LEAST_BYTES_PER_SECOND * RATE_SECONDS;
    this.#waitedMs = 0;
    this.#bytes = 0;
    return isSlow ? 'slow' : 'fast';
  }
}

function tooSlow(name: string): Failure {
  const minutes = RATE_SECONDS / 60;
  const least = `less than ${LEAST_BYTES_PER_SECOND} bytes a second for ${minutes} minutes`;
  return new Failure('UNAVAILABLE', `reading ${name}: the body brought ${least}`);
}

async function* openAt(
  source: Readable,
  descriptor: Descriptor,
  { from, to }: Required<ByteRange>,
  options: ReadOptions,
): Bytes {
  const { ahead, signal } = options;
  const isToEnd = to === descriptor.size;
  if (ahead !== undefined && isToEnd && (source.rangesAtOnce ?? 1) > 1)
    yield* readAhead(source, descriptor, from, ahead, options);
  else yield* await source.open(descriptor, { signal, ...(from === 0 ? {} : { from }), ...(isToEnd ? {} : { to }) });
}

async function* skipping(body: Bytes, count: number): Bytes {
  let left = count;
  for await (const chunk of body) {
    if (left >= chunk.byteLength) {
      left -= chunk.byteLength;
      continue;
    }
    yield left === 0 ? chunk : chunk.subarray(left);
    left = 0;
  }
}

function corrupt(descriptor: Descriptor, what: string, cause?: unknown): Failure {
  return new Failure('CORRUPT', `${descriptor.digest} ${what}`, { cause, context: { digest: descriptor.digest } });
}
