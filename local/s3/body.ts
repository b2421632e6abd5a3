import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { CHECKSUM_ALGORITHMS, createHasher, DIGEST_BYTES, type ChecksumAlgorithm, type Hasher } from './checksum.ts';
import { S3Error } from './error.ts';
import type { Payload } from './signature.ts';

/** Where a body goes. The chunk is the sink's to keep. */
export interface Sink {
  write(chunk: Buffer): Promise<void> | undefined;
}

/** A body as the client framed it. */
export interface IncomingBody {
  readonly request: IncomingMessage;
  readonly headers: ReadonlyMap<string, string>;
  readonly payload: Payload;
  /** Lets the client go on, where it waits for that. */
  readonly begin: () => void;
  /** Called with every piece of content, for the log of requests. */
  readonly onBytes: (bytes: number) => void;
}

/** What a body turned out to be, after everything that was claimed about it has been checked. */
export interface Digests {
  readonly bytes: number;
  /** Hex. */
  readonly md5: string;
  /** Base64, for each algorithm that was claimed or asked for. */
  readonly checksums: ReadonlyMap<ChecksumAlgorithm, string>;
}

/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html */
const MAX_BODY_BYTES = 5 * 1024 ** 3;
/** No document that this server reads is larger: a Complete of 10,000 parts has some 2 MB. */
const MAX_DOCUMENT_BYTES = 4 * 1024 ** 2;
/** Only the last chunk with content may be smaller: InvalidChunkSizeError. */
const MIN_CHUNK_BYTES = 8192;

/** The one checksum that the client claims, its value absent when it follows in a trailer. */
export interface ChecksumClaim {
  readonly algorithm: ChecksumAlgorithm;
  readonly value: string | undefined;
}

/** The `x-amz-checksum-*` header, checked for form. At most one is allowed. */
export function claimedChecksum(headers: ReadonlyMap<string, string>): ChecksumClaim | undefined {
  const claims: ChecksumClaim[] = [];
  const trailer = headers.get('x-amz-trailer')?.toLowerCase();
  for (const algorithm of CHECKSUM_ALGORITHMS) {
    const name = `x-amz-checksum-${algorithm.toLowerCase()}`;
    const value = headers.get(name);
    if (value !== undefined) claims.push({ algorithm, value: checkForm(algorithm, value, name) });
    if (trailer === name) claims.push({ algorithm, value: undefined });
  }
  if (claims.length > 1)
    throw new S3Error(
      'InvalidRequest',
      'Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.',
    );
  if (trailer !== undefined && claims[0] === undefined)
    throw new S3Error('InvalidRequest', 'The value specified in the x-amz-trailer header is not supported');
  const announced = headers.get('x-amz-sdk-checksum-algorithm');
  if (announced !== undefined && announced.toUpperCase() !== claims[0]?.algorithm && !headers.has('content-md5'))
    throw new S3Error(
      'InvalidRequest',
      'x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.',
    );
  return claims[0];
}

/** Throws unless `value` can be a checksum of that kind at all. */
function checkForm(algorithm: ChecksumAlgorithm, value: string, name: string): string {
  const bytes = Buffer.from(value, 'base64');
  if (bytes.length === DIGEST_BYTES[algorithm] && bytes.toString('base64') === value) return value;
  throw new S3Error('InvalidRequest', `Value for ${name} header is invalid.`);
}

/** The size of the content that the client announces. */
function announcedBytes(body: IncomingBody): number {
  const isChunked = body.payload.kind === 'chunked';
  if (!isChunked && body.headers.has('transfer-encoding'))
    throw new S3Error('NotImplemented', { elements: { Header: 'Transfer-Encoding' } });
  const length = body.headers.get(isChunked ? 'x-amz-decoded-content-length' : 'content-length');
  if (length === undefined || !/^\d{1,15}$/.test(length)) throw new S3Error('MissingContentLength');
  if (Number(length) > MAX_BODY_BYTES)
    throw new S3Error('EntityTooLarge', {
      elements: { ProposedSize: Number(length), MaxSizeAllowed: MAX_BODY_BYTES },
    });
  return Number(length);
}

