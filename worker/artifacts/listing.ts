import { createHash } from 'node:crypto';
import type { Digest } from '../oci/digest.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';

/** An object as a listing shows it. */
export interface Listed {
  readonly key: string;
  readonly size: number;
  readonly etag: string;
  /** As `modifiedOf` writes it. */
  readonly modified: string;
}

/** RFC 3339 in UTC, whole seconds: HEAD has no fractions, and the lists of some stores do. */
export function modifiedOf(time: Date): string {
  return `${new Date(Math.floor(time.getTime() / 1000) * 1000).toISOString().slice(0, 19)}Z`;
}

/** Some servers leave the quotes out in lists. */
export function etagOf(etag: string): string {
  return etag.replaceAll('"', '');
}

/** Whether an object is listed as it was. */
export function isListedAs(now: Listed, before: Listed): boolean {
  return now.size === before.size && now.etag === before.etag && now.modified === before.modified;
}

/** The order of keys in listings and snapshots: by their UTF-8 bytes. */
export function compareKeys(a: string, b: string): number {
  return a === b ? 0 : Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** A running digest over a listing: equal for equal lists of (key, size, ETag, modified), in the same order. */
export class ListingDigest {
  readonly #hash = createHash('sha256');
  #last: string | undefined;
  count = 0;
  bytes = 0;

  /** UNSUPPORTED unless the keys come in ascending order. */
  add({ key, size, etag, modified }: Listed): void {
    if (this.#last !== undefined && compareKeys(this.#last, key) >= 0)
      throw new Failure(
        'UNSUPPORTED',
        `the store lists ${quote(key)} after ${quote(this.#last)}: only stores that list keys in order can be published`,
      );
    this.#last = key;
    this.#hash.update(`${JSON.stringify([key, size, etag, modified])}\n`);
    this.count++;
    this.bytes += size;
  }

  digest(): Digest {
    return `sha256:${this.#hash.copy().digest('hex')}`;
  }
}
