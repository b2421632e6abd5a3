import { isDeepStrictEqual } from 'node:util';
import { orAborted, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { Failure, isFailure } from '../../util/failure.ts';
import { addressKind } from '../transport/address.ts';
import type { Credentials } from '../credentials.ts';
import { failureOf } from '../transport/refusal.ts';
import { covers, repositoryOf } from '../scope.ts';
import type { Authorizer, PlainFetch } from '../transport/authorization.ts';

/** One challenge of a WWW-Authenticate header; scheme and names of parameters in lower case. */
export interface Challenge {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

export interface ChallengeOptions {
  readonly host: string;
  readonly baseUrl: URL;
  readonly fetch: PlainFetch;
  /** Who we are for a repository; undefined for nobody. `refused`: as `CredentialLookup` has it. */
  readonly credentials: (
    repository: string | undefined,
    options: Abortable & { readonly refused?: Credentials | undefined },
  ) => Promise<Credentials | undefined>;
  readonly clock: Clock;
}

interface Token {
  readonly header: string;
  readonly untilMs: number;
}

/** Of a token that does not say: https://distribution.github.io/distribution/spec/auth/token/#token-response-fields */
const DEFAULT_TOKEN_SECONDS = 60;
/** A token is not used when it may expire on the way; nor is a short one thrown away at once. */
const MARGIN_SECONDS = 30;
/** There may be one for each repository of a registry. */
const MAX_TOKENS = 500;
const CLIENT_ID = 'transship';

/**
 * Authorizes as the registry asks for by challenge: bearer tokens from its token service, basic, or nobody at all. Tokens are kept by what
 * they allow, and fetched once for all who need the same one.
 * https://distribution.github.io/distribution/spec/auth/token/ and …/oauth/
 */
export function challengeAuthorizer(options: ChallengeOptions): Authorizer {
  /** Undefined until the registry has asked. */
  let challenge: Challenge | undefined;
  /** What it asked for that we cannot do. */
  let unknown: readonly string[] = [];
  let asked: Promise<void> | undefined;
  let signedIn = false;
  const tokens = new Map<string, Promise<Token>>();
  /** What the registry asked for beyond our own scopes, by those. */
  const beyond = new Map<string, readonly string[]>();

  const credentialsFor = async (
    scopes: readonly string[],
    taskOptions: Abortable,
  ): Promise<Credentials | undefined> => {
    const found = await options.credentials(repositoryOf(scopes), taskOptions);
    signedIn ||= found !== undefined;
    return found;
  };

  /** What is to be tried instead of credentials that were refused; undefined when there is nothing newer. */
  const newerThan = async (
    refused: Credentials,
    scopes: readonly string[],
    taskOptions: Abortable,
  ): Promise<Credentials | undefined> => {
    const found = await options.credentials(repositoryOf(scopes), { ...taskOptions, refused });
    return isDeepStrictEqual(found, refused) ? undefined : found;
  };

  const learn = (header: string | undefined, scopes: readonly string[]): boolean => {
    const all = parseChallenges(header ?? '');
    const known = all.find((c) => c.scheme === 'bearer') ?? all.find((c) => c.scheme === 'basic');
    if (known === undefined) {
      unknown = all.map((c) => c.scheme);
      return false;
    }
    challenge = known;
    const wanted = known.parameters.get('scope')?.split(' ') ?? [];
    const more = wanted.filter((scope) => scope !== '' && !scopes.some((own) => covers(own, scope)));
    if (more.length > 0) beyond.set(scopes.join(' '), more);
    return true;
  };

  /** Asks for the challenge ahead of the first request: else one with credentials would be tried without, and may be answered otherwise. */
  const ask = async (): Promise<void> => {
    const what = `ask ${options.host} how to sign in`;
    const answer = await options.fetch({ what, method: 'GET', url: '/v2/' }, {});
    if (answer.status === 401) learn(answer.header('www-authenticate'), []);
    else if (answer.status === 429 || answer.status >= 500) {
      throw failureOf({ what, method: 'GET', ...answer, nowMs: options.clock.now(), renewed: false });
    }
  };

  const wantedScopes = (scopes: readonly string[]): readonly string[] => [
    ...new Set([...scopes, ...(beyond.get('') ?? []), ...(beyond.get(scopes.join(' ')) ?? [])]),
  ];

  const token = async (
    scopes: readonly string[],
    credentials: Credentials | undefined,
    again = false,
  ): Promise<Token> => {
    const named = challenge?.parameters.get('realm') ?? '';
    const realm = named === '' ? null : URL.parse(named, options.baseUrl.href);
    const what = `get a token for ${options.host}`;
    if (realm === null || !/^https?:$/.test(realm.protocol))
      throw new Failure('UNAUTHENTICATED', `${what}: the registry names no token service`);
    if (credentials !== undefined && !maySendTo(realm, options.baseUrl)) {
      throw new Failure(
        'UNAUTHENTICATED',
        `${what}: the registry wants the credentials sent to ${realm.origin}, which is not encrypted; refused`,
      );
    }
    const service = challenge?.parameters.get('service');
    const answer = await options.fetch(tokenRequest(what, realm, service, scopes, credentials), {});
    const newer =
      answer.status === 401 && credentials !== undefined && !again
        ? await newerThan(credentials, scopes, {})
        : undefined;
    if (newer !== undefined) return token(scopes, newer, true);
    if (answer.status !== 200) {
      const failure = failureOf({
        what,
        method: 'GET',
        ...answer,
        elsewhere: realm.host === options.baseUrl.host ? undefined : realm.host,
        nowMs: options.clock.now(),
        renewed: false,
        hint: () => signIn(),
      });
      // a service that does not find us is no image that is not found
      throw failure.retryable ? failure : new Failure('UNAUTHENTICATED', failure.message, { context: failure.context });
    }
    return parseToken(answer.text, what, options.clock.now());
  };

  /** Works without the signal of whoever came first, since others wait for the same; `fetch` has timeouts of its own. */
  const cachedToken = async (scopes: readonly string[], taskOptions: Abortable): Promise<Token> => {
    const wanted = wantedScopes(scopes);
    const key = wanted.join(' ');
    const found = tokens.get(key);
    if (found !== undefined) {
      const kept = await orAborted(found, taskOptions);
      if (kept.untilMs > options.clock.now()) return kept;
      // another may have renewed it meanwhile
      if (tokens.get(key) === found) tokens.delete(key);
      return cachedToken(scopes, taskOptions);
    }
    const fetched = credentialsFor(scopes, {}).then(async (credentials) => token(wanted, credentials));
    const [oldest] = tokens.keys();
    if (tokens.size >= MAX_TOKENS && oldest !== undefined) tokens.delete(oldest);
    tokens.set(key, fetched);
    fetched.catch(() => tokens.get(key) === fetched && tokens.delete(key));
    return orAborted(fetched, taskOptions);
  };

  const signIn = (): string => {
    if (unknown.length > 0) return `it asks for ${unknown.join(', ')}, and only bearer and basic are supported`;
    return signedIn
      ? `the credentials for ${options.host} are wrong, or do not allow this`
      : `there are no credentials for ${options.host}: it may exist for those who sign in with \`docker login ${options.host}\``;
  };

  return {
    header: async (scopes, taskOptions) => {
      if (challenge === undefined) {
        if ((await credentialsFor(scopes, taskOptions)) === undefined) return undefined;
        const asking = (asked ??= ask());
        try {
          await orAborted(asking, taskOptions);
        } catch (error) {
          if (asked === asking && !isFailure(error, 'ABORTED')) asked = undefined;
          throw error;
        }
      }
      if (challenge === undefined) return undefined;
      if (challenge.scheme === 'bearer') return (await cachedToken(scopes, taskOptions)).header;
      return headerOf(await credentialsFor(scopes, taskOptions));
    },

    refused: async ({ status, header, scopes, used }, taskOptions) => {
      if (status !== 401) return false;
      const key = wantedScopes(scopes).join(' ');
      if (!learn(header('www-authenticate'), scopes) || challenge === undefined) return false;
      if (challenge.scheme === 'bearer') {
        const kept = await tokens.get(key)?.catch(() => undefined);
        // only the token that was refused: another may have brought a new one
        if (kept?.header === used) tokens.delete(key);
        return true;
      }
      const found = await credentialsFor(scopes, taskOptions);
      if (found === undefined || used === undefined) return found !== undefined;
      // another may have renewed them meanwhile
      return headerOf(found) === used ? (await newerThan(found, scopes, taskOptions)) !== undefined : true;
    },

    hint: (code) => (code === 'UNAUTHENTICATED' ? signIn() : undefined),
  };
}

/**
 * The challenges of a WWW-Authenticate header, or of several joined by commas. What cannot be read is left out.
 * https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1
 */
export function parseChallenges(header: string): readonly Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  let rest = header;
  for (;;) {
    rest = rest.replace(/^[\s,]+/, '');
    if (rest === '') return challenges;
    const parameter = PARAMETER.exec(rest);
    const current = challenges.at(-1);
    if (parameter !== null && current !== undefined) {
      const [all, name = '', quoted, plain = ''] = parameter;
      const value = quoted === undefined ? plain : quoted.replace(/\\(.)/gs, '$1');
      if (!current.parameters.has(name.toLowerCase())) current.parameters.set(name.toLowerCase(), value);
      rest = rest.slice(all.length);
      continue;
    }
    const [all, scheme] = SCHEME.exec(rest) ?? [];
    if (all === undefined || scheme === undefined) {
      // skip what cannot be read up to the next comma
      rest = rest.replace(/^[^,]+/, '');
      continue;
    }
    challenges.push({ scheme: scheme.toLowerCase(), parameters: new Map() });
    rest = rest.slice(all.length);
  }
}

/** `name=token` or `name="quoted"`. */
const PARAMETER = /^([!#$%&'*+.^_`|~\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([!#$%&'*+.^_`|~\w:/-]+))(?=\s*(?:,|$))/s;
/** A scheme, and the token68 that may be all that follows it. */
const SCHEME = /^([!#$%&'*+.^_`|~\w-]+)(?:[ \t]+[\w.~+/-]+=*(?=\s*(?:,|$))|[ \t]+|(?=,|$))/;

/** Credentials go where the registry's own do, or where nobody can listen. */
function maySendTo(realm: URL, base: URL): boolean {
  return realm.protocol === 'https:' || realm.host === base.host || addressKind(realm.hostname) === 'loopback';
}

function tokenRequest(
  what: string,
  realm: URL,
  service: string | undefined,
  scopes: readonly string[],
  credentials: Credentials | undefined,
): Parameters<PlainFetch>[0] {
  if (credentials !== undefined && 'identityToken' in credentials) {
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
  return { what, method: 'GET', url, headers: { authorization: basic(credentials) } };
}

function parseToken(text: string, what: string, nowMs: number): Token {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    throw new Failure('UNAVAILABLE', `${what}: the token service did not answer with JSON`, { cause });
  }
  const fields = (typeof body === 'object' && body !== null ? body : {}) as Readonly<Record<string, unknown>>;
  const token = fields['token'] ?? fields['access_token'];
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token))
    throw new Failure('UNAVAILABLE', `${what}: the token service answered without a token`);
  const said = Number(fields['expires_in']);
  const seconds = Number.isFinite(said) && said > 0 ? said : DEFAULT_TOKEN_SECONDS;
  const margin = Math.min(MARGIN_SECONDS, seconds / 4);
  return { header: `Bearer ${token}`, untilMs: nowMs + (seconds - margin) * 1000 };
}

function headerOf(credentials: Credentials | undefined): string | undefined {
  return credentials === undefined || 'identityToken' in credentials ? undefined : basic(credentials);
}

function basic(c: { readonly username: string; readonly password: string }): string {
  return `Basic ${Buffer.from(`${c.username}:${c.password}`).toString('base64')}`;
}
