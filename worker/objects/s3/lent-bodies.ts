import type { S3Client } from '@aws-sdk/client-s3';
import { Readable } from 'node:stream';
import { HttpReader, type GetAnswer } from '../../util/http/http-reader.ts';
import { Limit } from '../../util/limit.ts';
import { proxyOf, type Proxies } from '../../util/proxies.ts';

type Handler = S3Client['config']['requestHandler'];
type SdkRequest = Parameters<Handler['handle']>[0];

export interface LentBodiesOptions {
  /** Requests through a proxy are left to the SDK. */
  readonly proxies?: Proxies | undefined;
  /** Objects that are read at once; more wait. */
  readonly concurrency: number;
  readonly connectTimeoutMs: number;
  /** How long an answer or its body may bring nothing. */
  readonly stallTimeoutMs: number;
}

/** Servers close idle connections after 5 seconds and more. */
const IDLE_TIMEOUT_MS = 4000;
/** The signature encodes these characters of a query, which `encodeURIComponent` leaves. */
const RESERVED = /[!'()*]/gu;

const lent = new WeakMap<Readable, AsyncIterable<Uint8Array>>();

/**
 * Has `client` read objects by connections of our own, whose bodies are lent; every other request goes on as before. The SDK's own way costs
 * an allocation for every 64 KiB. Such a client is closed by its own `destroy`.
 */
export function lendBodies(client: S3Client, options: LentBodiesOptions): S3Client {
  const { proxies, concurrency, connectTimeoutMs, stallTimeoutMs } = options;
  const reader = new HttpReader({ connectTimeoutMs, idleTimeoutMs: IDLE_TIMEOUT_MS, maxIdle: concurrency });
  const limit = new Limit(concurrency);
  const handler = client.config.requestHandler;
  const [sendBySdk, destroySdk] = [handler.handle.bind(handler), handler.destroy?.bind(handler)];
  const read = async (request: SdkRequest, origin: URL, signal: AbortSignal | undefined): Promise<GetAnswer> => {
    const giveBack = await limit.take(1, { signal });
    try {
      const { headers } = request;
      const timeouts = { answerTimeoutMs: stallTimeoutMs, stallTimeoutMs };
      const path = pathOf(request);
      const answer = await reader.get(
        { method: 'GET', origin, path, headers, ...timeouts, explain: (error) => error },
        { signal },
      );
      void answer.ended.then(giveBack);
      return answer;
    } catch (error) {
      giveBack();
      throw error;
    }
  };
  const handle: Handler['handle'] = async (request, handlerOptions) => {
    const origin = originOf(request);
    if (!readsObject(request) || proxyOf(proxies, origin) !== undefined) return sendBySdk(request, handlerOptions);
    // every signal that we give the SDK is one of Node's
    const { abortSignal } = (handlerOptions ?? {}) as { readonly abortSignal?: AbortSignal };
    const answer = await read(request, origin, abortSignal);
    const { status: statusCode, headers } = answer;
    return { response: { statusCode, headers: Object.fromEntries(headers), body: streamOf(answer) } };
  };
  const destroy = (): void => {
    reader.close();
    destroySdk?.();
  };
  Object.assign(handler, { handle, destroy });
  return client;
}

/** The body of an answer of such a client: its chunks are lent. Undefined for one that the SDK read itself. */
export function lentBodyOf(body: Readable): AsyncIterable<Uint8Array> | undefined {
  return lent.get(body);
}

/** What the SDK takes for the body. It may be read as any stream. */
function streamOf({ body, discard }: GetAnswer): Readable {
  const stream = new Readable({
    read() {
      body.next().then(
        ({ done, value }) => this.push(done === true ? null : Buffer.from(value)),
        (error: unknown) => this.destroy(error instanceof Error ? error : new Error(String(error))),
      );
    },
    destroy: (error, done) => {
      discard();
      done(error);
    },
  });
  lent.set(stream, body);
  return stream;
}

function readsObject({ method, query }: SdkRequest): boolean {
  return method === 'GET' && query['x-id'] === 'GetObject';
}

function originOf({ protocol, hostname, port }: SdkRequest): URL {
  return new URL(`${protocol}//${hostname}${port === undefined ? '' : `:${port}`}`);
}

function pathOf({ path, query }: SdkRequest): string {
  const pairs = Object.entries(query).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).map((one) =>
      one === null ? encoded(name) : `${encoded(name)}=${encoded(one)}`,
    ),
  );
  return pairs.length === 0 ? path : `${path}?${pairs.join('&')}`;
}

function encoded(text: string): string {
  return encodeURIComponent(text).replaceAll(RESERVED, (found) => `%${found.charCodeAt(0).toString(16).toUpperCase()}`);
}
