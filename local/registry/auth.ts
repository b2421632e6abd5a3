import type { Clock } from '../../worker/util/clock.ts';
import { json, refuse, type Answer, type Exchange } from './exchange.ts';
import type { Route } from './route.ts';
import { TokenIssuer } from './seal.ts';

export interface AuthOptions {
  readonly auth: 'none' | 'basic' | 'bearer';
  /** Passwords by name. */
  readonly users: Readonly<Record<string, string>>;
  /** Whether tokens to pull are given to clients without credentials. */
  readonly anonymousPull: boolean;
  readonly tokenLifetimeSeconds: number;
  /** Where this server is reached: the challenge names its token endpoint. */
  readonly url: () => string;
}

const SERVICE = 'transship-local';
const REFRESH_SECONDS = 30 * 24 * 3600;
const WHO_ARE_YOU = 'send the credentials of a user of this registry';

/** Lets requests in, or challenges them, as https://distribution.github.io/distribution/spec/auth/ describes. */
export class RegistryAuth {
  readonly #options: AuthOptions;
  readonly #tokens: TokenIssuer;

  constructor(options: AuthOptions, clock: Clock) {
    this.#options = options;
    this.#tokens = new TokenIssuer(clock);
  }

  /** Throws the refusal of a request that may not do what it is for. */
  check(exchange: Exchange, route: Route): void {
    switch (this.#options.auth) {
      case 'none':
        return;
      case 'basic':
        if (this.#user(exchange.headers.authorization) !== undefined) return;
        throw refuse(401, 'UNAUTHORIZED', WHO_ARE_YOU, {
          headers: { 'www-authenticate': `Basic realm="${SERVICE}"` },
        });
      case 'bearer':
        this.#checkToken(exchange, route);
        return;
      default:
        this.#options.auth satisfies never;
    }
  }

  /** From now on every token given so far is refused. */
  expireTokens(): void {
    this.#tokens.expireAll();
  }

  /** Answers the token endpoint: https://distribution.github.io/distribution/spec/auth/token/ and …/oauth/ */
  async token(exchange: Exchange): Promise<Answer> {
    if (this.#options.auth !== 'bearer') throw refuse(404, 'UNSUPPORTED', 'this registry gives no tokens');
    const form = exchange.method === 'POST' ? new URLSearchParams(await formOf(exchange)) : exchange.url.searchParams;
    if (form.get('service') !== SERVICE) throw refuse(400, 'UNSUPPORTED', `the service here is ${SERVICE}`);
    const user = exchange.method === 'POST' ? this.#granted(form) : this.#user(exchange.headers.authorization);
    const anonymous = user === undefined && exchange.method === 'GET' && exchange.headers.authorization === undefined;
    if (user === undefined && !(anonymous && this.#options.anonymousPull)) {
      throw refuse(401, 'UNAUTHORIZED', WHO_ARE_YOU, {
        headers: { 'www-authenticate': `Basic realm="${SERVICE}"` },
      });
    }
    const asked = form.getAll('scope').flatMap((scope) => scope.split(' '));
    const scopes = user === undefined ? asked.map(pullOnly) : asked;
    const token = this.#tokens.issue({ kind: 'access', user, scopes }, this.#options.tokenLifetimeSeconds);
    const wantsRefresh = form.get('offline_token') === 'true' || form.get('access_type') === 'offline';
    return json({
      token,
      access_token: token,
      expires_in: this.#options.tokenLifetimeSeconds,
      ...(wantsRefresh && user !== undefined
        ? { refresh_token: this.#tokens.issue({ kind: 'refresh', user, scopes: [] }, REFRESH_SECONDS) }
        : {}),
    });
  }

  #granted(form: URLSearchParams): string | undefined {
    const type = form.get('grant_type');
    if (type === 'password') return this.#checked(form.get('username') ?? '', form.get('password') ?? '');
    if (type !== 'refresh_token') throw refuse(400, 'UNSUPPORTED', 'grant_type must be password or refresh_token');
    const opened = this.#tokens.open(form.get('refresh_token') ?? '');
    return opened.state === 'valid' && opened.claims.kind === 'refresh' ? opened.claims.user : undefined;
  }

  #checkToken(exchange: Exchange, route: Route): void {
    const needed = scopesOf(exchange, route);
    const [, token] = /^Bearer (.+)$/i.exec(exchange.headers.authorization ?? '') ?? [];
    const challenge = (error?: string): Error => {
      const scope = needed.length === 0 ? '' : `,scope="${needed.join(' ')}"`;
      const why = error === undefined ? '' : `,error="${error}"`;
      return refuse(401, 'UNAUTHORIZED', 'get a token from the server that the challenge names', {
        headers: {
          'www-authenticate': `Bearer realm="${this.#options.url()}/token",service="${SERVICE}"${scope}${why}`,
        },
      });
    };
    if (token === undefined) throw challenge();
    const opened = this.#tokens.open(token);
    if (opened.state !== 'valid' || opened.claims.kind !== 'access') throw challenge('invalid_token');
    const { scopes } = opened.claims;
    if (!needed.every((scope) => isGranted(scope, scopes))) throw challenge('insufficient_scope');
  }

  #user(authorization: string | undefined): string | undefined {
    const credentials = parseBasic(authorization);
    return credentials === undefined ? undefined : this.#checked(credentials.user, credentials.password);
  }

  #checked(user: string, password: string): string | undefined {
    return this.#options.users[user] === password ? user : undefined;
  }
}

