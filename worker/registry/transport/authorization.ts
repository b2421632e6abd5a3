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

/** Signs the requests to one registry with this program's credentials. */
export interface Authorizer {
  /**
   * The Authorization header of a request; undefined for a request without credentials. UNAUTHENTICATED, UNAVAILABLE or THROTTLED where a token
   * cannot be had.
   */
  header(scopes: readonly string[], options: Abortable): Promise<string | undefined>;
  /** Learns from a 401 or 403. Returns whether the same request may succeed with what `header` returns from now on. */
  refused(refusal: AuthRefusal, options: Abortable): Promise<boolean>;
  /** What a person can do about a permanent failure; undefined where nothing is known. */
  hint(code: Code, operation: Operation): string | undefined;
}

/** A 401 or 403 of the registry itself. */
export interface AuthRefusal extends HttpAnswer {
  /** The body, as far as it arrived. */
  readonly text: string;
  /** The scopes of the request that was refused. */
  readonly scopes: readonly string[];
  /** The Authorization that was refused. */
  readonly used: string | undefined;
}

/** A request without the transport's credentials, for code that fetches tokens. Any status is an answer. */
export type PlainFetch = (
  request: Pick<WireRequest, 'what' | 'method' | 'url' | 'headers' | 'body'>,
  options: Abortable,
) => Promise<HttpAnswer & { readonly text: string }>;

/** Sends the authorizer's own requests straight to the wire: they must not wait for requests that it authorizes. Follows no redirects. */
export function plainFetch(wire: Layer<WireRequest>, origin: Origin): PlainFetch {
  return async ({ what, method, url, headers = {}, body }, options) => {
    const whole = origin.resolve(url);
    if (!origin.isOwn(whole)) origin.check(what, whole);
    // the wire resolves the path: it decides between https and plain HTTP
    const answer = await wire.send({ what, method, url, headers, body }, options);
    return { status: answer.status, header: answer.header, url: answer.url, text: await answer.text() };
  };
}

/** How often a request gets new credentials. A second time only where the registry answers that the new ones are not valid any more. */
export const MAX_RENEWALS = 3;

/**
 * Gives every request its credentials. When the registry itself refuses them, renews them and sends the request again. A streamed body
 * cannot be sent again to the same URL: its answer is marked as renewed, and the caller begins a new upload.
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
    for (let renewals = 0; ; renewals++) {
      const { authorization: used, answer } = await this.#authorized(request, options);
      const isRefused = this.#origin.isOwn(answer.url) && (answer.status === 401 || answer.status === 403);
      if (!isRefused || isAccepted(request, answer) || renewals === MAX_RENEWALS) return answer;
      const { text } = await refusalText(answer, options);
      const { status, header, url } = answer;
      const refusal = { status, header, url, text, scopes: request.scopes, used };
      if (renewals > 0 && !isExpired(refusal)) return answer;
      if (!(await this.#authorizer.refused(refusal, options))) return answer;
      if (isStreamed(request.body)) return { ...answer, renewed: true };
    }
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

/**
 * Whether the registry answers that the token is not valid any more (new credentials may expire before they are used), and not that its permissions
 * do not suffice: https://www.rfc-editor.org/rfc/rfc6750#section-3.1, and ECR's own words.
 */
function isExpired({ header, text }: Pick<AuthRefusal, 'header' | 'text'>): boolean {
  return /\berror="?invalid_token\b/i.test(header('www-authenticate') ?? '') || /token has expired/i.test(text);
}
