import type { Digest } from '../oci/digest.ts';

/** Manifests that we had to read ourselves and that are going to be asked for again, of all repositories of a registry. */
export class KeptManifests {
  readonly #limitBytes: number;
  readonly #kept = new Map<string, Uint8Array>();
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get(repository: string, digest: Digest): Uint8Array | undefined {
    return this.#kept.get(`${repository}@${digest}`);
  }

  /** Keeps it until those that come after take its place. `bytes` must be verified and not change any more. */
  keep(repository: string, digest: Digest, bytes: Uint8Array): void {
    const key = `${repository}@${digest}`;
    if (this.#kept.has(key) || bytes.byteLength > this.#limitBytes) return;
    this.#kept.set(key, bytes);
    this.#bytes += bytes.byteLength;
    for (const [oldest, { byteLength }] of this.#kept) {
      if (this.#bytes <= this.#limitBytes) return;
      this.#kept.delete(oldest);
      this.#bytes -= byteLength;
    }
  }
}
