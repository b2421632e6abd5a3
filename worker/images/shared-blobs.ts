import type { Digest } from '../oci/digest.ts';
import { orAborted, type Abortable } from '../util/abort.ts';

/** Refused mounts in a row after which a registry is taken not to mount. */
const MAX_REFUSED = 3;

/**
 * Which repositories of one registry have which blobs, so that each blob is sent to it once where it takes a blob over from another of its
 * repositories. A refused mount costs no request of its own: it begins the upload. https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#mounting-a-blob-from-another-repository
 */
export class SharedBlobs {
  readonly #at = new Map<Digest, string>();
  /** Blobs on their way into a repository. */
  readonly #coming = new Map<Digest, { readonly repository: string; readonly settled: PromiseWithResolvers<void> }>();
  #refused = 0;

  /** The repository has the blob. */
  found(digest: Digest, repository: string): void {
    if (!this.#at.has(digest)) this.#at.set(digest, repository);
  }

  /** A registry mounted a blob, or refused to. */
  mounted(isMounted: boolean): void {
    this.#refused = isMounted ? -Infinity : this.#refused + 1;
  }

  /**
   * Where the blob can be mounted from, for a `repository` that does not have it: waits while it is on its way into another one. Without any, the
   * caller sends it, and calls `settle` when that has ended, however it ended.
   */
  async mountFrom(digest: Digest, repository: string, options: Abortable): Promise<readonly string[]> {
    if (this.#refused >= MAX_REFUSED) return [];
    for (;;) {
      const at = this.#at.get(digest);
      if (at !== undefined && at !== repository) return [at];
      const coming = this.#coming.get(digest);
      if (coming === undefined || coming.repository === repository) break;
      await orAborted(coming.settled.promise, options);
    }
    if (!this.#coming.has(digest)) this.#coming.set(digest, { repository, settled: Promise.withResolvers<void>() });
    return [];
  }

  /** The repository has the blob, or could not get it. */
  settle(digest: Digest, repository: string): void {
    const coming = this.#coming.get(digest);
    if (coming?.repository !== repository) return;
    this.#coming.delete(digest);
    coming.settled.resolve();
  }
}
