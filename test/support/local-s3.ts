import { CreateBucketCommand, S3Client, S3ServiceException, type S3ClientConfig } from '@aws-sdk/client-s3';
import { createHash, createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startS3, type LocalS3, type S3Options } from '../../local/s3/s3.ts';
import { lendBodies } from '../../worker/objects/s3/lent-bodies.ts';
import { seededBytes } from './images.ts';

export const BUCKET = 'bucket';
/** Objects that a client of these tests reads at once. */
export const READ_AT_ONCE = 64;

export interface OpenS3 extends AsyncDisposable {
  readonly s3: LocalS3;
  readonly client: S3Client;
  readonly dir: string;
}

/** A server on a new folder, or the given one, with the bucket `bucket` and a client that does not retry. */
export async function openS3(options: Partial<S3Options> & { client?: S3ClientConfig } = {}): Promise<OpenS3> {
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'transship-s3-')));
  const s3 = await startS3({ ...options, dir });
  const client = clientOf(s3, options.client);
  if (options.dir === undefined) await client.send(new CreateBucketCommand({ Bucket: BUCKET }));
  const dispose = async (): Promise<void> => {
    client.destroy();
    await s3.close();
    if (options.dir === undefined) await rm(dir, { recursive: true, force: true });
  };
  return { s3, client, dir, [Symbol.asyncDispose]: dispose };
}

export function clientOf(s3: LocalS3, config: S3ClientConfig = {}): S3Client {
  const client = new S3Client({
    endpoint: s3.endpoint,
    region: s3.region,
    credentials: s3.credentials,
    forcePathStyle: true,
    maxAttempts: 1,
    ...config,
  });
  return lendBodies(client, { concurrency: READ_AT_ONCE, connectTimeoutMs: 10_000, stallTimeoutMs: 60_000 });
}

/** The refusal of S3, as `status Code`; throws when it did not refuse. */
export async function refusal(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (error instanceof S3ServiceException) return `${error.$metadata.httpStatusCode ?? 0} ${error.name}`;
    throw error;
  }
  throw new Error('expected a refusal, and it succeeded');
}

/** Pseudo-random bytes, the same for the same seed. */
export function randomBytes(bytes: number, seed = 1): Buffer {
  return Buffer.from(seededBytes(`s3/${seed}`, bytes));
}

export interface RawRequest {
  readonly method?: string;
  /** Encoded, with its query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Several chunks are sent as separate writes. */
  readonly body?: string | Buffer | readonly Buffer[];
}

export interface RawAnswer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** Sends a request exactly as written, for what no SDK would send. */
export async function sendRaw(s3: LocalS3, raw: RawRequest): Promise<RawAnswer> {
  const { hostname, port } = new URL(s3.endpoint);
  const { method = 'GET', path, headers = {}, body = '' } = raw;
  const chunks: readonly (string | Buffer)[] = typeof body === 'string' || Buffer.isBuffer(body) ? [body] : body;
  const framing = headers['content-length'] === undefined && headers['transfer-encoding'] === undefined;
  const length = chunks.reduce((sum, chunk) => sum + Buffer.byteLength(chunk), 0);
  const request = httpRequest({
    hostname,
    port,
    method,
    path,
    headers: { ...headers, ...(framing && length > 0 ? { 'content-length': length } : {}) },
  });
  for (const chunk of chunks) request.write(chunk);
  request.end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const received: Buffer[] = [];
  for await (const chunk of response) received.push(chunk as Buffer);
  return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(received).toString() };
}

/** The code of an error document, with its status. */
export function codeOf(answer: RawAnswer): string {
  return `${answer.status} ${/<Code>(.*?)<\/Code>/.exec(answer.body)?.[1] ?? '-'}`;
}

export interface Signature {
  readonly payload?: string;
  readonly time?: Date;
  readonly accessKeyId?: string;
  readonly secretAccessKey?: string;
  readonly region?: string;
  /** Names of headers that are sent, but left out of the signature. */
  readonly unsigned?: readonly string[];
}

const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();
const sha256 = (text: string | Buffer): string => createHash('sha256').update(text).digest('hex');
const encode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

interface Signing {
  readonly time: string;
  readonly scope: string;
  readonly key: Buffer;
  readonly credential: string;
}

