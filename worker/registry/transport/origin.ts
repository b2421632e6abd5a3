import { lookup } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { Failure } from '../../util/failure.ts';
import { guardOf, type Guard } from './address.ts';

/** Where one registry answers, and where it may send its clients. */
export class Origin {
  /** For connections: fails for names whose addresses the registry must not lead to. */
  readonly lookup: LookupFunction;
  readonly #host: string;
  #baseUrl: URL;
  readonly #guard: Guard;

  /** `host` as in references; `baseUrl` where it answers. */
  constructor(host: string, baseUrl: URL) {
    this.#host = host;
    this.#baseUrl = baseUrl;
    this.#guard = guardOf(baseUrl.hostname, lookup);
    this.lookup = this.#guard.lookup;
  }

  get baseUrl(): URL {
    return this.#baseUrl;
  }

  /** From now on the registry is asked by plain HTTP, at its host. */
  usePlainHttp(): void {
    this.#baseUrl = new URL(`http://${this.#host}`);
  }

  /** The whole URL of a path below the registry. A URL is returned unchanged. */
  resolve(url: string | URL): URL {
    if (typeof url !== 'string') return url;
    return new URL(`${this.#baseUrl.pathname.replace(/\/$/, '')}${url}`, this.#baseUrl);
  }

  /** Whether the registry itself answers there, instead of storage that it redirects to. Credentials go nowhere else. */
  isOwn(url: URL): boolean {
    return url.origin === this.#baseUrl.origin;
  }

  /** The URL that a Location or Link stands for, seen from `from`. UNSUPPORTED when it leads where a registry has no business to lead. */
  lead(what: string, location: string, from: URL): URL {
    const url = URL.parse(location, from.href);
    if (url === null || !/^https?:$/.test(url.protocol))
      throw new Failure('UNSUPPORTED', `${what}: the registry sent us to something that is not an address`);
    // a server behind a TLS front or a mapped endpoint names itself as it is known outside
    if (url.host === this.#host && url.origin !== this.#baseUrl.origin)
      return new URL(`${url.pathname}${url.search}`, this.#baseUrl);
    this.check(what, url);
    if (from.protocol === 'https:' && url.protocol !== 'https:')
      throw new Failure(
        'UNSUPPORTED',
        `${what}: the registry sent us from https to ${url.origin}, which is not encrypted; refused: have the registry send its clients to an https address`,
      );
    return url;
  }

  /** UNSUPPORTED for an address that the registry must not lead to. A name is checked when it is looked up. */
  check(what: string, url: URL): void {
    const kind = this.#guard.refuses(url.hostname);
    if (kind === undefined) return;
    throw new Failure('UNSUPPORTED', `${what}: the registry sent us to ${url.host}, a ${kind} address; refused`);
  }
}
