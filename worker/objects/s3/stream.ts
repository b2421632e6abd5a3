import { crc32 } from 'node:zlib';
import type { Bytes } from '../../content/content.ts';
import { anyOf, checkAborted, type Abortable } from '../../util/abort.ts';
import { Failure } from '../../util/failure.ts';
import type { ObjectInfo, WriteOptions } from '../objects.ts';
import { isRefusal, refused } from './failure.ts';
import { dropQuietly, wholeOf, type Multipart, type MultipartCalls, type StoredPart } from './multipart.ts';
import { DEFAULT_PART_BYTES, MAX_PART_BYTES, MAX_PARTS, MIB } from './part-size.ts';

/** Parts of a body of unknown length that are sent at once, while another is filled. */
const STREAMED_AT_ONCE = 3;

/** Stores a body of unknown length in parts of growing size. A short one is handed to `write`. */
export async function streamToS3(
  calls: MultipartCalls,
  key: string,
  body: Bytes,
  options: WriteOptions,
  write: (bytes: Uint8Array) => Promise<ObjectInfo>,
): Promise<ObjectInfo> {
  const pieces = piecesOf(body, options);
  try {
    const first = await pieces.next();
    if (first.done === true) return await write(new Uint8Array());
    if (first.value.byteLength < DEFAULT_PART_BYTES) return await write(first.value);
    if (options.condition !== undefined) await calls.tryConditions(key, options);
    const multipart = await calls.begin(key, options);
    try {
      const stored = await sendPieces(calls, multipart, first.value, pieces, options);
      return await calls.complete(multipart, stored, wholeOf(stored, options.condition), options);
    } catch (error) {
      await dropQuietly(calls, multipart);
      throw isRefusal(error) ? refused(calls.describe(key), error) : error;
    }
  } finally {
    await pieces.return();
  }
}

/**
 * The body in pieces of at least 8 MiB, or a thousandth of what came before: 8 GB in small parts, 19 TB in 10,000. Only the last piece may be
 * smaller. Each is memory of its own.
 */
async function* piecesOf(body: Bytes, options: Abortable): AsyncGenerator<Uint8Array, void, undefined> {
  let sent = 0;
  let piece = Buffer.allocUnsafe(DEFAULT_PART_BYTES);
  let filled = 0;
  for await (const chunk of body) {
    checkAborted(options);
    for (let rest = chunk; rest.byteLength > 0;) {
      const taken = rest.subarray(0, piece.byteLength - filled);
      piece.set(taken, filled);
      filled += taken.byteLength;
      rest = rest.subarray(taken.byteLength);
      if (filled < piece.byteLength) continue;
      yield piece;
      sent += filled;
      const next = Math.max(DEFAULT_PART_BYTES, Math.ceil(sent / 1000 / MIB) * MIB);
      piece = Buffer.allocUnsafe(Math.min(next, MAX_PART_BYTES));
      filled = 0;
    }
  }
  if (filled > 0) yield piece.subarray(0, filled);
}

async function sendPieces(
  calls: MultipartCalls,
  multipart: Multipart,
  first: Uint8Array,
  others: AsyncIterable<Uint8Array>,
  options: WriteOptions,
): Promise<readonly StoredPart[]> {
  const { onSent } = options;
  const stop = new AbortController();
  const signal = anyOf(options.signal, stop.signal);
  const stored: StoredPart[] = [];
  const flying = new Set<Promise<void>>();
  const failed: unknown[] = [];
  let count = 0;
  const send = async (number: number, bytes: Uint8Array): Promise<void> => {
    try {
      stored.push(await calls.send(multipart, number, bytes, crc32(bytes), { signal, onSent }));
    } catch (error) {
      failed.push(error);
      stop.abort(error);
    }
  };
  const launch = (bytes: Uint8Array): void => {
    const sending = send(++count, bytes).finally(() => flying.delete(sending));
    flying.add(sending);
  };
  try {
    launch(first);
    for await (const piece of others) {
      if (count === MAX_PARTS)
        throw new Failure('INVALID', `upload ${calls.describe(multipart.key)}: the body is too long for an object`);
      while (flying.size >= STREAMED_AT_ONCE) await Promise.race(flying);
      if (failed.length > 0) break;
      launch(piece);
    }
  } catch (error) {
    failed.unshift(error);
    stop.abort(error);
  }
  await Promise.all(flying);
  if (failed.length > 0) throw failed[0];
  return stored.sort((a, b) => a.number - b.number);
}
