import type { LookupFunction } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import { aborted, checkAborted, orAborted, type Abortable } from '../abort.ts';
import type { AnswerHead } from './answer-head.ts';
import { Connection, ConnectionError } from './connection.ts';
import { GetExchange, type ExchangeOptions } from './exchange.ts';

/** A request without a body. */
export interface GetRequest extends ExchangeOptions {
  /** Scheme, host and port. */
  readonly origin: URL;
  /** Path and query, sent as they are. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** An answer that has begun. Its body is read once or discarded: it occupies a connection until then. */
export interface GetAnswer extends Pick<AnswerHead, 'status' | 'headers'> {
  /** Its chunks are lent: each is valid until the next one is asked for. */
  readonly body: AsyncIterableIterator<Uint8Array, undefined>;
  /** Gives the rest of the body up. The connection is kept where that is cheap. */
  readonly discard: () => void;
  /** Resolves when nothing of the exchange runs any more. */
  readonly ended: Promise<void>;
}

export interface HttpReaderOptions {
  readonly connectTimeoutMs: number;
  /** How long a connection is kept for the next request. */
  readonly idleTimeoutMs: number;
  /** Connections to one host that are kept. More are opened where more requests are sent at once: the caller limits their number. */
  readonly maxIdle: number;
  readonly lookup?: LookupFunction | undefined;
  readonly tls?: ConnectionOptions | undefined;
}

const MAX_SESSIONS = 100;
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const PATH = /^\/[\x21-\x7e]*$/;

/**
 * Sends requests that only read, by HTTP/1.1 over connections that are used again, and lends the bodies of the answers. Every status is an answer.
 * Reading a body costs a half to a fifth of what undici and Node's client take (docs/decisions/0021-a-body-reader-of-our-own.md).
 */
export class HttpReader {
  readonly #options: HttpReaderOptions;
  readonly #idle = new Map<string, Connection[]>();
  readonly #open = new Set<Connection>();
  readonly #running = new Set<GetExchange>();
  /** TLS sessions, by origin. */
  readonly #sessions = new Map<string, Buffer>();
  #isClosed = false;

  constructor(options: HttpReaderOptions) {
    this.#options = options;
  }

  /** Resolves when the answer begins. Rejects with what `explain` makes of an error of the connection, or with ABORTED. */
  async get(request: GetRequest, options: Abortable): Promise<GetAnswer> {
    checkAborted(options);
    if (this.#isClosed) throw request.explain(closed());
    const bytes = bytesOf(request);
    if (bytes instanceof Error) throw request.explain(bytes);
    const connection = await this.#connection(request, options);
    const exchange = new GetExchange(connection, bytes, request);
    this.#running.add(exchange);
    const { signal } = options;
    const onAbort = (): void => {
      if (signal !== undefined) exchange.abort(aborted(signal));
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    const end = async (): Promise<void> => {
      const idleMs = await exchange.ended;
      signal?.removeEventListener('abort', onAbort);
      this.#running.delete(exchange);
      this.#keep(request.origin, connection, idleMs);
    };
    const ended = end();
    const { status, headers } = await exchange.answered;
    return { status, headers, body: exchange.body, discard: () => exchange.body.leave(), ended };
  }

  /** Breaks off what is under way, and closes every connection. */
  close(): void {
    this.#isClosed = true;
    for (const exchange of this.#running) exchange.abort(closed());
    for (const connection of this.#open) connection.destroy(closed());
  }

  async #connection({ origin, explain }: GetRequest, options: Abortable): Promise<Connection> {
    const idle = this.#idle.get(origin.origin) ?? [];
    for (let kept = idle.pop(); kept !== undefined; kept = idle.pop()) if (kept.isUsable) return kept;
    const connection = this.#connect(origin);
    try {
      await orAborted(connection.connected(), options);
      return connection;
    } catch (error) {
      connection.destroy();
      throw error instanceof Error ? explain(error) : error;
    }
  }

  #connect(origin: URL): Connection {
    const { lookup, tls, connectTimeoutMs } = this.#options;
    const key = origin.origin;
    const connection: Connection = new Connection({
      origin,
      lookup,
      tls,
      connectTimeoutMs,
      session: this.#sessions.get(key),
      onSession: (session) => {
        if (this.#sessions.size >= MAX_SESSIONS) this.#sessions.clear();
        this.#sessions.set(key, session);
      },
      onClose: () => {
        this.#open.delete(connection);
        const list = this.#idle.get(key)?.filter((other) => other !== connection);
        if (list === undefined || list.length === 0) this.#idle.delete(key);
        else this.#idle.set(key, list);
      },
    });
    this.#open.add(connection);
    return connection;
  }

  #keep(origin: URL, connection: Connection, idleMs: number): void {
    const list = this.#idle.get(origin.origin) ?? [];
    if (idleMs === 0 || this.#isClosed || !connection.isUsable || list.length >= this.#options.maxIdle)
      return connection.destroy();
    connection.idle(Math.min(idleMs, this.#options.idleTimeoutMs));
    list.push(connection);
    this.#idle.set(origin.origin, list);
  }
}

function bytesOf({ method, origin, path, headers }: GetRequest): Buffer | ConnectionError {
  const lines = [`${method} ${path} HTTP/1.1`];
  const all = { host: origin.host, connection: 'keep-alive', ...headers };
  for (const [name, value] of Object.entries(all)) {
    if (!TOKEN.test(name) || !VALUE.test(value)) return unsendable(`the header ${name}`);
    lines.push(`${name}: ${value}`);
  }
  if (!PATH.test(path)) return unsendable('the path');
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
}

/** What a header has may come from a server: a token with a line break in it would be another request. */
function unsendable(what: string): ConnectionError {
  return new ConnectionError('UNSENDABLE', `${what} has characters that no request may have`);
}

function closed(): ConnectionError {
  return new ConnectionError('DESTROYED', 'the connections were closed meanwhile');
}
