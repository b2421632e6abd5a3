import type { Dispatcher } from 'undici';
import type { Bytes } from '../../content/content.ts';
import { aborted, type Abortable } from '../../util/abort.ts';
import { Failure, isFailure } from '../../util/failure.ts';
import { ADDRESS_REFUSED } from './address.ts';
import type { WireRequest } from './layer.ts';

/** A request as it is written to the socket. */
export interface ExchangeRequest extends Pick<WireRequest, 'what' | 'method' | 'body'> {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** How long the answer may take to begin once the request is sent, and how long sending may stand still. */
  readonly headersTimeoutMs: number;
  /** `host:port` of the proxy that it goes through; undefined for none. */
  readonly proxy?: string | undefined;
}

/** Received and not yet taken by the reader: beyond this the socket is not read. */
const HELD_BYTES = 256 * 1024;
/** A rest up to this is read and thrown away, so that the connection can be used again. */
const DISCARD_BYTES = 256 * 1024;

/**
 * One request on the wire and its answer. The body is read by iterating, once; it must be iterated, or `discard`ed. `ended` settles when
 * nothing of the exchange runs any more, that of a streamed body's producer included.
 *
 * A handler of undici's dispatch instead of its `request`: bytes go from the parser to the reader without a stream in between.
 */
export class Exchange implements Dispatcher.DispatchHandler, AsyncIterableIterator<Uint8Array> {
  /** Resolves when status and headers are there; rejects with a Failure. */
  readonly answered: Promise<void>;
  /** Resolves when the exchange is over, however it ended. */
  readonly ended: Promise<void>;
  readonly url: URL;
  status = 0;
  readonly #what: string;
  readonly #proxy: string | undefined;
  readonly #answer = Promise.withResolvers<void>();
  readonly #over = Promise.withResolvers<void>();
  #sent: Promise<void> = Promise.resolve();
  #headers: Readonly<Record<string, string | string[] | undefined>> = {};
  #controller: Dispatcher.DispatchController | undefined;
  #length: number | undefined;
  #received = 0;
  readonly #chunks: Uint8Array[] = [];
  #heldBytes = 0;
  /** How much more is read only to be thrown away; undefined while the body has a reader. */
  #discardBytes: number | undefined;
  #complete = false;
  #failure: Failure | undefined;
  #wake: (() => void) | undefined;
  readonly #stopListening: () => void;