function signingOf(s3: LocalS3, options: Signature): Signing {
  const time = (options.time ?? new Date()).toISOString().replace(/[-:]|\.\d+/g, '');
  const scope = `${time.slice(0, 8)}/${options.region ?? s3.region}/s3/aws4_request`;
  const secret = `AWS4${options.secretAccessKey ?? s3.credentials.secretAccessKey}`;
  const key = scope.split('/').reduce((step: string | Buffer, part) => hmac(step, part), secret);
  return {
    time,
    scope,
    key: Buffer.from(key),
    credential: `${options.accessKeyId ?? s3.credentials.accessKeyId}/${scope}`,
  };
}

function signatureOf(
  signing: Signing,
  method: string,
  url: URL,
  headers: Map<string, string>,
  payload: string,
): string {
  const query = [...url.searchParams].map(([name, value]) => `${encode(name)}=${encode(value)}`).sort();
  const names = [...headers.keys()].sort();
  const canonical = [
    method,
    url.pathname,
    query.join('&'),
    ...names.map((name) => `${name}:${headers.get(name) ?? ''}`),
    '',
    names.join(';'),
    payload,
  ].join('\n');
  return hmac(signing.key, ['AWS4-HMAC-SHA256', signing.time, signing.scope, sha256(canonical)].join('\n')).toString(
    'hex',
  );
}

/** The same request with an Authorization header. */
export function signed(
  s3: LocalS3,
  raw: RawRequest,
  options: Signature = {},
): RawRequest & { headers: Record<string, string> } {
  const signing = signingOf(s3, options);
  const url = new URL(raw.path, s3.endpoint);
  const body = raw.body ?? '';
  const bytes = typeof body === 'string' ? Buffer.from(body) : Buffer.isBuffer(body) ? body : Buffer.concat([...body]);
  const payload = options.payload ?? sha256(bytes);
  const all = { host: url.host, ...raw.headers, 'x-amz-date': signing.time, 'x-amz-content-sha256': payload };
  const isSigned = ([name]: [string, string]): boolean => !(options.unsigned ?? []).includes(name);
  const headers = new Map(Object.entries(all).filter(isSigned));
  const signature = signatureOf(signing, raw.method ?? 'GET', url, headers, payload);
  const names = [...headers.keys()].sort().join(';');
  const authorization = `AWS4-HMAC-SHA256 Credential=${signing.credential}, SignedHeaders=${names}, Signature=${signature}`;
  return { ...raw, headers: { ...all, authorization } };
}

/** The path of a presigned URL. */
export function presigned(
  s3: LocalS3,
  raw: RawRequest,
  options: Signature & { readonly expiresSeconds?: number } = {},
): string {
  const signing = signingOf(s3, options);
  const url = new URL(raw.path, s3.endpoint);
  const headers = new Map(Object.entries({ host: url.host, ...raw.headers }));
  url.searchParams.set('X-Amz-Algorithm', 'AWS4-HMAC-SHA256');
  url.searchParams.set('X-Amz-Credential', signing.credential);
  url.searchParams.set('X-Amz-Date', signing.time);
  url.searchParams.set('X-Amz-Expires', String(options.expiresSeconds ?? 300));
  url.searchParams.set('X-Amz-SignedHeaders', [...headers.keys()].sort().join(';'));
  const signature = signatureOf(signing, raw.method ?? 'GET', url, headers, 'UNSIGNED-PAYLOAD');
  url.searchParams.set('X-Amz-Signature', signature);
  return `${url.pathname}${url.search}`;
}

/** `bytes` in aws-chunked framing, in chunks of the given size, with trailers. */
export function chunked(bytes: Buffer, chunkBytes: number, trailers: Readonly<Record<string, string>> = {}): Buffer {
  const pieces: Buffer[] = [];
  for (let index = 0; index < bytes.length; index += chunkBytes) {
    const chunk = bytes.subarray(index, index + chunkBytes);
    pieces.push(Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n'));
  }
  const lines = Object.entries(trailers).map(([name, value]) => `${name}:${value}\r\n`);
  pieces.push(Buffer.from(`0\r\n${lines.join('')}\r\n`));
  return Buffer.concat(pieces);
}
