import type { Bytes } from '../../worker/content/content.ts';

/** Sizes at which parsers break: one byte, a prime, both sides of a tar block, and a socket's read. */
export const CHUNK_SIZES: readonly number[] = [1, 7, 511, 512, 513, 65_536];

/** The same bytes in chunks of exactly `size`, the last one what is left. */
export async function* rechunk(body: Bytes, size: number): Bytes {
  let held: Uint8Array[] = [];
  let missing = size;
  for await (const chunk of body) {
    let rest = chunk;
    while (rest.byteLength >= missing) {
      yield held.length === 0 ? rest.subarray(0, missing) : Buffer.concat([...held, rest.subarray(0, missing)]);
      rest = rest.subarray(missing);
      held = [];
      missing = size;
    }
    if (rest.byteLength === 0) continue;
    held.push(rest);
    missing -= rest.byteLength;
  }
  if (held.length > 0) yield Buffer.concat(held);
}

/** `bytes` as a body in chunks of `size`. */
export function chunked(bytes: Uint8Array, size: number): Bytes {
  return rechunk(
    (async function* () {
      yield bytes;
    })(),
    size,
  );
}

/** All of a body in one piece. */
export async function collect(body: Bytes): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

/**
 * The same bytes, each chunk lent: in one buffer that is used again, and full of 0xdb whenever a chunk was given back. What keeps a chunk
 * without copying it is found out by its digest.
 */
export async function* lent(body: Bytes): AsyncGenerator<Uint8Array, void, undefined> {
  let buffer = Buffer.alloc(0);
  try {
    for await (const chunk of body) {
      if (chunk.byteLength > buffer.byteLength) buffer = Buffer.alloc(chunk.byteLength);
      buffer.set(chunk);
      yield buffer.subarray(0, chunk.byteLength);
      buffer.fill(0xdb);
    }
  } finally {
    buffer.fill(0xdb);
  }
}