  constructor(dispatcher: Dispatcher, request: ExchangeRequest, options: Abortable) {
    this.url = request.url;
    this.#what = request.what;
    this.#proxy = request.proxy;
    this.answered = this.#answer.promise;
    this.answered.catch(() => undefined); // the sender awaits it, or has given up
    const { signal } = options;
    const onAbort = (): void => {
      if (signal !== undefined) this.#abort(aborted(signal));
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#stopListening = () => signal?.removeEventListener('abort', onAbort);
    dispatcher.dispatch(
      {
        origin: request.url.origin,
        path: `${request.url.pathname}${request.url.search}`,
        method: request.method,
        headers: request.headers,
        headersTimeout: request.headersTimeoutMs,
        // without it undici gives up the connection after every HEAD
        ...(request.method === 'HEAD' ? { reset: false } : {}),
        ...this.#bodyOf(request),
      },
      this,
    );
    this.ended = this.#over.promise.then(async () => this.#sent);
    if (signal?.aborted === true) onAbort();
  }

  /** A header of the answer, by its name in lower case; several of the same name are joined by commas. */
  header(name: string): string | undefined {
    const value = this.#headers[name];
    return Array.isArray(value) ? value.join(', ') : value;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#failure !== undefined) controller.abort(this.#failure);
  }

  onResponseStart(
    _: Dispatcher.DispatchController,
    status: number,
    headers: Readonly<Record<string, string | string[] | undefined>>,
  ): void {
    if (status < 200) return;
    this.status = status;
    this.#headers = headers;
    const length = Number(this.header('content-length') ?? NaN);
    this.#length = Number.isSafeInteger(length) ? length : undefined;
    this.#answer.resolve();
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Uint8Array): void {
    this.#received += chunk.byteLength;
    if (this.#discardBytes !== undefined) {
      this.#discardBytes -= chunk.byteLength;
      if (this.#discardBytes < 0) this.#abort(givenUp());
      return;
    }
    this.#chunks.push(chunk);
    this.#heldBytes += chunk.byteLength;
    if (this.#heldBytes >= HELD_BYTES) controller.pause();
    this.#wake?.();
  }

  onResponseEnd(): void {
    this.#complete = true;
    this.#end();
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    this.#failure ??= connectionFailure(this.#what, { host: this.url.host, proxy: this.#proxy }, error);
    this.#answer.reject(this.#failure);
    this.#end();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.#heldBytes -= chunk.byteLength;
        if (this.#chunks.length === 0) this.#controller?.resume();
        return { done: false, value: chunk };
      }
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#complete || this.#discardBytes !== undefined) return { done: true, value: undefined };
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
      this.#wake = undefined;
    }
  }

  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.discard();
    return { done: true, value: undefined };
  }

  /** Gives the rest of the body up. The connection lives on where that is cheap. */
  discard(): void {
    this.#chunks.length = 0;
    this.#heldBytes = 0;
    if (this.#complete || this.#failure !== undefined) return;
    if ((this.#length ?? 0) - this.#received > DISCARD_BYTES) return this.#abort(givenUp());
    this.#discardBytes = DISCARD_BYTES;
    this.#controller?.resume();
  }

  /** The whole body, at most `limit` bytes of it: what is beyond is not read. */
  async bytes(limit: number): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of this) {
      chunks.push(chunk);
      size += chunk.byteLength;
      if (size > limit) break;
    }
    return Buffer.concat(chunks).subarray(0, limit);
  }

  #bodyOf({ body }: ExchangeRequest): Pick<Dispatcher.DispatchOptions, 'body'> {
    if (body === undefined || body instanceof Uint8Array) return body === undefined ? {} : { body };
    const { promise, resolve } = Promise.withResolvers<void>();
    let begun = false;
    const watched = {
      [Symbol.asyncIterator]: () => {
        begun = true;
        return watch(body.open(), resolve);
      },
    };
    // one that was never begun has nothing to end
    this.#sent = this.#over.promise.then(async () => (begun ? promise : undefined));
    // undici sends any async iterable; its types do not say so
    return { body: watched as unknown as Uint8Array };
  }

  #abort(failure: Failure): void {
    if (this.#complete || this.#failure !== undefined) return;
    this.#failure = failure;
    this.#chunks.length = 0;
    this.#answer.reject(failure);
    this.#wake?.();
    this.#controller?.abort(failure);
  }

  #end(): void {
    this.#stopListening();
    this.#wake?.();
    this.#over.resolve();
  }
}

function givenUp(): Failure {
  return new Failure('ABORTED', 'nobody reads the rest');
}

/** The iterator of `body`, and `done` called when it has ended, failed or been closed. */
function watch(body: Bytes, done: () => void): AsyncIterator<Uint8Array, undefined> {
  const inner = body[Symbol.asyncIterator]();
  return {
    next: async () => {
      try {
        const result = await inner.next();
        if (result.done !== true) return result;
      } catch (error) {
        done();
        throw error;
      }
      done();
      return { done: true, value: undefined };
    },
    return: async () => {
      try {
        await inner.return?.();
      } finally {
        done();
      }
      return { done: true, value: undefined };
    },
  };
}

/** https://nodejs.org/docs/latest-v24.x/api/tls.html#x509-certificate-error-codes */
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_(?:GET|VERIFY)|HOSTNAME_MISMATCH|ERR_TLS/;

