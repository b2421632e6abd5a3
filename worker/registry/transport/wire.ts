import { Agent } from 'undici';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { decoded } from './content-encoding.ts';
import { Exchange } from './exchange.ts';
import { isStreamed, type Answer, type Layer, type WireRequest } from './layer.ts';
import type { Origin } from './origin.ts';
import { MAX_REFUSAL_BYTES } from './refusal.ts';

export interface WireOptions {
  /** Connections at once to each host. */
  readonly connections: number;
  readonly userAgent: string;
}

const CONNECT_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 60_000;
/** A body of which nothing comes for this long is broken off, and gone on with where it broke. */
const STALL_TIMEOUT_MS = 30_000;
/** Registries answer the end of an upload after they hashed it, some after they copied it within their storage. */
const UPLOAD_TIMEOUT_MS = 300_000;
const UPLOAD_BYTES_PER_MS = 100 * 1024;
/** Less than the idle timeouts of the load balancers around. */
const IDLE_TIMEOUT_MS = 15_000;

/**
 * The innermost layer: the connections to one registry and to where it redirects. HTTP/1.1 only, because with HTTP/2 all blobs share one TCP
 * connection (https://github.com/project-zot/zot/issues/4333). Every status is an answer. Credentials go to the registry's own origin and
 * nowhere else.
 */
export class Wire implements Layer<WireRequest> {
  readonly #origin: Origin;
  readonly #userAgent: string;
  readonly #agent: Agent;

  constructor(origin: Origin, options: WireOptions) {
    this.#origin = origin;
    this.#userAgent = options.userAgent;
    this.#agent = new Agent({
      allowH2: false,
      connections: options.connections,
      bodyTimeout: STALL_TIMEOUT_MS,
      keepAliveTimeout: IDLE_TIMEOUT_MS,
      connect: { timeout: CONNECT_TIMEOUT_MS, lookup: origin.lookup },
    });
  }

  async send(request: WireRequest, options: Abortable): Promise<Answer> {
    checkAborted(options);
    const { what, method, body, authorization } = request;
    const url = this.#origin.resolve(request.url);
    const headers: Record<string, string> = {
      'user-agent': this.#userAgent,
      'accept-encoding': 'identity',
      ...request.headers,
    };
    if (authorization !== undefined && this.#origin.isOwn(url)) headers['authorization'] = authorization;
    if (isStreamed(body)) headers['content-length'] = String(body.size);
    const headersTimeoutMs = request.answerTimeoutMs ?? answerTimeoutMs(body);
    const exchange = new Exchange(this.#agent, { what, method, url, headers, body, headersTimeoutMs }, options);
    try {
      await exchange.answered;
    } catch (error) {
      // a producer that still runs would run beside that of the next try
      if (options.signal?.aborted !== true) await exchange.ended;
      throw error;
    }
    return answerOf(what, exchange);
  }

  /** Breaks off what is under way and closes every connection. */
  async close(): Promise<void> {
    await this.#agent.destroy();
  }
}

function answerTimeoutMs(body: WireRequest['body']): number {
  return isStreamed(body) ? UPLOAD_TIMEOUT_MS + body.size / UPLOAD_BYTES_PER_MS : ANSWER_TIMEOUT_MS;
}

function answerOf(what: string, exchange: Exchange): Answer {
  const header = (name: string): string | undefined => exchange.header(name);
  const readText = async (): Promise<string> => {
    const bytes = await exchange.bytes(MAX_REFUSAL_BYTES);
    // what is cut off or too long says nothing, and is no reason to ask again
    const document = await decoded(what, { header }, bytes, MAX_REFUSAL_BYTES).catch(() => undefined);
    return document?.toString() ?? '';
  };
  let text: Promise<string> | undefined;
  return {
    status: exchange.status,
    header,
    url: exchange.url,
    body: exchange,
    discard: () => exchange.discard(),
    text: async () => (text ??= readText()),
    ended: exchange.ended,
  };
}