/**
 * Passes the content of a request to `sink` and checks all that the client claims about it: length, payload hash, chunk signatures, MD5,
 * checksum. Returns only when everything holds. Also computes `wanted`.
 */
export async function receive(
  body: IncomingBody,
  sink: Sink,
  wanted: readonly ChecksumAlgorithm[] = [],
): Promise<Digests> {
  const expectedBytes = announcedBytes(body);
  const claimedMd5 = contentMd5(body.headers);
  const claim = claimedChecksum(body.headers);
  const md5 = createHasher('MD5');
  const sha256 = body.payload.kind === 'hashed' ? createHash('sha256') : undefined;
  const hashers = new Map<ChecksumAlgorithm, Hasher>(wanted.map((name) => [name, createHasher(name)]));
  if (claim !== undefined && !hashers.has(claim.algorithm)) hashers.set(claim.algorithm, createHasher(claim.algorithm));
  const trailers = new Map<string, string>();
  let bytes = 0;
  body.begin();
  for await (const chunk of contentOf(body, trailers)) {
    bytes += chunk.length;
    body.onBytes(chunk.length);
    if (bytes > expectedBytes) break;
    md5.update(chunk);
    sha256?.update(chunk);
    for (const hasher of hashers.values()) hasher.update(chunk);
    await sink.write(chunk);
  }
  if (bytes !== expectedBytes) throw new S3Error('IncompleteBody');
  if (body.payload.kind === 'hashed' && sha256?.digest('hex') !== body.payload.sha256)
    throw new S3Error('XAmzContentSHA256Mismatch');
  const md5Digest = md5.digest();
  if (claimedMd5 !== undefined && !claimedMd5.equals(md5Digest))
    throw new S3Error('BadDigest', 'The Content-MD5 you specified did not match what we received.');
  const checksums = new Map([...hashers].map(([name, hasher]) => [name, hasher.digest().toString('base64')]));
  if (claim !== undefined) {
    const name = `x-amz-checksum-${claim.algorithm.toLowerCase()}`;
    const trailer = trailers.get(name);
    const claimed = claim.value ?? (trailer === undefined ? undefined : checkForm(claim.algorithm, trailer, name));
    if (claimed === undefined) throw new S3Error('MalformedTrailerError');
    if (claimed !== checksums.get(claim.algorithm))
      throw new S3Error('BadDigest', `The ${claim.algorithm} you specified did not match the calculated checksum.`);
  }
  return { bytes, md5: md5Digest.toString('hex'), checksums };
}

/** The whole content of a request that carries a document, as text. */
export async function receiveDocument(body: IncomingBody): Promise<string> {
  if (announcedBytes(body) > MAX_DOCUMENT_BYTES) throw new S3Error('MaxMessageLengthExceeded');
  const chunks: Buffer[] = [];
  const collect = (chunk: Buffer): undefined => void chunks.push(chunk);
  await receive(body, { write: collect });
  return Buffer.concat(chunks).toString('utf8');
}

function contentMd5(headers: ReadonlyMap<string, string>): Buffer | undefined {
  const text = headers.get('content-md5');
  if (text === undefined) return undefined;
  const md5 = Buffer.from(text, 'base64');
  if (md5.length === 16) return md5;
  throw new S3Error('InvalidDigest');
}

function contentOf(body: IncomingBody, trailers: Map<string, string>): AsyncIterable<Buffer> {
  const raw = body.request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  return body.payload.kind === 'chunked' ? decodeChunks(raw, body.payload, trailers) : raw;
}

/** A line of the framing may not be longer: a size, a signature, a trailer. */
const MAX_LINE_BYTES = 1024;

