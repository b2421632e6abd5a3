import { shortDigest, type Digest } from '../oci/digest.ts';
import {
  MAX_MANIFEST_BYTES,
  mediaTypeByBytes,
  parseManifest,
  type Descriptor,
  type Manifest,
} from '../oci/manifest.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import type { Report } from '../util/events.ts';
import { Failure, isFailure } from '../util/failure.ts';
import type { Source } from './content.ts';
import { readAll } from './read.ts';

/** Memory bound of one graph: an index of 4 MiB could name some 10,000 manifests of 4 MiB each. */
const MAX_GRAPH_BYTES = 128 * 1024 * 1024;

/** A manifest that was read. */
export interface ReadManifest {
  readonly descriptor: Descriptor;
  /** Exactly as the registry has them; verified. */
  readonly bytes: Uint8Array;
  readonly manifest: Manifest;
}

interface ReaderOptions extends Abortable {
  readonly report?: Report | undefined;
  readonly clock?: Clock | undefined;
}

/** Reads the manifests of one graph, none of them twice. */
export class ManifestReader {
  readonly #source: Source;
  readonly #options: ReaderOptions;
  /** What was read, also of what is still being descended into. */
  readonly #read = new Map<Digest, ReadManifest>();
  /** Referrers that were tried and cannot be read. */
  readonly #failed = new Map<Digest, Failure>();
  #bytes = 0;

  constructor(source: Source, { signal, report, clock }: ReaderOptions) {
    this.#source = source;
    this.#options = { signal, report, clock };
  }

  /** Whether the manifest was read. */
  has(digest: Digest): boolean {
    return this.#read.has(digest);
  }

  /**
   * A manifest, verified. `isRoot`: the media type is the server's word, so the bytes decide. The media type of a child is part of its parent and
   * must be right. Throws as `readAll` and `parseManifest` do, and UNSUPPORTED where the manifests are too many for memory.
   */
  async read(
    descriptor: Descriptor,
    { signal = this.#options.signal, isRoot = false }: Abortable & { readonly isRoot?: boolean } = {},
  ): Promise<ReadManifest> {
    checkAborted({ signal });
    const before = this.#read.get(descriptor.digest);
    if (before !== undefined) return before;
    const failed = this.#failed.get(descriptor.digest);
    if (failed !== undefined) throw failed;
    const bytes = await readAll(this.#source, descriptor, MAX_MANIFEST_BYTES, { ...this.#options, signal });
    this.#bytes += bytes.byteLength;
    if (this.#bytes > MAX_GRAPH_BYTES)
      throw new Failure('UNSUPPORTED', `the image has more than ${MAX_GRAPH_BYTES} bytes of manifests`);
    try {
      const mediaType = isRoot ? mediaTypeByBytes(bytes, descriptor.mediaType) : descriptor.mediaType;
      const node = { descriptor: { ...descriptor, mediaType }, bytes, manifest: parseManifest(bytes, mediaType) };
      this.#read.set(descriptor.digest, node);
      return node;
    } catch (error) {
      if (!isFailure(error)) throw error;
      throw new Failure(error.code, `manifest ${shortDigest(descriptor.digest)}: ${error.message}`, { cause: error });
    }
  }

  /** Remembers why a manifest cannot be read: `read` throws that from now on. */
  markFailed(digest: Digest, failure: Failure): void {
    this.#failed.set(digest, failure);
  }
}
