import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { S3Error } from './error.ts';
import { Faults, type RequestFault } from '../faults.ts';
import { listen, stopListening } from '../http/listen.ts';
import { objectEvent } from './events.ts';
import { findOperation, perform, type S3Operation } from './operations.ts';
import type { S3Answer, S3Settings } from './request.ts';
import { seenHeaders, type S3Quirk } from './quirks.ts';
import { authenticate, type Credentials } from './signature.ts';
import { S3Store } from './store.ts';
import { renderXml, type XmlElements } from './xml.ts';

export interface S3Options {
  /** Holds everything. A new server on the same folder goes on where the last one ended. */
  readonly dir: string;
  /** Default 127.0.0.1. */
  readonly host?: string | undefined;
  /** Default: any free one. */
  readonly port?: number | undefined;
  readonly credentials?: Credentials;
  /** Default us-east-1. */
  readonly region?: string;
  /** The account that owns everything. Default 000000000000. */
  readonly accountId?: string;
  /** The least size of every part but the last. Default 5 MiB, as S3's; tests lower it. */
  readonly minPartBytes?: number;
  readonly faults?: Faults<S3Operation>;
  /** What it does otherwise than Amazon's. Default nothing. */
  readonly quirks?: readonly S3Quirk[];
  /** Prefixes of keys whose objects a policy protects from deletion. Default none. */
  readonly undeletable?: readonly string[];
  /** Keys of KMS that objects may be encrypted with, as requests name them. Nothing is encrypted. Default none. */
  readonly kmsKeys?: readonly string[];
  /** Made, with versions, where they are not there yet. Default none. */
  readonly buckets?: readonly string[];
  /** Called with the event, as JSON, that EventBridge sends for each object that is written or deleted. */
  readonly onEvent?: ((event: string) => void) | undefined;
}

/** One request that was made, for budgets in tests. */
interface S3RequestRecord {
  readonly method: string;
  /** `undefined` when this server does not know it. */
  readonly operation: S3Operation | undefined;
  readonly bucket: string;
  readonly key: string;
  /** 0 while it has not been answered, and for ever when the connection was cut instead. */
  readonly status: number;
  /** Content, without framing. */
  readonly receivedBytes: number;
  readonly sentBytes: number;
}

export interface LocalS3 extends AsyncDisposable {
  /** `http://host:port`. Buckets are the first part of the path, or of the host in `<bucket>.s3.localhost`. */
  readonly endpoint: string;
  readonly region: string;
  readonly credentials: Credentials;
  readonly faults: Faults<S3Operation>;
  /** In the order they came; of the newest 10,000. */
  readonly requests: readonly S3RequestRecord[];
  /** Ends all connections and gives the folder free. */
  close(): Promise<void>;
}

const DEFAULT_CREDENTIALS: Credentials = { accessKeyId: 'local', secretAccessKey: 'local-secret' };
const DEFAULT_REGION = 'us-east-1';
const DEFAULT_ACCOUNT = '000000000000';
const MAX_RECORDS = 10_000;
/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html */
const MAX_KEY_BYTES = 1024;
/** Longer than clients keep an idle connection, so that they never send on one that is just being closed. */
const KEEP_ALIVE_MS = 600_000;

/**
 * An S3 in this process, as strict as the real one where a mistake of a client would show there: signatures, checksums, conditions,
 * multipart rules, versions, locks; with quirks, it behaves as others do. What it does not know it refuses with 501: policies, access lists, keys
 * of the client, restores, notifications, the first kind of list. Lifecycle rules are kept and never run. Memory is bounded by the number of
 * connections.
 */
