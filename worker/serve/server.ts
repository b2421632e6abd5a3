import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { ServedImages } from '../images/served-images.ts';
import type { Clock } from '../util/clock.ts';
import type { Report } from '../util/events.ts';
import { describeFailure, Failure, isFailure, toFailure } from '../util/failure.ts';
import { Limit } from '../util/limit.ts';
import { Refusal, type Answer } from './answer.ts';
import { Authorization, type Readers } from './authorization.ts';
import { isLoopback, isLoopbackHost, type ListenAddress } from './listen-address.ts';
import { PullApi } from './pull-api.ts';
import { parsePullRoute } from './pull-route.ts';
import { sendAnswer } from './send.ts';

/** Where and to whom images are served. */
export interface ServeOptions {
  readonly listen: ListenAddress;
  /** The clients that may read. Absent: every client that reaches the address. */
  readonly readers?: Readers | undefined;
  /** Certificate chain and private key, PEM. Absent: plain HTTP. */
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer } | undefined;
  /** As `PullApiOptions` has it. */
  readonly redirect?: boolean | undefined;
  /** Connections at once; further ones are closed at once. Default 256. */
  readonly maxConnections?: number | undefined;
  readonly clock: Clock;
  readonly report: Report;
  /** Fires when the server must take no more requests. */
  readonly signal: AbortSignal;
}

/** A server that has begun to listen. */
export interface ServingImages {
  /** `http://127.0.0.1:5000`. */
  readonly url: string;
  /** The names of the repositories, as they are listed. */
  readonly repositories: readonly string[];
  /** Resolves when the signal has fired and all requests are answered, or were cut off after `GRACE_MS`. */
  readonly ended: Promise<void>;
}

const MAX_CONNECTIONS = 256;
/** Bodies that are read from the backup at once, fewer than the connections to S3; further requests wait. Those that wait for a turn do not count. */
const STREAMS_AT_ONCE = 48;
/** How long requests that are under way when the signal fires may go on. */
const GRACE_MS = 10_000;
const HEADERS = { 'docker-distribution-api-version': 'registry/2.0', 'x-content-type-options': 'nosniff' };

/**
 * Serves `images` until the signal fires. INVALID where the address is taken or not ours, where two repositories would have one name, and for a
 * certificate that does not fit its key; UNAVAILABLE where listening fails otherwise.
 */
export async function serveImages(images: ServedImages, options: ServeOptions): Promise<ServingImages> {
  const registry = new ImageServer(images, options);
  const server = createServer(options, (request, response) => registry.serve(request, response));
  server.maxConnections = options.maxConnections ?? MAX_CONNECTIONS;
  server.on('clientError', (_, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
    else socket.destroy();
  });
  await listening(server, options.listen);
  return {
    url: urlOf(server, options),
    repositories: registry.repositories,
    ended: untilStopped(server, registry, options),
  };
}

function createServer(
  { tls }: ServeOptions,
  onRequest: (request: IncomingMessage, response: ServerResponse) => void,
): Server {
  const settings = {
    // larger than the default of 64 KiB: what moves here is hundreds of megabytes
    highWaterMark: 256 * 1024,
    // a request has no body: both are about its head
    headersTimeout: 20_000,
    requestTimeout: 20_000,
    connectionsCheckingInterval: 5000,
    keepAliveTimeout: 60_000,
    maxHeaderSize: 16 * 1024,
  };
  if (tls === undefined) return createHttpServer(settings, onRequest);
  try {
    return createHttpsServer({ ...settings, ...tls, minVersion: 'TLSv1.2', handshakeTimeout: 10_000 }, onRequest);
  } catch (cause) {
    throw new Failure('INVALID', 'the certificate and the key cannot be used: both are PEM, and of one pair', {
      cause,
    });
  }
}

async function listening(server: Server, { host, port }: ListenAddress): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(port, host, resolve);
  try {
    await promise;
  } catch (cause) {
    throw listenFailure(`listen on port ${port} of ${host}`, cause);
  } finally {
    server.off('error', reject);
  }
}

