import { atSide, type Failure, type Side } from '../util/failure.ts';
import type { Bytes } from './content.ts';

/** A body of one chunk, or without a chunk where `bytes` is empty. */
export async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  if (bytes.byteLength > 0) yield bytes;
}

/** A body without bytes. */
export async function* nothing(): AsyncGenerator<Uint8Array, void, undefined> {}

/** The same body. Its failures are marked with the side, as by `atSide`. */
export async function* bodyAt(side: Side, body: Bytes): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* body;
  } catch (error) {
    throw atSide(side, error);
  }
}

/** The whole body in one piece. Throws what `tooLarge` returns, and closes the body, as soon as it has more than `limit` bytes. */
export async function collect(body: Bytes, limit: number, tooLarge: () => Failure): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.byteLength;
    if (size > limit) throw tooLarge();
    chunks.push(Buffer.from(chunk));
  }
  return Buffer.concat(chunks);
}
