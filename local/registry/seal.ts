import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Clock } from '../../worker/util/clock.ts';

/** Marks texts so that others can hand them back, but not make or change them. Ends with the process. */
export class Seal {
  readonly #key = randomBytes(32);

  /** What proves that `text` was signed here: 32 hex digits. */
  sign(text: string): string {
    return createHmac('sha256', this.#key).update(text).digest('hex').slice(0, 32);
  }

  isSigned(text: string, signature: string): boolean {
    const expected = Buffer.from(this.sign(text));
    const given = Buffer.from(signature);
    return given.byteLength === expected.byteLength && timingSafeEqual(given, expected);
  }

  /** `text` and its signature as one word. */
  close(text: string): string {
    return `${Buffer.from(text).toString('base64url')}.${this.sign(text)}`;
  }

  /** The text of a closed word; undefined when it was not closed here. */
  open(word: string): string | undefined {
    const [payload = '', signature = ''] = word.split('.');
    const text = Buffer.from(payload, 'base64url').toString();
    return this.isSigned(text, signature) ? text : undefined;
  }
}

/** What a token records of its bearer. */
export interface Claims {
  readonly kind: 'access' | 'refresh';
  readonly user: string | undefined;
  readonly scopes: readonly string[];
}

export type OpenedToken =
  { readonly state: 'valid'; readonly claims: Claims } | { readonly state: 'expired' | 'invalid' };

/** Gives out tokens and knows its own. Access tokens end with their time, or all at once. */
export class TokenIssuer {
  readonly #seal = new Seal();
  readonly #clock: Clock;
  /** Access tokens of older generations have expired. */
  #generation = 0;
  #issued = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  issue(claims: Claims, lifetimeSeconds: number): string {
    const expiresMs = this.#clock.now() + lifetimeSeconds * 1000;
    // counted, so that no two are equal
    return this.#seal.close(JSON.stringify([claims, expiresMs, this.#generation, this.#issued++]));
  }

  open(token: string): OpenedToken {
    const text = this.#seal.open(token);
    if (text === undefined) return { state: 'invalid' };
    const [claims, expiresMs, generation] = JSON.parse(text) as [Claims, number, number];
    const revoked = claims.kind === 'access' && generation < this.#generation;
    return revoked || expiresMs <= this.#clock.now() ? { state: 'expired' } : { state: 'valid', claims };
  }

  /** Ends every access token given so far. */
  expireAll(): void {
    this.#generation++;
  }
}
