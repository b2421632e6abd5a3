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
 * The same bytes in chunks that may be lent to undici. Large chunks stay as they are. Small ones would still wait in the socket when the next is
 * asked for: they are gathered in memory of their own, which is written to again only when undici has asked for another chunk. `size`: the bytes of the body.
 */
export async function* gathered(body: Bytes, size: number): Bytes {
  let gathered: Buffer | undefined;
  let held = 0;
  for await (const chunk of body) {
    for (let from = 0; from < chunk.byteLength;) {
      if (held === 0 && chunk.byteLength - from >= TAKEN_BYTES) {
        yield chunk.subarray(from);
        break;
      }
      gathered ??= Buffer.allocUnsafeSlow(Math.min(GATHERED_BYTES, Math.max(size, 1)));
      const piece = chunk.subarray(from, from + gathered.byteLength - held);
      gathered.set(piece, held);
      from += piece.byteLength;
      held += piece.byteLength;
      if (held < gathered.byteLength) continue;
      yield gathered;
      held = 0;
    }
  }
  if (held > 0 && gathered !== undefined) yield gathered.subarray(0, held);
}
