import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { compare } from 'bcryptjs';
import { LRUCache } from 'lru-cache';
import { Failure } from '../util/failure.ts';
import { Limit } from '../util/limit.ts';
import type { Abortable } from '../util/abort.ts';
import { Refusal } from './answer.ts';

/** `$2y$10$` and 53 characters. */
const BCRYPT = /^\$2[aby]\$(\d{2})\$[./A-Za-z0-9]{53}$/;
/** One check at cost 15 takes some three seconds. */
const MAX_COST = 15;
/** Logins that wait for their check; further ones are refused at once. */
const MAX_WAITING = 32;
const MAX_REMEMBERED = 1000;

/**
 * Reads the users of a file that `htpasswd -B` wrote: their bcrypt hashes by name. INVALID, naming the line, for other hashes, which are broken with
 * little effort, and for a file without users.
 */
export function parseHtpasswd(text: string, path: string): ReadonlyMap<string, string> {
  const users = new Map<string, string>();
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const refuse = (why: string): Failure => new Failure('INVALID', `read ${path}: line ${index + 1} ${why}`);
    const colon = line.indexOf(':');
    if (colon < 1) throw refuse('is not user:hash; write it with `htpasswd -B`');
    const [user, hash] = [line.slice(0, colon), line.slice(colon + 1)];
    const cost = BCRYPT.exec(hash)?.[1];
    if (cost === undefined) throw refuse('does not have a bcrypt hash; write it with `htpasswd -B`');
    if (Number(cost) < 4 || Number(cost) > MAX_COST)
      throw refuse(`has a bcrypt cost of ${Number(cost)}; take one from 10 to ${MAX_COST} (\`htpasswd -B -C 10\`)`);
    if (users.has(user)) throw refuse('has a user that a line before it has');
    users.set(user, hash);
  }
  if (users.size === 0)
    throw new Failure('INVALID', `read ${path}: it does not have a user; add one with \`htpasswd -B\``);
  return users;
}

/**
 * Checks passwords, one at a time: a check keeps a processor busy for as long as the cost in the file demands. Passwords that were right are
 * remembered.
 */
export class PasswordCheck {
  readonly #users: ReadonlyMap<string, string>;
  readonly #turn = new Limit(1);
  readonly #key = randomBytes(32);
  /** By user, the MAC of the password. */
  readonly #right = new LRUCache<string, Buffer>({ max: MAX_REMEMBERED });
  #waiting = 0;

  constructor(users: ReadonlyMap<string, string>) {
    this.#users = users;
  }

  /** Throws a Refusal with 429 where too many logins wait. */
  async isRight(user: string, password: string, options: Abortable): Promise<boolean> {
    const mac = createHmac('sha256', this.#key).update(password).digest();
    const known = this.#right.get(user);
    if (known !== undefined && timingSafeEqual(known, mac)) return true;
    if (this.#waiting >= MAX_WAITING)
      throw new Refusal(429, 'TOOMANYREQUESTS', 'too many logins at once: try again later', { 'retry-after': '5' });
    this.#waiting++;
    try {
      const hash = this.#users.get(user);
      // a user that does not exist takes as long to refuse as one that does
      const [other = ''] = this.#users.values();
      const isSame = await this.#turn.run(async () => compare(password, hash ?? other), options);
      const isRight = isSame && hash !== undefined;
      if (isRight) this.#right.set(user, mac);
      return isRight;
    } finally {
      this.#waiting--;
    }
  }
}
