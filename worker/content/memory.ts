import { digestOf, type Digest } from '../oci/digest.ts';
import {
  childrenOf,
  isForeign,
  isManifestType,
  parseManifest,
  referrerEntry,
  type Descriptor,
} from '../oci/manifest.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';
import { collect } from './bytes.ts';
import type { ByteRange, Bytes, Source, Target } from './content.ts';

const CHUNK_BYTES = 64 * 1024;

/**
 * A Source and Target in memory: the reference for what the interfaces mean, and the place for content that we make ourselves (a rewritten index, an
 * artifact's manifest). Not for layers of unknown size.
 */
export class MemoryContent implements Source, Target {
  readonly #bytes = new Map<Digest, Uint8Array>();
  readonly #manifests = new Map<Digest, Descriptor>();
  readonly #tags = new Map<string, Descriptor>();

  /** Stores `bytes` and returns what describes them. */
  add(mediaType: string, bytes: Uint8Array): Descriptor {
    const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.byteLength };
    this.#store(descriptor, bytes);
    return descriptor;
  }

  async resolve(reference: string, options?: Abortable): Promise<Descriptor> {
    checkAborted(options);
    const found = this.#tags.get(reference) ?? this.#manifests.get(reference as Digest);
    if (found === undefined) throw new Failure('NOT_FOUND', `there is no ${reference} in memory`);
    return found;
  }

  async open(descriptor: Descriptor, options?: Abortable & ByteRange): Promise<Bytes> {
    checkAborted(options);
    const bytes = this.#bytes.get(descriptor.digest);
    if (bytes === undefined) throw new Failure('NOT_FOUND', `there is no ${descriptor.digest} in memory`);
    const part = bytes.subarray(options?.from ?? 0, options?.to);
    return (async function* () {
      for (let index = 0; index < part.byteLength; index += CHUNK_BYTES) {
        checkAborted(options);
        yield part.subarray(index, index + CHUNK_BYTES);
      }
    })();
  }

  async *referrers(descriptor: Descriptor, options?: Abortable): AsyncIterable<Descriptor> {
    checkAborted(options);
    for (const referrer of this.#manifests.values()) {
      const bytes = this.#bytes.get(referrer.digest);
      if (bytes === undefined) continue;
      const manifest = parseManifest(bytes, referrer.mediaType);
      if (manifest.subject?.digest !== descriptor.digest) continue;
      yield referrerEntry(referrer, manifest);
    }
  }

  async *tags(options?: Abortable): AsyncIterable<string> {
    checkAborted(options);
    yield* this.#tags.keys();
  }

  async has(descriptor: Descriptor, options?: Abortable): Promise<boolean> {
    checkAborted(options);
    return this.#has(descriptor);
  }

  async put(descriptor: Descriptor, open: () => Bytes, options?: Abortable): Promise<void> {
    checkAborted(options);
    if (this.#has(descriptor)) return;
    const tooLarge = (): Failure => new Failure('BUG', `a verified body has more than ${descriptor.size} bytes`);
    const bytes = await collect(open(), descriptor.size, tooLarge, options);
    if (isManifestType(descriptor.mediaType)) {
      const children = childrenOf(parseManifest(bytes, descriptor.mediaType));
      const missing = children.find((child) => !isForeign(child) && !this.#has(child));
      if (missing !== undefined)
        throw new Failure('NOT_FOUND', `${descriptor.digest} names ${missing.digest}, which is not in memory`);
    }
    this.#store(descriptor, bytes);
  }

  async tag(name: string, descriptor: Descriptor, open: () => Bytes, options?: Abortable): Promise<void> {
    await this.put(descriptor, open, options);
    this.#tags.set(name, this.#manifests.get(descriptor.digest) ?? descriptor);
  }

  /** The bytes of a manifest that was pushed as a blob are a blob, as in registries. */
  #has(descriptor: Descriptor): boolean {
    return isManifestType(descriptor.mediaType)
      ? this.#manifests.has(descriptor.digest)
      : this.#bytes.has(descriptor.digest);
  }

  #store(descriptor: Descriptor, bytes: Uint8Array): void {
    this.#bytes.set(descriptor.digest, bytes);
    if (isManifestType(descriptor.mediaType))
      this.#manifests.set(descriptor.digest, {
        mediaType: descriptor.mediaType,
        digest: descriptor.digest,
        size: descriptor.size,
      });
  }
}
