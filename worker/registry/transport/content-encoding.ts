import { promisify } from 'node:util';
import { brotliDecompress, gunzip, inflate, inflateRaw, zstdDecompress } from 'node:zlib';
import { Failure } from '../../util/failure.ts';
import type { HttpAnswer } from './layer.ts';

/** More encodings, one within another, than any proxy applies. */
const MAX_ENCODINGS = 2;

type Decompress = (bytes: Uint8Array, options: { readonly maxOutputLength: number }) => Promise<Buffer>;

const DECOMPRESS: ReadonlyMap<string, readonly Decompress[]> = new Map<string, readonly Decompress[]>([
  ['gzip', [promisify(gunzip)]],
  ['x-gzip', [promisify(gunzip)]],
  // the standard demands zlib's header, which servers often omit
  ['deflate', [promisify(inflate), promisify(inflateRaw)]],
  ['br', [promisify(brotliDecompress)]],
  ['zstd', [promisify(zstdDecompress)]],
]);

/** The encodings of an answer's body by its header, the last applied first. https://www.rfc-editor.org/rfc/rfc9110#section-8.4 */
export function encodingsOf(answer: Pick<HttpAnswer, 'header'>): readonly string[] {
  return (answer.header('content-encoding') ?? '')
    .toLowerCase()
    .split(',')
    .map((encoding) => encoding.trim())
    .filter((encoding) => encoding !== '' && encoding !== 'identity')
    .toReversed();
}

/**
 * The body of a document without its Content-Encoding: proxies were seen to compress documents unasked. At most `limit` bytes, else UNSUPPORTED.
 * UNAVAILABLE when the body does not match the header. Not for layers, which may be stored compressed and with that header.
 */
export async function decoded(
  what: string,
  answer: Pick<HttpAnswer, 'header'>,
  bytes: Buffer,
  limit: number,
): Promise<Buffer> {
  const encodings = encodingsOf(answer);
  if (bytes.byteLength === 0 || encodings.length === 0) return bytes;
  const named = encodings.join(', ');
  if (encodings.length > MAX_ENCODINGS || !encodings.every((encoding) => DECOMPRESS.has(encoding))) {
    if (isDocument(bytes)) return bytes;
    throw new Failure('UNSUPPORTED', `${what}: the answer has the Content-Encoding ${named}, which was not asked for`);
  }
  let current = bytes;
  try {
    for (const encoding of encodings) current = await decompressed(encoding, current, limit);
    return current;
  } catch (cause) {
    if (isTooLong(cause))
      throw new Failure('UNSUPPORTED', `${what}: the answer is longer than ${limit} bytes`, { cause });
    // some proxies undo an encoding and leave its header
    if (isDocument(bytes)) return bytes;
    throw new Failure(
      'UNAVAILABLE',
      `${what}: the answer is broken, or is not ${named} as its Content-Encoding states`,
      {
        cause,
      },
    );
  }
}

async function decompressed(encoding: string, bytes: Buffer, limit: number): Promise<Buffer> {
  let failed: unknown;
  for (const decompress of DECOMPRESS.get(encoding) ?? []) {
    try {
      return await decompress(bytes, { maxOutputLength: limit });
    } catch (error) {
      if (isTooLong(error)) throw error;
      failed ??= error;
    }
  }
  throw failed;
}

function isTooLong(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE';
}

/** Whether the bytes, as they are, begin like JSON or a page of HTML. */
function isDocument(bytes: Buffer): boolean {
  return /^\s*[{[<]/.test(bytes.subarray(0, 64).toString('latin1'));
}
