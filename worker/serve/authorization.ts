import { createHash, timingSafeEqual } from 'node:crypto';
import { keepSecret } from '../util/own-secrets.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';
import { Refusal } from './answer.ts';
import { PasswordCheck } from './htpasswd.ts';

/** The clients that may read: users with passwords, holders of tokens, or both. */
export interface Readers {
  /** Bcrypt hashes by user, as `parseHtpasswd` reads them. */
  readonly users?: ReadonlyMap<string, string> | undefined;
  /** As `parseTokens` reads them. */
  readonly tokens?: readonly string[] | undefined;
}

/** https://datatracker.ietf.org/doc/html/rfc7617 */
const CHALLENGE = { 'www-authenticate': 'Basic realm="transship serve", charset="UTF-8"' };
const LEAST_TOKEN = 16;

/**
 * Reads the tokens of a file, one a line; several, so that one can be replaced by the next. INVALID for short ones and for a file without one. They
 * are cut out of all messages from then on.
 */
export function parseTokens(text: string, path: string): readonly string[] {
  const tokens: string[] = [];
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    if (line.length < LEAST_TOKEN || !/^[\x21-\x7e]+$/.test(line))
      throw new Failure(
        'INVALID',
        `read ${path}: line ${index + 1} is not a token of ${LEAST_TOKEN} or more characters without spaces; make one with \`openssl rand -hex 32\``,
      );
    keepSecret(line);
    tokens.push(line);
  }
  if (tokens.length === 0)
    throw new Failure('INVALID', `read ${path}: it does not have a token; make one with \`openssl rand -hex 32\``);
  return tokens;
}

/** Lets requests in: those of a user, and those with a token. */
export class Authorization {
  readonly #passwords: PasswordCheck | undefined;
  readonly #tokens: readonly Buffer[];

  constructor({ users, tokens = [] }: Readers) {
    this.#passwords = users === undefined ? undefined : new PasswordCheck(users);
    this.#tokens = tokens.map(hashed);
  }

  /**
   * The name of the user that a request is from; `token` for one with a token, as `Bearer` or as the password of any user, since docker and kubelets
   * send nothing else. Throws a Refusal with 401, or with 429 where too many logins wait.
   */
  async check(header: string | undefined, options: Abortable): Promise<string> {
    if (header === undefined) throw new Refusal(401, 'UNAUTHORIZED', 'log in to this registry', CHALLENGE);
    const [, bearer] = /^Bearer +([\x21-\x7e]+)$/i.exec(header) ?? [];
    if (bearer !== undefined && this.#isToken(bearer)) return 'token';
    const basic = parseBasic(header);
    if (basic !== undefined) {
      if (this.#isToken(basic.password)) return 'token';
      if ((await this.#passwords?.isRight(basic.user, basic.password, options)) === true) return basic.user;
    }
    throw new Refusal(401, 'UNAUTHORIZED', 'the user, password or token is wrong', CHALLENGE);
  }

  #isToken(text: string): boolean {
    const given = hashed(text);
    // every token is compared, so that the time taken reveals nothing
    return this.#tokens.map((token) => timingSafeEqual(token, given)).includes(true);
  }
}

/** User and password of a Basic Authorization header. */
function parseBasic(header: string): { readonly user: string; readonly password: string } | undefined {
  const [, encoded] = /^Basic +([A-Za-z0-9+/=]+)$/i.exec(header) ?? [];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, 'base64').toString();
  const colon = text.indexOf(':');
  return colon === -1 ? undefined : { user: text.slice(0, colon), password: text.slice(colon + 1) };
}

function hashed(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