function listenFailure(what: string, cause: unknown): Failure {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  if (code === 'EADDRINUSE')
    return new Failure('INVALID', `${what}: another program listens there; choose another port with --listen`, {
      cause,
    });
  if (code === 'EACCES')
    return new Failure('INVALID', `${what}: this user may not listen there; choose a port above 1023`, { cause });
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return new Failure('INVALID', `${what}: this machine does not have that address`, { cause });
  return new Failure('UNAVAILABLE', `${what}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
}

function urlOf(server: Server, { listen, tls }: ServeOptions): string {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Failure('BUG', 'serve: there is no port');
  const host = listen.host.includes(':') ? `[${listen.host}]` : listen.host;
  return `${tls === undefined ? 'http' : 'https'}://${host}:${address.port}`;
}

/** Takes no more connections once the signal fires, and lets what is under way end. */
async function untilStopped(server: Server, registry: ImageServer, { signal, clock }: ServeOptions): Promise<void> {
  const { promise: fired, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  signal.addEventListener('abort', () => resolve(), { once: true });
  await fired;
  const closed = new Promise<void>((done) => server.close(() => done()));
  server.closeIdleConnections();
  const done = new AbortController();
  const cut = clock.sleep(GRACE_MS, { signal: done.signal }).then(
    () => server.closeAllConnections(),
    () => undefined,
  );
  await closed;
  await registry.idle();
  done.abort();
  await cut;
}

/** One registry, without its sockets. */
class ImageServer {
  readonly #api: PullApi;
  readonly #authorization: Authorization | undefined;
  readonly #options: ServeOptions;
  readonly #streams = new Limit(STREAMS_AT_ONCE);
  readonly #running = new Set<Promise<void>>();

  constructor(images: ServedImages, options: ServeOptions) {
    this.#api = new PullApi(images, options);
    this.#authorization = options.readers === undefined ? undefined : new Authorization(options.readers);
    this.#options = options;
  }

  /** The names of the repositories, as they are listed. */
  get repositories(): readonly string[] {
    return this.#api.repositories;
  }

  /** Resolves when no request is under way. */
  async idle(): Promise<void> {
    await Promise.all(this.#running);
  }

  /** Answers a request. Never throws. */
  serve(request: IncomingMessage, response: ServerResponse): void {
    const running = this.#serve(request, response);
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { clock, report, signal: stopping } = this.#options;
    const startedMs = clock.now();
    // a closed connection does not have an address
    const client = request.socket.remoteAddress ?? 'unknown';
    const gone = new AbortController();
    response.once('close', () => gone.abort(new Failure('ABORTED', 'the client went away')));
    const served = { user: undefined as string | undefined, bytes: 0 };
    const method = request.method ?? 'GET';
    const [path = '/'] = (request.url ?? '/').split('?', 1);
    let failure: Failure | undefined;
    try {
      // a body that a request may have is ignored
      request.resume();
      if (method !== 'GET' && method !== 'HEAD') response.shouldKeepAlive = false;
      if (stopping.aborted) response.shouldKeepAlive = false;
      const answer = await this.#answer(request, path, gone.signal, (user) => (served.user = user));
      await this.#send(response, answer, { isHead: method === 'HEAD', signal: gone.signal }, (bytes) => {
        served.bytes += bytes;
      });
    } catch (error) {
      failure = gone.signal.aborted ? (gone.signal.reason as Failure) : toFailure(error);
      if (!response.headersSent)
        await this.#refuse(response, failure, { isHead: method === 'HEAD', signal: gone.signal });
      response.destroy();
    }
    report({
      type: 'request-served',
      at: new Date(startedMs).toISOString(),
      client,
      ...(served.user === undefined ? {} : { user: served.user }),
      method,
      path,
      status: response.statusCode,
      bytes: served.bytes,
      durationMs: clock.now() - startedMs,
      ...(failure === undefined ? {} : { message: describeFailure(failure) }),
    });
  }

  /** The answer; those of refusals too. Failures of the backup are thrown. */
  async #answer(
    request: IncomingMessage,
    path: string,
    signal: AbortSignal,
    onUser: (user: string) => void,
  ): Promise<Answer> {
    const method = request.method ?? 'GET';
    const { headers } = request;
    try {
      if (this.#authorization !== undefined) onUser(await this.#authorization.check(headers.authorization, { signal }));
      else if (isLoopback(this.#options.listen.host) && !isLoopbackHost(headers.host))
        throw new Refusal(
          403,
          'DENIED',
          'without --htpasswd or --token-file, ask for this registry as localhost or 127.0.0.1',
        );
      const route = parsePullRoute(method, path);
      const query = new URLSearchParams((request.url ?? '').slice(path.length));
      const asked = { method: method === 'HEAD' ? ('HEAD' as const) : ('GET' as const), path, query, headers, signal };
      return await this.#api.answer(asked, route);
    } catch (error) {
      if (error instanceof Refusal) return error.answer;
      throw error;
    }
  }

  async #send(
    response: ServerResponse,
    answer: Answer,
    request: { readonly isHead: boolean; readonly signal: AbortSignal },
    onSent: (bytes: number) => void,
  ): Promise<void> {
    const { clock } = this.#options;
    const whole = { ...answer, headers: { ...HEADERS, ...answer.headers } };
    const send = async (): Promise<void> => sendAnswer(response, whole, { ...request, clock, onSent });
    if (answer.body instanceof Uint8Array || request.isHead || answer.body.waitsForTurn === true) await send();
    else await this.#streams.run(send, { signal: request.signal });
  }

  /** Answers that the backup could not be read. What exactly is wrong is for the log: it names buckets and keys. */
  async #refuse(
    response: ServerResponse,
    failure: Failure,
    request: { readonly isHead: boolean; readonly signal: AbortSignal },
  ): Promise<void> {
    const { answer } = refusalOf(failure);
    await this.#send(response, answer, request, () => undefined).catch(() => undefined);
  }
}

/** The answer to a client for a failure of the backup. It names no bucket and no key. */
function refusalOf(failure: Failure): Refusal {
  const see = 'the log of `transship serve` has the reason';
  if (isFailure(failure, 'NOT_FOUND')) return new Refusal(404, 'BLOB_UNKNOWN', `it is missing in the backup: ${see}`);
  if (isFailure(failure, 'THROTTLED'))
    return new Refusal(429, 'TOOMANYREQUESTS', 'the place of the backup is asked too often', { 'retry-after': '5' });
  if (isFailure(failure, 'UNAVAILABLE', 'ABORTED', 'CONFLICT'))
    return new Refusal(503, 'UNKNOWN', `the backup cannot be read at the moment: ${see}`, { 'retry-after': '5' });
  if (isFailure(failure, 'CORRUPT')) return new Refusal(500, 'UNKNOWN', `the backup is damaged: ${see}`);
  return new Refusal(500, 'UNKNOWN', `the backup cannot be read: ${see}`);
}