export async function startS3(options: S3Options): Promise<LocalS3> {
  const { accountId: account = DEFAULT_ACCOUNT, region = DEFAULT_REGION, onEvent } = options;
  const store = await S3Store.open(options.dir, (change, before) => {
    const event = onEvent === undefined ? undefined : objectEvent(change, before, { account, region }, Date.now());
    if (event !== undefined) onEvent?.(event);
  });
  const server = new S3Server(options, store);
  try {
    for (const name of options.buckets ?? []) {
      if (store.findBucket(name) !== undefined) continue;
      const settings = { hasObjectLock: false, versioning: 'Enabled' } as const;
      store.commit({ type: 'bucket', name, createdMs: Date.now(), settings });
    }
    await server.listen(options);
  } catch (error) {
    await server.close();
    throw error;
  }
  return server;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly record: Mutable<S3RequestRecord>;
  readonly requestId: string;
  fault: RequestFault | undefined;
  /** Whether the client waits for 100 Continue before it sends its body. */
  isWaiting: boolean;
}

class S3Server implements LocalS3 {
  readonly region: string;
  readonly credentials: Credentials;
  readonly faults: Faults<S3Operation>;
  readonly requests: S3RequestRecord[] = [];
  readonly #settings: S3Settings;
  readonly #store: S3Store;
  readonly #server: Server;
  readonly #active = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  #endpoint = '';

