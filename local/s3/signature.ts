import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { S3Error } from './error.ts';

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** What a signature is made over. */
export interface SignedParts {
  readonly method: string;
  /** As sent, still percent-encoded. */
  readonly path: string;
  /** Decoded, in the order sent. */
  readonly query: readonly (readonly [name: string, value: string])[];
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
}

export interface Signer extends Credentials {
  readonly region: string;
}

/** What the signature covers of the body. */
export type Payload =
  | { readonly kind: 'unsigned' }
  | { readonly kind: 'hashed'; readonly sha256: string }
  /** aws-chunked. With `chunks`, each chunk is signed. */
  | { readonly kind: 'chunked'; readonly trailer: boolean; readonly chunks?: ChunkSignatures };

const ALGORITHM = 'AWS4-HMAC-SHA256';
const EMPTY_SHA256 = createHash('sha256').digest('hex');
const MAX_SKEW_MS = 15 * 60_000;
/** https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html */
const MAX_EXPIRES_SECONDS = 604_800;

/**
 * Verifies the sender of a request, by header or by presigned query, and returns what was signed of the body.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
 */
export function authenticate(parts: SignedParts, signer: Signer, nowMs: number): Payload {
  const query = new Map(parts.query);
  const header = parts.headers.get('authorization');
  const isPresigned = query.has('X-Amz-Algorithm') || query.has('X-Amz-Signature') || query.has('Signature');
  if (header !== undefined && isPresigned)
    throw new S3Error('InvalidArgument', {
      message:
        'Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified',
      elements: { ArgumentName: 'Authorization' },
    });
  if (header !== undefined) return verifyHeader(parts, header, signer, nowMs);
  if (isPresigned) return verifyQuery(parts, query, signer, nowMs);
  throw new S3Error('AccessDenied');
}

function verifyHeader(parts: SignedParts, header: string, signer: Signer, nowMs: number): Payload {
  const malformed = (why: string): S3Error =>
    new S3Error('AuthorizationHeaderMalformed', {
      message: `The authorization header is malformed; ${why}`,
      elements: { Region: signer.region },
    });
  if (!header.startsWith(`${ALGORITHM} `))
    throw new S3Error(
      'InvalidRequest',
      `The authorization mechanism you have provided is not supported. Please use ${ALGORITHM}.`,
    );
  const fields = new Map(
    header
      .slice(ALGORITHM.length)
      .split(',')
      .map((field) => {
        const [name = '', ...value] = field.trim().split('=');
        return [name, value.join('=')] as const;
      }),
  );
  const scope = parseScope(fields.get('Credential') ?? '', signer, malformed);
  const time = parts.headers.get('x-amz-date') ?? '';
  const timeMs = parseTime(time);
  if (timeMs === undefined)
    throw new S3Error('AccessDenied', 'AWS authentication requires a valid Date or x-amz-date header');
  if (Math.abs(nowMs - timeMs) > MAX_SKEW_MS) throw new S3Error('RequestTimeTooSkewed');
  if (!time.startsWith(scope.date)) throw malformed('the date of the credential scope is not that of the request.');
  const content = parts.headers.get('x-amz-content-sha256');
  if (content === undefined)
    throw new S3Error('InvalidRequest', 'Missing required header for this request: x-amz-content-sha256');
  const signedHeaders = (fields.get('SignedHeaders') ?? '').split(';');
  const signature = fields.get('Signature') ?? '';
  const key = verify(parts, parts.query, { signer, scope, time, signedHeaders, signature, content });
  return payloadOf(content, { key, time, scope: scope.text, previous: signature });
}

function verifyQuery(parts: SignedParts, query: ReadonlyMap<string, string>, signer: Signer, nowMs: number): Payload {
  const malformed = (why: string): S3Error => new S3Error('AuthorizationQueryParametersError', why);
  const need = (name: string): string => {
    const value = query.get(name);
    if (value !== undefined && value !== '') return value;
    throw malformed(
      'Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.',
    );
  };
  if (need('X-Amz-Algorithm') !== ALGORITHM) throw malformed(`X-Amz-Algorithm only supports "${ALGORITHM}"`);
  const scope = parseScope(need('X-Amz-Credential'), signer, malformed);
  const time = need('X-Amz-Date');
  const timeMs = parseTime(time);
  if (timeMs === undefined) throw malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"");
  if (!time.startsWith(scope.date)) throw malformed('Invalid credential date: it is not that of X-Amz-Date');
  const expires = need('X-Amz-Expires');
  if (!/^\d{1,9}$/.test(expires)) throw malformed('X-Amz-Expires should be a number');
  if (Number(expires) > MAX_EXPIRES_SECONDS)
    throw malformed(
      `X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than ${MAX_EXPIRES_SECONDS} seconds`,
    );
  const signature = need('X-Amz-Signature');
  const signedHeaders = need('X-Amz-SignedHeaders').split(';');
  // `Access Denied` covers both ends of the time it is good for
  if (timeMs > nowMs + MAX_SKEW_MS) throw new S3Error('AccessDenied', 'Request is not yet valid');
  if (nowMs > timeMs + Number(expires) * 1000)
    throw new S3Error('AccessDenied', { message: 'Request has expired', elements: { 'X-Amz-Expires': expires } });
  const content = parts.headers.get('x-amz-content-sha256') ?? query.get('X-Amz-Content-Sha256') ?? 'UNSIGNED-PAYLOAD';
  const signed = parts.query.filter(([name]) => name !== 'X-Amz-Signature');
  const key = verify(parts, signed, { signer, scope, time, signedHeaders, signature, content });
  return payloadOf(content, { key, time, scope: scope.text, previous: signature });
}

