import type { Dispatcher } from 'undici';
import type { Bytes } from '../../content/content.ts';
import { aborted, type Abortable } from '../../util/abort.ts';
import { Failure } from '../../util/failure.ts';
import { connectionFailure } from './connection-failure.ts';
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

  /** Gives up the rest of the body. The connection is kept where that is cheap. */
  discard(): void {
    this.#chunks.length = 0;
    this.#heldBytes = 0;
    if (this.#complete || this.#failure !== undefined) return;
    if ((this.#length ?? 0) - this.#received > DISCARD_BYTES) return this.#abort(givenUp());
    this.#discardBytes = DISCARD_BYTES;
    this.#controller?.resume();
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
  return new Failure('ABORTED', 'the rest of the body is not read');
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
