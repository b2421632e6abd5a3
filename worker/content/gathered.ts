import type { Bytes } from '../content/content.ts';

/**
 * From this size on a chunk is given back only when the socket has taken it: undici asks for the next chunk once the socket has drained, or at
 * once where the bytes that wait are fewer than the socket's high-water mark. It sets marks of 64 KiB (plain) and 16 KiB (TLS):
 * https://github.com/nodejs/undici/blob/v8.12.4/lib/core/connect.js
 */
const TAKEN_BYTES = 64 * 1024;
/** Small chunks are gathered up to this size. */
const GATHERED_BYTES = 256 * 1024;

/**
 * The same bytes in chunks that may be lent to undici, and that are worth a call of their own. Large chunks stay as they are. Small ones would still wait
 * in the socket when the next is asked for: they are gathered in memory of their own, which is written to again only when another chunk is asked for.
 * `size`: the bytes of the body.
 */
export async function* gathered(body: Bytes, size: number): Bytes {
  let memory: Buffer | undefined;
  let held = 0;
  for await (const chunk of body) {
    for (let from = 0; from < chunk.byteLength;) {
      const rest = chunk.byteLength - from;
      if (held === 0 && rest >= TAKEN_BYTES) {
        yield chunk.subarray(from);
        break;
      }
      memory ??= Buffer.allocUnsafeSlow(Math.min(GATHERED_BYTES, Math.max(size, 1)));
      // of a large chunk only so much as the small ones before it lack: otherwise all that come after it would be copied too
      const isLarge = held + rest >= 2 * TAKEN_BYTES;
      const wanted = isLarge ? Math.min(memory.byteLength, Math.max(held, TAKEN_BYTES)) : memory.byteLength;
      const piece = chunk.subarray(from, from + wanted - held);
      memory.set(piece, held);
      from += piece.byteLength;
      held += piece.byteLength;
      if (held < wanted) continue;
      yield memory.subarray(0, held);
      held = 0;
    }
  }
  if (held > 0 && memory !== undefined) yield memory.subarray(0, held);
}