/** Takes the framing off an aws-chunked body, checking the signatures of chunks. Trailers go into `trailers`, names in lower case. */
async function* decodeChunks(
  raw: AsyncIterable<Buffer>,
  payload: Extract<Payload, { kind: 'chunked' }>,
  trailers: Map<string, string>,
): AsyncGenerator<Buffer> {
  const input = new ByteReader(raw);
  try {
    let previousBytes = Infinity;
    for (let bytes = Infinity; bytes > 0; previousBytes = bytes) {
      const [size = '', extension = ''] = (await input.line()).split(';');
      if (!/^[0-9a-fA-F]{1,10}$/.test(size)) throw new S3Error('IncompleteBody');
      bytes = Number.parseInt(size, 16);
      if (bytes > 0 && previousBytes < MIN_CHUNK_BYTES)
        throw new S3Error('InvalidChunkSizeError', { elements: { BadChunkSize: previousBytes } });
      const hash = payload.chunks === undefined ? undefined : createHash('sha256');
      for (let left = bytes; left > 0;) {
        const piece = await input.some(left);
        if (piece === undefined) throw new S3Error('IncompleteBody');
        left -= piece.length;
        hash?.update(piece);
        yield piece;
      }
      if (bytes > 0 && (await input.line()) !== '') throw new S3Error('IncompleteBody');
      if (hash === undefined) continue;
      const signature = /^chunk-signature=([0-9a-f]{64})$/.exec(extension)?.[1];
      payload.chunks?.verifyChunk(hash.digest('hex'), signature ?? '');
    }
    await readTrailers(input, payload, trailers);
  } finally {
    await input.close();
  }
}

async function readTrailers(
  input: ByteReader,
  payload: Extract<Payload, { kind: 'chunked' }>,
  trailers: Map<string, string>,
): Promise<void> {
  let signed = '';
  let signature = '';
  for (let line = await input.line(); line !== ''; line = await input.line()) {
    const [, name, value] = /^([A-Za-z0-9-]+):\s*(.*?)\s*$/.exec(line) ?? [];
    if (name === undefined || value === undefined || !payload.trailer) throw new S3Error('MalformedTrailerError');
    if (name.toLowerCase() === 'x-amz-trailer-signature') {
      signature = value;
      continue;
    }
    trailers.set(name.toLowerCase(), value);
    signed += `${name.toLowerCase()}:${value}\n`;
  }
  if (payload.trailer) payload.chunks?.verifyTrailers(signed, signature);
  if ((await input.some(1)) !== undefined) throw new S3Error('IncompleteBody');
}

/** Lines and runs of bytes out of a stream of chunks, without copying the runs. */
class ByteReader {
  readonly #source: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Lets go of the source, which keeps what has not been read. */
  async close(): Promise<void> {
    await this.#source.return?.();
  }

  /** At least one byte and at most `max`; `undefined` at the end. */
  async some(max: number): Promise<Buffer | undefined> {
    if (this.#rest.length === 0 && !(await this.#more())) return undefined;
    const piece = this.#rest.subarray(0, max);
    this.#rest = this.#rest.subarray(piece.length);
    return piece;
  }

  /** Up to the next CRLF, which is taken but not returned. The end of the stream counts as an empty last line. */
  async line(): Promise<string> {
    for (;;) {
      const end = this.#rest.indexOf('\r\n');
      if (end > MAX_LINE_BYTES || (end < 0 && this.#rest.length > MAX_LINE_BYTES)) throw new S3Error('IncompleteBody');
      if (end >= 0) {
        const line = this.#rest.toString('latin1', 0, end);
        this.#rest = this.#rest.subarray(end + 2);
        return line;
      }
      const before = this.#rest;
      if (!(await this.#more())) {
        if (before.length > 0) throw new S3Error('IncompleteBody');
        return '';
      }
      this.#rest = Buffer.concat([before, this.#rest]);
    }
  }

  /** Replaces what is left by the next chunk. */
  async #more(): Promise<boolean> {
    for (;;) {
      const next = await this.#source.next();
      if (next.done === true) return false;
      if (next.value.length === 0) continue;
      this.#rest = next.value;
      return true;
    }
  }
}