  constructor(options: S3Options, store: S3Store) {
    this.region = options.region ?? DEFAULT_REGION;
    this.credentials = options.credentials ?? DEFAULT_CREDENTIALS;
    this.faults = options.faults ?? new Faults();
    this.#settings = {
      region: this.region,
      accountId: options.accountId ?? DEFAULT_ACCOUNT,
      minPartBytes: options.minPartBytes ?? 5 * 1024 * 1024,
      quirks: new Set(options.quirks),
      undeletable: options.undeletable ?? [],
      kmsKeys: new Set(options.kmsKeys),
    };
    this.#store = store;
    const serve = (request: IncomingMessage, response: ServerResponse): void => {
      const served = this.#serve(request, response).finally(() => this.#active.delete(served));
      this.#active.add(served);
    };
    this.#server = createServer({ requestTimeout: 0, keepAliveTimeout: KEEP_ALIVE_MS, highWaterMark: 512 * 1024 });
    this.#server.on('request', serve);
    this.#server.on('checkContinue', serve);
  }

  get endpoint(): string {
    return this.#endpoint;
  }

  async listen(options: Pick<S3Options, 'host' | 'port'>): Promise<void> {
    this.#endpoint = (await listen(this.#server, { name: 'S3', port: options.port, host: options.host })).url;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await stopListening(this.#server);
    await Promise.all(this.#active);
    await this.#store.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '' } = request;
    const record = { method, operation: undefined, bucket: '', key: '', status: 0, receivedBytes: 0, sentBytes: 0 };
    const { quirks } = this.#settings;
    const id = randomBytes(8).toString('hex');
    const requestId = quirks.has('counts-parts') ? `tx00000${id}-0065f0c1a2-1062-default` : id.toUpperCase();
    response.setHeader('server', quirks.size === 0 ? 'AmazonS3' : 'OtherS3');
    const isWaiting = request.headers.expect !== undefined;
    const exchange: Exchange = { request, response, record, requestId, fault: undefined, isWaiting };
    this.requests.push(record);
    if (this.requests.length > MAX_RECORDS) this.requests.shift();
    try {
      const answer = await this.#answer(exchange);
      using _content = answer.content;
      if (exchange.fault?.kind === 'lose-answer') request.socket.destroy();
      else await send(exchange, answer);
    } catch (error) {
      if (request.socket.destroyed) return; // the client went away, or was cut off on purpose
      if (response.headersSent) request.socket.destroy();
      else await send(exchange, errorAnswer(error, exchange)).catch(() => request.socket.destroy());
    } finally {
      request.resume(); // what is left of a refused body, so that the next request comes through
    }
  }

  async #answer(exchange: Exchange): Promise<S3Answer> {
    const { request, record } = exchange;
    const method = request.method ?? '';
    const own = headersOf(request);
    const { path, query } = parseTarget(request.url ?? '/');
    Object.assign(record, addressOf(path, own.get('host') ?? ''));
    const { bucket, key } = record;
    // a presigned request may carry its headers in the query
    const [hoisted, parameters] = [true, false].map((is) => query.filter(([name]) => name.startsWith('x-amz-') === is));
    const headers = new Map([...(hoisted ?? []), ...own]);
    const asked = { method, bucket, key, query: new Map(parameters), headers };
    record.operation = findOperation(asked);
    const fault = this.faults.take({ operations: record.operation === undefined ? [] : [record.operation], key });
    exchange.fault = fault;
    const instead = fault && (await this.#suffer(fault, exchange));
    if (instead !== undefined) return instead;
    const signer = { ...this.credentials, region: this.region };
    const payload = authenticate({ method, path, query, headers: own }, signer, Date.now());
    if (record.operation === undefined) throw unknownOperation(asked);
    const seen = seenHeaders(this.#settings.quirks, asked);
    if (new Map(query).size < query.length) throw new S3Error('InvalidArgument', 'A query parameter was given twice');
    const keyBytes = Buffer.byteLength(key);
    if (keyBytes > MAX_KEY_BYTES)
      throw new S3Error('KeyTooLongError', { elements: { Size: keyBytes, MaxSizeAllowed: MAX_KEY_BYTES } });
    for (const name of ['x-amz-expected-bucket-owner', 'x-amz-source-expected-bucket-owner'])
      if ((headers.get(name) ?? this.#settings.accountId) !== this.#settings.accountId)
        throw new S3Error('AccessDenied');
    const begin = (): void => takeBody(exchange);
    const onBytes = (bytes: number): void => void (record.receivedBytes += bytes);
    const body = { request, headers: seen, payload, begin, onBytes };
    return perform(record.operation, { ...asked, headers: seen, body, store: this.#store, settings: this.#settings });
  }

  /** What happens before the request is served, and may be all that happens. */
  async #suffer(fault: RequestFault, exchange: Exchange): Promise<S3Answer | undefined> {
    const { request } = exchange;
    switch (fault.kind) {
      case 'delay':
        await delay(fault.ms, undefined, { signal: this.#closing.signal });
        return undefined;
      case 'answer': {
        const { status = 503, code = 'SlowDown', retryAfterSeconds } = fault;
        const headers = { 'retry-after': retryAfterSeconds };
        return code === ''
          ? { status, headers }
          : { status, headers, document: errorDocument(exchange, code, 'as was asked for') };
      }
      case 'cut-request': {
        const { afterBytes = 0 } = fault;
        if (afterBytes > 0) {
          let bytes = 0;
          takeBody(exchange);
          for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
            bytes += chunk.length;
            if (bytes >= afterBytes) break;
          }
        }
        request.socket.destroy();
        throw new S3Error('InternalError', 'cut off');
      }
      case 'cut-answer':
      case 'lose-answer':
        return undefined;
      default:
        return fault satisfies never;
    }
  }
}

/** Asks a client that waits for it to send its body. */
function takeBody(exchange: Exchange): void {
  if (exchange.isWaiting) exchange.response.writeContinue();
  exchange.isWaiting = false;
}

/** Repeated headers joined, names in lower case. */
function headersOf(request: IncomingMessage): ReadonlyMap<string, string> {
  const headers = new Map<string, string>();
  for (const [name, values] of Object.entries(request.headersDistinct)) headers.set(name, (values ?? []).join(','));
  return headers;
}

interface Target {
  /** Still encoded. */
  readonly path: string;
  readonly query: readonly (readonly [string, string])[];
}

function parseTarget(url: string): Target {
  const offset = url.indexOf('?');
  const path = offset < 0 ? url : url.slice(0, offset);
  const pairs = offset < 0 ? [] : url.slice(offset + 1).split('&');
  const query = pairs
    .filter((pair) => pair !== '')
    .map((pair) => {
      const [name = '', ...value] = pair.split('=');
      return [decode(name.replaceAll('+', ' ')), decode(value.join('=').replaceAll('+', ' '))] as const;
    });
  return { path, query };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new S3Error('InvalidURI');
  }
}

/** What follows the bucket in `<bucket>.s3.localhost`, `<bucket>.localhost` and AWS's own names. Every other host is path-style. */
const SERVICE_HOST = /(?:^|\.)(?:s3(?:[.-][a-z0-9-]+)*\.)?(?:localhost|amazonaws\.com)$/;

function addressOf(path: string, host: string): { bucket: string; key: string } {
  const name = host.replace(/:\d+$/, '').toLowerCase();
  const bucket = name.slice(0, SERVICE_HOST.exec(name)?.index ?? 0);
  const rest = path.replace(/^\//, '');
  if (bucket !== '') return { bucket, key: decode(rest) };
  const slash = rest.indexOf('/');
  return slash < 0
    ? { bucket: decode(rest), key: '' }
    : { bucket: decode(rest.slice(0, slash)), key: decode(rest.slice(slash + 1)) };
}

function unknownOperation(asked: {
  readonly method: string;
  readonly bucket: string;
  readonly key: string;
  readonly query: ReadonlyMap<string, string>;
}): S3Error {
  const on = asked.bucket === '' ? 'the service' : asked.key === '' ? 'a bucket' : 'an object';
  const parameters = [...asked.query.keys()].filter((name) => !name.startsWith('X-Amz-')).join(', ');
  return new S3Error('NotImplemented', `${asked.method} on ${on} (${parameters}) is not implemented by this server.`);
}

function errorAnswer(error: unknown, exchange: Exchange): S3Answer {
  if (!(error instanceof S3Error)) {
    const message = error instanceof Error ? error.message : String(error);
    return { status: 500, document: errorDocument(exchange, 'InternalError', message) };
  }
  const { status, code, message, detail } = error;
  if (status === 304) return { status, headers: detail.headers ?? {} };
  return { status, headers: detail.headers ?? {}, document: errorDocument(exchange, code, message, detail.elements) };
}

function errorDocument(
  { request, requestId }: Exchange,
  code: string,
  message: string,
  elements: XmlElements = {},
): string {
  const resource = (request.url ?? '').replace(/\?.*$/s, '');
  return renderXml('Error', { Code: code, Message: message, ...elements, Resource: resource, RequestId: requestId });
}

async function send(exchange: Exchange, answer: S3Answer): Promise<void> {
  const { request, response, record, fault } = exchange;
  const { status = 200, headers = {}, document, content } = answer;
  response.setHeader('x-amz-request-id', exchange.requestId);
  response.setHeader('x-amz-id-2', Buffer.from(exchange.requestId).toString('base64'));
  // a body that was never asked for may follow, or not: the next request could not be distinguished from it
  if (exchange.isWaiting) response.setHeader('connection', 'close');
  for (const [name, value] of Object.entries(headers)) if (value !== undefined) response.setHeader(name, value);
  const body = document === undefined ? undefined : Buffer.from(document);
  if (body !== undefined) {
    response.setHeader('content-type', 'application/xml');
    response.setHeader('content-length', body.length);
  } else if (status !== 204 && status !== 304 && !response.hasHeader('content-length'))
    response.setHeader('content-length', 0);
  const hasBody = request.method !== 'HEAD' && (content !== undefined || body !== undefined);
  const afterBytes = fault?.kind === 'cut-answer' ? fault.afterBytes : Infinity;
  if (fault?.kind === 'cut-answer' && !hasBody) {
    request.socket.destroy();
    return;
  }
  record.status = status;
  response.writeHead(status);
  if (hasBody) {
    for await (const chunk of content ?? (body === undefined ? [] : [body])) {
      const left = afterBytes - record.sentBytes;
      await write(response, left < chunk.length ? chunk.subarray(0, left) : chunk);
      record.sentBytes += Math.min(left, chunk.length);
      if (left <= chunk.length) {
        request.socket.destroy();
        return;
      }
    }
  }
  response.end();
}

/** Resolves when the chunk has left the process, so that its memory may be used again. */
async function write(response: ServerResponse, chunk: Uint8Array): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  // a write whose connection goes away is never called back
  const onClose = (): void => reject(new Error('the client went away'));
  response.once('close', onClose);
  if (response.closed) onClose();
  response.write(chunk, (error) => (error ? reject(error) : resolve()));
  try {
    await promise;
  } finally {
    response.off('close', onClose);
  }
}
