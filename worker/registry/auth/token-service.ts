import type { Clock } from '../../util/clock.ts';
import { Failure } from '../../util/failure.ts';
import { keepSecret } from '../../util/own-secrets.ts';
import type { Credentials } from '../credentials.ts';
import { addressKind } from '../transport/address.ts';
import type { PlainFetch } from '../transport/authorization.ts';
import { failureOf } from '../transport/refusal.ts';
import { basicHeader } from './basic.ts';
import type { Challenge } from './challenges.ts';

/** A bearer token. */
export interface Token {
  /** The Authorization header. */
  readonly header: string;
  /** When it should be replaced, in milliseconds since 1970. */
  readonly untilMs: number;
}

export interface TokenServiceOptions {
  readonly host: string;
  readonly baseUrl: URL;
  readonly fetch: PlainFetch;
  readonly clock: Clock;
  /** What to do about a refusal. */
  readonly hint: () => string;
}

export interface TokenRequest {
  /** What the registry asked for: it names the service. */
  readonly challenge: Challenge | undefined;
  readonly scopes: readonly string[];
  readonly credentials: Credentials | undefined;
  /** Finds other credentials than those that were refused; undefined when no others exist. */
  readonly newerThan: (refused: Credentials) => Promise<Credentials | undefined>;
}

/** The lifetime of a token without one: https://distribution.github.io/distribution/spec/auth/token/#token-response-fields */
const DEFAULT_TOKEN_SECONDS = 60;
/** How long before its end a token is replaced, since it may expire on the way; at most a quarter of its lifetime. */
const MARGIN_SECONDS = 30;
const CLIENT_ID = 'transship';

/**
 * Fetches a token from the service that a bearer challenge names. Credentials that it refuses are replaced by newer ones, once.
 * UNAUTHENTICATED where the service is missing, would get the credentials unencrypted, or refuses; UNAVAILABLE or THROTTLED otherwise.
 * It takes no signal, since several requests may wait for the same token; `fetch` has timeouts of its own.
 * https://distribution.github.io/distribution/spec/auth/token/ and …/oauth/
 */
export async function fetchToken(request: TokenRequest, options: TokenServiceOptions): Promise<Token> {
  const { challenge, scopes, credentials } = request;
  const what = `get a token for ${options.host}`;
  const realm = realmOf(what, challenge, options.baseUrl);
  const service = challenge?.parameters.get('service');
  const ask = async (given: Credentials | undefined): ReturnType<PlainFetch> => {
    checkMaySend(what, realm, given, options.baseUrl);
    return options.fetch(tokenRequest(what, realm, service, scopes, given), {});
  };
  let answer = await ask(credentials);
  if (answer.status === 401 && credentials !== undefined) {
    const newer = await request.newerThan(credentials);
    if (newer !== undefined) answer = await ask(newer);
  }
  if (answer.status !== 200) throw refusal(what, realm, answer, options);
  return parseToken(answer.text, what, options.clock.now());
}

function realmOf(what: string, challenge: Challenge | undefined, baseUrl: URL): URL {
  const named = challenge?.parameters.get('realm') ?? '';
  const realm = named === '' ? null : URL.parse(named, baseUrl.href);
  if (realm !== null && /^https?:$/.test(realm.protocol)) return realm;
  throw new Failure('UNAUTHENTICATED', `${what}: the registry names no token service`);
}

/**
 * Credentials go where the connection is encrypted. Those of a registry that is not asked by https itself go to its own host too, and to
 * where the connection stays on this machine. Without credentials nothing can leak: a forged token is refused by the registry itself.
 */
function checkMaySend(what: string, realm: URL, credentials: Credentials | undefined, baseUrl: URL): void {
  if (credentials === undefined || realm.protocol === 'https:') return;
  if (baseUrl.protocol !== 'https:' && (realm.host === baseUrl.host || addressKind(realm.hostname) === 'loopback'))
    return;
  throw new Failure(
    'UNAUTHENTICATED',
    `${what}: the registry wants the credentials sent to ${realm.origin}, which is not encrypted; refused: have the registry name an https address as its token service`,
  );
}

function tokenRequest(
  what: string,
  realm: URL,
  service: string | undefined,
  scopes: readonly string[],
  credentials: Credentials | undefined,
): Parameters<PlainFetch>[0] {
  if (credentials !== undefined && 'identityToken' in credentials) {
    keepSecret(credentials.identityToken);
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      client_id: CLIENT_ID,
      ...(service === undefined ? {} : { service }),
      scope: scopes.join(' '),
      refresh_token: credentials.identityToken,
    });
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    return { what, method: 'POST', url: realm, headers, body: Buffer.from(form.toString()) };
  }
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.set('service', service);
  for (const scope of scopes) url.searchParams.append('scope', scope);
  if (credentials === undefined) return { what, method: 'GET', url };
  url.searchParams.set('account', credentials.username);
  return { what, method: 'GET', url, headers: { authorization: basicHeader(credentials) } };
}

function refusal(
  what: string,
  realm: URL,
  answer: Awaited<ReturnType<PlainFetch>>,
  { baseUrl, clock, hint }: TokenServiceOptions,
): Failure {
  const elsewhere = realm.host === baseUrl.host ? undefined : realm.host;
  const failure = failureOf({
    what,
    method: 'GET',
    ...answer,
    elsewhere,
    nowMs: clock.now(),
    renewed: false,
    hint: () => hint(),
  });
  // NOT_FOUND would mean a missing image, and here the service is missing
  return failure.retryable ? failure : new Failure('UNAUTHENTICATED', failure.message, { context: failure.context });
}

function isToken(value: unknown): value is string {
  return typeof value === 'string' && /^[\x21-\x7e]+$/.test(value);
}

function parseToken(text: string, what: string, nowMs: number): Token {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    throw new Failure('UNAVAILABLE', `${what}: the token service did not answer with JSON`, { cause });
  }
  const fields = (typeof body === 'object' && body !== null ? body : {}) as Readonly<Record<string, unknown>>;
  // some services send both members, one of them empty
  const token = [fields['token'], fields['access_token']].find(isToken);
  if (token === undefined) throw new Failure('UNAVAILABLE', `${what}: the token service answered without a token`);
  const said = Number(fields['expires_in']);
  const seconds = Number.isFinite(said) && said > 0 ? said : DEFAULT_TOKEN_SECONDS;
  const margin = Math.min(MARGIN_SECONDS, seconds / 4);
  keepSecret(token);
  return { header: `Bearer ${token}`, untilMs: nowMs + (seconds - margin) * 1000 };
}
