import { setImmediate as turn } from 'node:timers/promises';
import type { Bytes } from '../../worker/content/content.ts';

/** Sizes at which parsers break: one byte, a prime, both sides of a tar block, and a socket's read. */
export const CHUNK_SIZES: readonly number[] = [1, 7, 511, 512, 513, 65_536];

/** Sizes that expose a target that keeps a chunk: small ones are gathered, large ones are written directly. */
export const LENT_SIZES: readonly number[] = [1, 7, 511, 16_384, 262_144];

/** The same bytes in chunks of exactly `sizes`, repeated; the last chunk holds the rest. Keeps no chunk without copying it. */
export async function* rechunk(body: Bytes, ...sizes: readonly number[]): Bytes {
  let held: Uint8Array[] = [];
  let given = 0;
  const next = (): number => sizes[given++ % sizes.length] ?? 1;
  let missing = next();
  for await (const chunk of body) {
    let rest = chunk;
    while (rest.byteLength >= missing) {
      yield held.length === 0 ? rest.subarray(0, missing) : Buffer.concat([...held, rest.subarray(0, missing)]);
      rest = rest.subarray(missing);
      held = [];
      missing = next();
    }
    if (rest.byteLength === 0) continue;
    held.push(Uint8Array.from(rest));
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

/** All of a body in one buffer of its own. */
export async function collect(body: Bytes): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(Uint8Array.from(chunk));
  return Buffer.concat(chunks);
}

/**
 * The same bytes, each chunk lent: one buffer is used again and again, and filled with 0xdb when a chunk is given back. Code that keeps a
 * chunk without copying it computes another digest.
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

/** All of a body, with each chunk checked again after other work had its turn: a chunk must not change before the next one is requested. */
export async function collectLate(body: Bytes): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) {
    const early = Buffer.from(chunk);
    await turn();
    await turn();
    if (!early.equals(chunk)) throw new Error('a chunk was written to before the next one was asked for');
    chunks.push(early);
  }
  return Buffer.concat(chunks);
}