interface Scope {
  readonly date: string;
  readonly text: string;
}

function parseScope(credential: string, signer: Signer, malformed: (why: string) => S3Error): Scope {
  const fields = credential.split('/'); // an access key id may hold slashes
  const [date, region, service, end] = fields.slice(-4);
  const accessKeyId = fields.slice(0, -4).join('/');
  if (end !== 'aws4_request' || service !== 's3' || accessKeyId === '' || date === undefined)
    throw malformed('the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/s3/aws4_request".');
  if (region !== signer.region) throw malformed(`the region '${region}' is wrong; expecting '${signer.region}'`);
  if (accessKeyId !== signer.accessKeyId) throw new S3Error('InvalidAccessKeyId');
  return { date, text: `${date}/${region}/${service}/${end}` };
}

function parseTime(time: string): number | undefined {
  const match = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(time);
  if (match === null) return undefined;
  const [year = 0, month = 0, ...rest] = match.slice(1).map(Number);
  return Date.UTC(year, month - 1, ...rest);
}

interface Claim {
  readonly signer: Signer;
  readonly scope: Scope;
  readonly time: string;
  readonly signedHeaders: readonly string[];
  readonly signature: string;
  readonly content: string;
}

/** Throws unless the claimed signature is the right one; returns the key that made it. */
function verify(parts: SignedParts, query: SignedParts['query'], claim: Claim): Buffer {
  const { signer, scope, signedHeaders } = claim;
  const unsigned = [...parts.headers.keys()].filter(
    (name) => name.startsWith('x-amz-') && !signedHeaders.includes(name),
  );
  if (!signedHeaders.includes('host') || unsigned.length > 0)
    throw new S3Error('AccessDenied', {
      message: 'There were headers present in the request which were not signed',
      elements: { HeadersNotSigned: unsigned.join(', ') || 'host' },
    });
  const token = parts.headers.get('x-amz-security-token') ?? new Map(query).get('X-Amz-Security-Token');
  if (token !== undefined) throw new S3Error('InvalidToken');
  const canonical = [
    parts.method,
    parts.path
      .split('/')
      .map((segment) => encodeStrictly(decodeSegment(segment)))
      .join('/'),
    query
      .map(([name, value]) => `${encodeStrictly(name)}=${encodeStrictly(value)}`)
      .sort()
      .join('&'),
    ...signedHeaders.map((name) => `${name}:${(parts.headers.get(name) ?? '').trim().replace(/\s+/g, ' ')}`),
    '',
    signedHeaders.join(';'),
    claim.content,
  ].join('\n');
  const toSign = [ALGORITHM, claim.time, scope.text, sha256(canonical)].join('\n');
  const key = scope.text
    .split('/')
    .reduce((secret: string | Buffer, step) => hmac(secret, step), `AWS4${signer.secretAccessKey}`);
  const signingKey = Buffer.from(key);
  if (!sameText(hmac(signingKey, toSign).toString('hex'), claim.signature)) throw new S3Error('SignatureDoesNotMatch');
  return signingKey;
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new S3Error('InvalidURI');
  }
}

/** Percent-encodes all but RFC 3986's unreserved characters. */
export function encodeStrictly(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function payloadOf(content: string, seed: ChunkSeed): Payload {
  switch (content) {
    case 'UNSIGNED-PAYLOAD':
      return { kind: 'unsigned' };
    case 'STREAMING-UNSIGNED-PAYLOAD-TRAILER':
      return { kind: 'chunked', trailer: true };
    case 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD':
      return { kind: 'chunked', trailer: false, chunks: new ChunkSignatures(seed) };
    case 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER':
      return { kind: 'chunked', trailer: true, chunks: new ChunkSignatures(seed) };
    default:
      if (/^[0-9a-f]{64}$/.test(content)) return { kind: 'hashed', sha256: content };
      throw new S3Error(
        'InvalidArgument',
        'x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.',
      );
  }
}

interface ChunkSeed {
  readonly key: Buffer;
  readonly time: string;
  readonly scope: string;
  readonly previous: string;
}

/**
 * The signatures of the chunks of one body, each over the one before.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and …/sigv4-streaming-trailers.html
 */
export class ChunkSignatures {
  readonly #seed: ChunkSeed;
  #previous: string;

  constructor(seed: ChunkSeed) {
    this.#seed = seed;
    this.#previous = seed.previous;
  }

  verifyChunk(sha256OfChunk: string, signature: string): void {
    this.#verify(`${ALGORITHM}-PAYLOAD`, [EMPTY_SHA256, sha256OfChunk], signature);
  }

  /** `trailers` as `name:value\n` each. */
  verifyTrailers(trailers: string, signature: string): void {
    this.#verify(`${ALGORITHM}-TRAILER`, [sha256(trailers)], signature);
  }

  #verify(what: string, hashes: readonly string[], signature: string): void {
    const { key, time, scope } = this.#seed;
    const expected = hmac(key, [what, time, scope, this.#previous, ...hashes].join('\n')).toString('hex');
    if (!sameText(expected, signature)) throw new S3Error('SignatureDoesNotMatch');
    this.#previous = expected;
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

function sameText(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}