/** What became of a request that has no answer, as a Failure; one that is a Failure already stays as it is. */
function connectionFailure(
  what: string,
  to: { readonly host: string; readonly proxy: string | undefined },
  error: Error,
): Failure {
  if (error instanceof Failure) return error;
  const refused = to.proxy === undefined ? undefined : refusedByProxy(what, { ...to, proxy: to.proxy }, error);
  if (refused !== undefined) return refused;
  const host = to.proxy === undefined ? to.host : `${to.host} (through the proxy ${to.proxy})`;
  const cause = error instanceof AggregateError && error.errors[0] instanceof Error ? error.errors[0] : error;
  const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : cause.name;
  // nothing that a further try would change
  if (code === 'UND_ERR_DESTROYED' || code === 'UND_ERR_CLOSED')
    return new Failure('ABORTED', `${what}: the registry was closed meanwhile`, { cause: error });
  if (code === ADDRESS_REFUSED) {
    return new Failure('UNSUPPORTED', `${what}: the registry sent us to ${cause.message}; refused`, { cause: error });
  }
  if (code.includes('CERTIFICATE_REQUIRED')) {
    const how = `put client.cert and client.key into certs.d/${to.host}`;
    return new Failure('UNAUTHENTICATED', `${what}: ${host} requires a client certificate; ${how}`, {
      cause: error,
    });
  }
  if (CERTIFICATE.test(code)) {
    return new Failure(
      'UNSUPPORTED',
      `${what}: ${host} has a certificate that is not trusted (${code}); put its authority into certs.d/${to.host}/ca.crt, or name the file in SSL_CERT_FILE or NODE_EXTRA_CA_CERTS`,
      { cause: error },
    );
  }
  if (code === 'EPROTO' || code.startsWith('ERR_SSL')) {
    return new Failure(
      'UNSUPPORTED',
      `${what}: ${host} does not speak TLS as we do (${code}); if it serves plain HTTP, pass --src-plain-http or --dest-plain-http`,
      { cause: error },
    );
  }
  return new Failure(
    'UNAVAILABLE',
    `${what}: ${WHY[code] ?? `the connection to ${host} broke (${code})`}`.replace('%', host),
    {
      cause: error,
    },
  );
}

/** Whether a request by https failed because the server answered the handshake with something else than TLS, as plain HTTP servers do. */
export function isPlainAnswer(error: unknown): boolean {
  if (!isFailure(error, 'UNSUPPORTED')) return false;
  const { cause } = error;
  return cause instanceof Error && 'code' in cause && cause.code === 'ERR_SSL_WRONG_VERSION_NUMBER';
}

/** The failure of a request that the proxy refused to pass on; undefined for another error. */
function refusedByProxy(
  what: string,
  { host, proxy }: { readonly host: string; readonly proxy: string },
  error: Error,
): Failure | undefined {
  const status = Number(/^Proxy (?:response|Authentication Required) \((\d{3})\)/.exec(error.message)?.[1]);
  if (Number.isNaN(status)) return undefined;
  if (status === 407) {
    const how = 'put them into its address, http://user:password@host:port';
    return new Failure('UNAUTHENTICATED', `${what}: the proxy ${proxy} asks for other credentials (407); ${how}`, {
      cause: error,
    });
  }
  const message = `${what}: the proxy ${proxy} did not connect to ${host} (${status})`;
  if (status >= 500 || status === 429) return new Failure('UNAVAILABLE', message, { cause: error });
  const how = 'allow the host there, or name it in NO_PROXY';
  return new Failure('DENIED', `${message}; ${how}`, { cause: error });
}

const WHY: Readonly<Record<string, string>> = {
  ENOTFOUND: 'there is no host %',
  EAI_AGAIN: 'the name of % could not be looked up',
  ECONNREFUSED: '% refused the connection',
  UND_ERR_CONNECT_TIMEOUT: '% did not take the connection in time',
  UND_ERR_HEADERS_TIMEOUT: '% did not answer in time',
  UND_ERR_BODY_TIMEOUT: '% stopped sending',
  UND_ERR_SOCKET: '% closed the connection',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: '% broke off the answer',
  ECONNRESET: '% closed the connection',
  EPIPE: '% closed the connection',
};
