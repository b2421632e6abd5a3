import type * as Sdk from '@aws-sdk/client-ecr';
import { orAborted, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { Failure, isFailure, type Code } from '../../util/failure.ts';
import { keepSecret } from '../../util/own-secrets.ts';
import { SharedPromise } from '../../util/shared-promise.ts';
import { basicHeader } from '../auth/basic.ts';
import type { CredentialLookup, Credentials } from '../credentials.ts';
import { repositoryOf } from '../scope.ts';
import type { Authorizer, AuthRefusal } from '../transport/authorization.ts';
import type { Operation } from '../transport/layer.ts';
import { ACTIONS } from './actions.ts';
import type { EcrClient } from './client.ts';

export interface EcrAuthorizerOptions {
  /** Used where there are no AWS credentials: a person may have signed in with `docker login`. */
  readonly credentials: CredentialLookup;
  /** Whether `credentials` come before those of AWS, because the caller named them for this registry. Default false. */
  readonly prefersCredentials?: boolean | undefined;
  readonly clock: Clock;
}

interface Token {
  readonly header: string;
  readonly sinceMs: number;
  readonly renewAtMs: number;
}

const MINUTE_MS = 60_000;

/** Signs every request with ECR's token. It is fetched once for all requests that wait for it, and renewed before it expires and when refused. */
export class EcrAuthorizer implements Authorizer {
  readonly #client: EcrClient;
  readonly #options: EcrAuthorizerOptions;
  /** The token, or the failure for missing AWS credentials, which is kept too. */
  readonly #token = new SharedPromise<Token | Failure>();
  /** Whether a user and a password were used that are not AWS's. */
  #hasGiven = false;

  constructor(client: EcrClient, options: EcrAuthorizerOptions) {
    this.#client = client;
    this.#options = options;
  }

  async header(scopes: readonly string[], options: Abortable): Promise<string> {
    const { prefersCredentials = false, clock } = this.#options;
    const preferred = prefersCredentials ? await this.#given(scopes, options) : undefined;
    if (preferred !== undefined) return basicHeader(preferred);
    const kept = this.#current();
    let token = await orAborted(kept, options);
    if (!isFailure(token) && token.renewAtMs <= clock.now()) {
      // the first request renews it for all
      if (this.#token.current === kept) void this.#renew();
      token = await orAborted(this.#current(), options);
    }
    if (!isFailure(token)) return token.header;
    const found = prefersCredentials ? undefined : await this.#given(scopes, options);
    if (found !== undefined) return basicHeader(found);
    throw new Failure('UNAUTHENTICATED', `${token.message}; nor are there any of \`docker login\``, { cause: token });
  }

  async refused({ status, text, used, scopes }: AuthRefusal, options: Abortable): Promise<boolean> {
    const given = this.#options.prefersCredentials === true ? await this.#given(scopes, options) : undefined;
    if (given !== undefined) {
      if (basicHeader(given) !== used) return true;
      const newer = await this.#given(scopes, { ...options, refused: given });
      return newer !== undefined && basicHeader(newer) !== used;
    }
    const token = await orAborted(this.#current(), options);
    if (isFailure(token)) return false;
    if (token.header !== used) return true;
    // a 403 is mostly a missing permission, and sometimes an old token: https://github.com/deis/builder/issues/426
    const isOld =
      /token has expired|reauthenticate/i.test(text) || this.#options.clock.now() - token.sinceMs > MINUTE_MS;
    if (status === 403 && !isOld) return false;
    void this.#renew();
    return true;
  }

  hint(code: Code, operation: Operation): string | undefined {
    const given = 'the password of `aws ecr get-login-password` expires after twelve hours';
    if (code === 'DENIED') return `the caller needs ${ACTIONS[operation]}${this.#hasGiven ? `; ${given}` : ''}`;
    if (code !== 'UNAUTHENTICATED') return undefined;
    return this.#hasGiven ? given : 'check the AWS credentials, and that they are of the right account';
  }

  /** A user and a password that are not AWS's; undefined where none were given. */
  async #given(
    scopes: readonly string[],
    options: Parameters<CredentialLookup>[2],
  ): Promise<Extract<Credentials, { readonly username: string }> | undefined> {
    const found = await this.#options.credentials(this.#client.host, repositoryOf(scopes), options);
    if (found === undefined || !('username' in found)) return undefined;
    this.#hasGiven = true;
    return found;
  }

  #current(): Promise<Token | Failure> {
    return this.#token.get(async () => this.#fetch());
  }

  #renew(): Promise<Token | Failure> {
    return this.#token.replace(this.#fetch());
  }

  /** Takes no signal, since several requests may wait for the same token. The SDK's timeouts end it. */
  async #fetch(): Promise<Token | Failure> {
    const what = `sign in to ${this.#client.host}`;
    try {
      const answer = await this.#client.call(what, 'ecr:GetAuthorizationToken', {}, async (ecr, sdkOptions) =>
        ecr.getAuthorizationToken({}, sdkOptions),
      );
      return tokenOf(what, answer.authorizationData?.[0], this.#options.clock.now());
    } catch (error) {
      if (isFailure(error) && error.context['noCredentials'] === true) return error;
      throw error;
    }
  }
}

function tokenOf(what: string, data: Sdk.AuthorizationData | undefined, nowMs: number): Token {
  const { authorizationToken, expiresAt } = data ?? {};
  if (authorizationToken === undefined) throw new Failure('UNAVAILABLE', `${what}: ECR answered without a token`);
  const password = Buffer.from(authorizationToken, 'base64').toString();
  keepSecret(password.slice(password.indexOf(':') + 1));
  keepSecret(authorizationToken);
  const lifetimeMs = (expiresAt?.getTime() ?? nowMs) - nowMs;
  // a tenth of its life ahead: of the twelve hours that ECR gives, more than one
  return { header: `Basic ${authorizationToken}`, sinceMs: nowMs, renewAtMs: nowMs + lifetimeMs * 0.9 };
}
