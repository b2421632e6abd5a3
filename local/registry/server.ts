import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { aborted } from '../../worker/util/abort.ts';
import type { Clock } from '../../worker/util/clock.ts';
import { isFailure } from '../../worker/util/failure.ts';
import type { Faults, MatchedRequest, RegistryFault } from '../faults.ts';
import { listen, stopListening, type Address, type ListenOptions } from '../http/listen.ts';
import { Cut, Exchange, refuse, Refusal, type Answer, type ServedRequest } from './exchange.ts';
import type { RegistryOperation, Route } from './route.ts';

export interface ListenerOptions extends ListenOptions {
  readonly route: (request: IncomingMessage, url: URL) => Route;
  readonly answer: (exchange: Exchange, route: Route) => Promise<Answer>;
  /** What is answered to a request that a fault refuses with this status, and with `code` instead of the registry's own for it. */
  readonly trouble: (route: Route, status: number, code: string | undefined) => Refusal;
  /** The headers of every answer. */
  readonly headers: Readonly<Record<string, string>>;
  readonly faults: Faults<RegistryOperation, RegistryFault>;
  readonly expireTokens: () => void;
  readonly log: RequestLog;
  readonly clock: Clock;
}

export interface Listener extends Address {
  /** Cuts every connection, and resolves when no handler runs any more. */
  close(): Promise<void>;
}

const MAX_REQUESTS = 10_000;

/** The newest requests of one registry, in the order they came. */
export class RequestLog {
  #entries: ServedRequest[] = [];

  get entries(): readonly ServedRequest[] {
    return this.#entries;
  }

  add(served: ServedRequest): void {
    this.#entries.push(served);
    // now and then, not each time: shifting ten thousand entries is not free
    if (this.#entries.length > 2 * MAX_REQUESTS) this.#entries = this.#entries.slice(-MAX_REQUESTS);
  }
}

/** Serves the requests of a registry until it is closed. Throws as `listen` does. */
export async function openListener(options: ListenerOptions): Promise<Listener> {
  const running = new Set<Promise<void>>();
  const server = createServer(
    // larger than the default of 64 KiB: what moves here is hundreds of megabytes. No time limit on a request for the same reason.
    { highWaterMark: 256 * 1024, requestTimeout: 0, keepAliveTimeout: 60_000 },
    (request, response) => {
      const served = serve(request, response, options);
      running.add(served);
      void served.finally(() => running.delete(served));
    },
  );
  const address = await listen(server, options);
  return {
    ...address,
    close: async () => {
      await stopListening(server);
      await Promise.all(running);
    },
  };
}

async function serve(request: IncomingMessage, response: ServerResponse, options: ListenerOptions): Promise<void> {
  // the host is not ours to judge: clients reach us under the name that the registry has elsewhere
  const text = `http://registry${request.url ?? ''}`;
  const url = new URL(URL.canParse(text) ? text : 'http://registry/');
  const route = options.route(request, url);
  const exchange = new Exchange(request, response, url, route);
  options.log.add(exchange.served);
  try {
    const fault = options.faults.take(matchedBy(route));
    const answer =
      (await struck(exchange, route, fault, options)) ??
      (await answerOf(exchange, () => options.answer(exchange, route)));
    await exchange.send({ ...answer, headers: { ...options.headers, ...answer.headers } });
  } catch {
    // the client is gone, a fault cut it off, or the server closes; anything else was answered
    exchange.abandon();
  }
}

/** What the fault makes of the request: its answer, where the fault gives one. */
async function struck(
  exchange: Exchange,
  route: Route,
  fault: RegistryFault | undefined,
  options: ListenerOptions,
): Promise<Answer | undefined> {
  switch (fault?.kind) {
    case undefined:
      return undefined;
    case 'answer': {
      const { status = 429, code, retryAfterSeconds } = fault;
      const { answer } = options.trouble(route, status, code);
      const headers = retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) };
      return { ...answer, headers: { ...answer.headers, ...headers } };
    }
    case 'delay':
      await options.clock.sleep(fault.ms, { signal: exchange.signal });
      return undefined;
    case 'expire-token':
      options.expireTokens();
      return undefined;
    case 'cut-request':
      if (!exchange.hasBody || (fault.afterBytes ?? 0) === 0) throw new Cut();
      exchange.strike(fault);
      return undefined;
    case 'cut-answer':
    case 'lose-answer':
    case 'lie-digest':
    case 'lie-size':
      exchange.strike(fault);
      return undefined;
    default:
      return fault satisfies never;
  }
}

function matchedBy(route: Route): MatchedRequest {
  const operations = route.kind === 'api' ? [route.kind, route.operation] : [route.kind];
  const digest = 'digest' in route ? route.digest : undefined;
  return { operations, ...(digest === undefined ? {} : { digest }) };
}

async function answerOf(exchange: Exchange, work: () => Promise<Answer>): Promise<Answer> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Refusal) return error.answer;
    if (error instanceof Cut) throw error;
    if (exchange.signal.aborted) throw aborted(exchange.signal);
    if (isFailure(error, 'NOT_FOUND')) return refuse(404, 'NAME_UNKNOWN', error.message).answer;
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return refuse(500, 'UNKNOWN', `the local registry failed: ${why}`).answer;
  }
}
