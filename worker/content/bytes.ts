import { atSide, type Failure, type Side } from '../util/failure.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import type { Bytes } from './content.ts';
import { watched } from './watch.ts';

/** A body of one chunk, or without a chunk where `bytes` is empty. */
export async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  if (bytes.byteLength > 0) yield bytes;
}

/** A body without bytes. */
export async function* nothing(): AsyncGenerator<Uint8Array, void, undefined> {}

/** The same body. Its failures are marked with the side, as by `atSide`. */
export function bodyAt(side: Side, body: Bytes): Bytes {
  return watched(body, { failed: (error) => atSide(side, error) });
}

/**
 * The whole body in one piece, in memory of its own. Throws what `tooLarge` returns, and closes the body, as soon as it has more than `limit`
 * bytes.
 */
export async function collect(
  body: Bytes,
  limit: number,
  tooLarge: () => Failure,
  options?: Abortable,
): Promise<Buffer> {
  const copies: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    checkAborted(options);
    size += chunk.byteLength;
    if (size > limit) throw tooLarge();
    copies.push(Buffer.from(chunk));
  }
  checkAborted(options);
  const [only] = copies;
  return copies.length === 1 && only !== undefined ? only : Buffer.concat(copies, size);
}