/** User and password of a Basic Authorization header. */
export function parseBasic(
  authorization: string | undefined,
): { readonly user: string; readonly password: string } | undefined {
  const [, encoded] = /^Basic ([A-Za-z0-9+/=]+)$/i.exec(authorization ?? '') ?? [];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, 'base64').toString();
  const colon = text.indexOf(':');
  return colon === -1 ? undefined : { user: text.slice(0, colon), password: text.slice(colon + 1) };
}

/** https://distribution.github.io/distribution/spec/auth/scope/ */
function scopesOf(exchange: Exchange, route: Route): readonly string[] {
  if (route.kind === 'catalog-list') return ['registry:catalog:*'];
  if (!('repository' in route)) return [];
  const action = actionOf(route.kind);
  const scopes = [`repository:${route.repository}:${action === 'push' ? 'pull,push' : action}`];
  const from = route.kind === 'upload-post' ? exchange.url.searchParams.get('from') : null;
  return from === null || from === route.repository ? scopes : [...scopes, `repository:${from}:pull`];
}

/** What a request does to its repository. */
function actionOf(kind: Extract<Route, { repository: string }>['kind']): 'pull' | 'push' | 'delete' {
  switch (kind) {
    case 'tags-list':
    case 'referrers-list':
    case 'manifest-head':
    case 'manifest-get':
    case 'blob-head':
    case 'blob-get':
      return 'pull';
    case 'manifest-put':
    case 'upload-post':
    case 'upload-get':
    case 'upload-patch':
    case 'upload-put':
    case 'upload-delete':
      return 'push';
    case 'manifest-delete':
    case 'blob-delete':
      return 'delete';
    default:
      return kind satisfies never;
  }
}

function isGranted(needed: string, scopes: readonly string[]): boolean {
  const [resource, actions] = splitScope(needed);
  const granted = scopes.map(splitScope).filter(([other]) => other === resource);
  return actions.every((action) => granted.some(([, given]) => given.includes(action) || given.includes('*')));
}

function splitScope(scope: string): readonly [resource: string, actions: readonly string[]] {
  const colon = scope.lastIndexOf(':');
  return [scope.slice(0, colon), scope.slice(colon + 1).split(',')];
}

function pullOnly(scope: string): string {
  const [resource, actions] = splitScope(scope);
  return `${resource}:${actions.includes('pull') ? 'pull' : ''}`;
}

async function formOf(exchange: Exchange): Promise<string> {
  const body = await exchange.bodyUpTo(64 * 1024);
  if (body === undefined) throw refuse(413, 'SIZE_INVALID', 'the form is too long');
  return Buffer.from(body).toString();
}
