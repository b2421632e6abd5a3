import { checkAborted, type Abortable } from '../../util/abort.ts';
import type { Code } from '../../util/failure.ts';
import {
  isAccepted,
  isStreamed,
  refusalText,
  type Answer,
  type HttpAnswer,
  type HttpRequest,
  type Layer,
  type Operation,
  type WireRequest,
} from './layer.ts';
import type { Origin } from './origin.ts';

/** Who we are for a registry. */
export interface Authorizer {
  /** The Authorization header of a request; undefined for none. */
  header(scopes: readonly string[], options: Abortable): Promise<string | undefined>;
  /** Learns from a 401 or 403. True: the same request with what `header` gives now may do better. */
  refused(refusal: AuthRefusal, options: Abortable): Promise<boolean>;
  /** What to do about a failure for good. */
  hint(code: Code, operation: Operation): string | undefined;
}

export interface AuthRefusal extends HttpAnswer {
  readonly text: string;
  readonly scopes: readonly string[];
  /** The Authorization that was refused. */
  readonly used: string | undefined;
}

/** A request without the transport's credentials, for code that fetches tokens. Any status is an answer. */
export type PlainFetch = (
  request: Pick<WireRequest, 'what' | 'method' | 'url' | 'headers' | 'body'>,
  options: Abortable,
) => Promise<HttpAnswer & { readonly text: string }>;

/** Requests to the wire itself, for the authorizer: its own requests must not wait for what it authorizes. Redirects are not followed. */
export function plainFetch(wire: Layer<WireRequest>, origin: Origin): PlainFetch {
  return async ({ what, method, url, headers = {}, body }, options) => {
    const whole = origin.resolve(url);
    if (!origin.isOwn(whole)) origin.check(what, whole);
    const answer = await wire.send({ what, method, url: whole, headers, body }, options);
    return { status: answer.status, header: answer.header, url: answer.url, text: await answer.text() };
  };
}

/**
 * Gives every request its credentials. When the registry itself refuses them, renews them and sends the request again, once. A streamed body
 * cannot be sent again to the same place: its answer is marked as renewed, and the caller begins anew.
 */
export class Authorization implements Layer {
  readonly #inner: Layer;
  readonly #authorizer: Authorizer;
  readonly #origin: Origin;

  constructor(inner: Layer, authorizer: Authorizer, origin: Origin) {
    this.#inner = inner;
    this.#authorizer = authorizer;
    this.#origin = origin;
  }

  async send(request: HttpRequest, options: Abortable): Promise<Answer> {
    const { authorization: used, answer } = await this.#authorized(request, options);
    const isRefused = this.#origin.isOwn(answer.url) && (answer.status === 401 || answer.status === 403);
    if (!isRefused || isAccepted(request, answer)) return answer;
    const { text } = await refusalText(answer, options);
    const { status, header, url } = answer;
    const refusal = { status, header, url, text, scopes: request.scopes, used };
    if (!(await this.#authorizer.refused(refusal, options))) return answer;
    if (isStreamed(request.body)) return { ...answer, renewed: true };
    return (await this.#authorized(request, options)).answer;
  }

  async #authorized(
    request: HttpRequest,
    options: Abortable,
  ): Promise<{ readonly authorization: string | undefined; readonly answer: Answer }> {
    checkAborted(options);
    const authorization = await this.#authorizer.header(request.scopes, options);
    return { authorization, answer: await this.#inner.send({ ...request, authorization }, options) };
  }
}
