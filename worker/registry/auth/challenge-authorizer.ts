import { isDeepStrictEqual } from 'node:util';
import { LRUCache } from 'lru-cache';
import { orAborted, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import type { Code } from '../../util/failure.ts';
import { SharedPromise } from '../../util/shared-promise.ts';
import type { Credentials } from '../credentials.ts';
import { covers, repositoryOf } from '../scope.ts';
import type { Authorizer, AuthRefusal, PlainFetch } from '../transport/authorization.ts';
import { failureOf } from '../transport/refusal.ts';
import { basicHeader } from './basic.ts';
import { parseChallenges, type Challenge } from './challenges.ts';
import { fetchToken, type Token } from './token-service.ts';

export interface ChallengeOptions {
  readonly host: string;
  /** Where the registry answers: asked after its first answer only, which may decide between https and plain HTTP. */
  readonly baseUrl: () => URL;
  readonly fetch: PlainFetch;
  /** The credentials for a repository; undefined for none. `refused` is as in `CredentialLookup`. */
  readonly credentials: (
    repository: string | undefined,
    options: Abortable & { readonly refused?: Credentials | undefined },
  ) => Promise<Credentials | undefined>;
  readonly clock: Clock;
}

/** The most tokens that are kept: a registry may need one for each repository. */
const MAX_TOKENS = 500;

/**
 * Authorizes as the registry asks for by challenge: bearer tokens from its token service, basic, or no credentials. Tokens are kept by what
 * they allow, and fetched once for all requests that need the same one.
 */
export class ChallengeAuthorizer implements Authorizer {
  readonly #options: ChallengeOptions;
  /** Undefined until the registry has asked. */
  #challenge: Challenge | undefined;
  /** The schemes that the registry asked for and this program does not support. */
  #unsupportedSchemes: readonly string[] = [];
  /** The request for the challenge, ahead of all others. */
  readonly #asking = new SharedPromise<void>();
  #hasCredentials = false;
  /** Tokens by their scopes, joined by spaces. */
  readonly #tokens = new LRUCache<string, SharedPromise<Token>>({ max: MAX_TOKENS });
  /** Scopes that the registry asked for beyond those of a request, by those of the request. */
  readonly #additionalScopes = new LRUCache<string, readonly string[]>({ max: MAX_TOKENS });

  constructor(options: ChallengeOptions) {
    this.#options = options;
  }

  /** Whether the registry has asked for credentials or a token. */
  get isAsked(): boolean {
    return this.#challenge !== undefined;
  }

  async header(scopes: readonly string[], options: Abortable): Promise<string | undefined> {
    if (this.#challenge === undefined) {
      if ((await this.#credentialsFor(scopes, options)) === undefined) return undefined;
      const asking = this.#asking.get(async () => this.#askHowToSignIn());
      await orAborted(asking, options);
    }
    if (this.#challenge === undefined) return undefined;
    if (this.#challenge.scheme === 'bearer') return (await this.#token(scopes, options)).header;
    return headerOf(await this.#credentialsFor(scopes, options));
  }

  async refused(refusal: AuthRefusal, options: Abortable): Promise<boolean> {
    const { status, header, scopes, used } = refusal;
    if (status !== 401) return false;
    const token = this.#tokens.get(keyOf(this.#wantedScopes(scopes)));
    const challenge = this.#learn(header('www-authenticate'), scopes);
    if (challenge === undefined) return false;
    if (challenge.scheme === 'bearer') {
      await this.#forgetToken(token, used);
      return true;
    }
    const credentials = await this.#credentialsFor(scopes, options);
    if (credentials === undefined || used === undefined) return credentials !== undefined;
    // another request may have renewed them meanwhile
    return headerOf(credentials) !== used || (await this.#newerThan(credentials, scopes, options)) !== undefined;
  }

  hint(code: Code): string | undefined {
    return code === 'UNAUTHENTICATED' ? this.#signInHint() : undefined;
  }

  /** Asks for the challenge ahead of the first request: sent without credentials, that one might be answered differently. */
  async #askHowToSignIn(): Promise<void> {
    const { host, fetch, clock } = this.#options;
    const what = `ask ${host} how to sign in`;
    const answer = await fetch({ what, method: 'GET', url: '/v2/' }, {});
    if (answer.status === 401) this.#learn(answer.header('www-authenticate'), []);
    else if (answer.status === 429 || answer.status >= 500)
      throw failureOf({ what, method: 'GET', ...answer, nowMs: clock.now(), renewed: false });
  }

  /** Remembers what a challenge asks for, and returns it; undefined when it asks for nothing that this program can do. */
  #learn(header: string | undefined, scopes: readonly string[]): Challenge | undefined {
    const all = parseChallenges(header ?? '');
    const known = all.find(({ scheme }) => scheme === 'bearer') ?? all.find(({ scheme }) => scheme === 'basic');
    if (known === undefined) {
      this.#unsupportedSchemes = all.map(({ scheme }) => scheme);
      return undefined;
    }
    this.#challenge = known;
    const wanted = known.parameters.get('scope')?.split(' ') ?? [];
    const more = wanted.filter((scope) => scope !== '' && !scopes.some((own) => covers(own, scope)));
    if (more.length > 0) this.#additionalScopes.set(keyOf(scopes), more);
    return known;
  }

  #wantedScopes(scopes: readonly string[]): readonly string[] {
    const forAll = this.#additionalScopes.get(keyOf([])) ?? [];
    return [...new Set([...scopes, ...forAll, ...(this.#additionalScopes.get(keyOf(scopes)) ?? [])])];
  }

  async #token(scopes: readonly string[], options: Abortable): Promise<Token> {
    const wanted = this.#wantedScopes(scopes);
    const token = this.#sharedToken(keyOf(wanted));
    const { current } = token;
    const found = await orAborted(current ?? token.get(async () => this.#fetchToken(scopes, wanted)), options);
    if (current === undefined || found.untilMs > this.#options.clock.now()) return found;
    // unless another request has renewed it meanwhile
    token.forget(current);
    return this.#token(scopes, options);
  }

  #sharedToken(key: string): SharedPromise<Token> {
    const known = this.#tokens.get(key);
    if (known !== undefined) return known;
    const made = new SharedPromise<Token>();
    this.#tokens.set(key, made);
    return made;
  }

  /** Forgets the token that was refused, and no other: another request may have brought a new one. */
  async #forgetToken(token: SharedPromise<Token> | undefined, used: string | undefined): Promise<void> {
    const fetched = token?.current;
    if (fetched === undefined) return;
    const found = await fetched.catch(() => undefined);
    if (found?.header === used) token?.forget(fetched);
  }

  /** Works without the signal of the first caller, since others wait for the same. */
  async #fetchToken(scopes: readonly string[], wanted: readonly string[]): Promise<Token> {
    const { host, baseUrl, fetch, clock } = this.#options;
    const credentials = await this.#credentialsFor(scopes, {});
    const newerThan = async (refused: Credentials): Promise<Credentials | undefined> =>
      this.#newerThan(refused, scopes, {});
    return fetchToken(
      { challenge: this.#challenge, scopes: wanted, credentials, newerThan },
      { host, baseUrl: baseUrl(), fetch, clock, hint: () => this.#signInHint() },
    );
  }

  async #credentialsFor(scopes: readonly string[], options: Abortable): Promise<Credentials | undefined> {
    const found = await this.#options.credentials(repositoryOf(scopes), options);
    this.#hasCredentials ||= found !== undefined;
    return found;
  }

  /** Newer credentials than those that were refused; undefined where the lookup returns the same. */
  async #newerThan(
    refused: Credentials,
    scopes: readonly string[],
    options: Abortable,
  ): Promise<Credentials | undefined> {
    const found = await this.#options.credentials(repositoryOf(scopes), { ...options, refused });
    return isDeepStrictEqual(found, refused) ? undefined : found;
  }

  #signInHint(): string {
    const { host } = this.#options;
    if (this.#unsupportedSchemes.length > 0)
      return `it asks for ${this.#unsupportedSchemes.join(', ')}, and only bearer and basic are supported`;
    return this.#hasCredentials
      ? `the credentials for ${host} are wrong, or do not allow this`
      : `there are no credentials for ${host}: it may be visible after \`transship login ${host}\` or \`docker login ${host}\``;
  }
}

function keyOf(scopes: readonly string[]): string {
  return scopes.join(' ');
}

function headerOf(credentials: Credentials | undefined): string | undefined {
  return credentials === undefined || 'identityToken' in credentials ? undefined : basicHeader(credentials);
}
