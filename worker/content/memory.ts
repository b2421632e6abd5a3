import { digestOf, type Digest } from '../oci/digest.ts';
import {
  artifactTypeOf,
  childrenOf,
  isForeign,
  isManifestType,
  parseManifest,
  type Descriptor,
} from '../oci/manifest.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';
import type { ByteRange, Bytes, Source, Target } from './content.ts';

const CHUNK_BYTES = 64 * 1024;

/**
 * A Source and Target that lives in memory: the reference for what the interfaces mean, and the place for content that we make ourselves
 * (a rewritten index, an artifact's manifest). Not for layers of unknown size.
 */
export class MemoryContent implements Source, Target {
  readonly #bytes = new Map<Digest, Uint8Array>();
  readonly #manifests = new Map<Digest, Descriptor>();
  readonly #tags = new Map<string, Descriptor>();

  /** Stores `bytes` and returns what describes them. */
  add(mediaType: string, bytes: Uint8Array): Descriptor {
    const d = { mediaType, digest: digestOf(bytes), size: bytes.byteLength };
    this.#store(d, bytes);
    return d;
  }

  async resolve(reference: string, o?: Abortable): Promise<Descriptor> {
    checkAborted(o);
    const found = this.#tags.get(reference) ?? this.#manifests.get(reference as Digest);
    if (found === undefined) throw new Failure('NOT_FOUND', `there is no ${reference} in memory`);
    return found;
  }

  async open(d: Descriptor, o?: Abortable & ByteRange): Promise<Bytes> {
    checkAborted(o);
    const bytes = this.#bytes.get(d.digest);
    if (bytes === undefined) throw new Failure('NOT_FOUND', `there is no ${d.digest} in memory`);
    const part = bytes.subarray(o?.from ?? 0, o?.to);
    return (async function* () {
      for (let at = 0; at < part.byteLength; at += CHUNK_BYTES) {
        checkAborted(o);
        yield part.subarray(at, at + CHUNK_BYTES);
      }
    })();
  }

  async *referrers(d: Descriptor, o?: Abortable): AsyncIterable<Descriptor> {
    checkAborted(o);
    for (const referrer of this.#manifests.values()) {
      const bytes = this.#bytes.get(referrer.digest);
      if (bytes === undefined) continue;
      const manifest = parseManifest(bytes, referrer.mediaType);
      if (manifest.subject?.digest !== d.digest) continue;
      const artifactType = artifactTypeOf(manifest);
      yield {
        ...referrer,
        ...(artifactType === undefined ? {} : { artifactType }),
        ...(manifest.annotations === undefined ? {} : { annotations: manifest.annotations }),
      };
    }
  }

  async *tags(o?: Abortable): AsyncIterable<string> {
    checkAborted(o);
    yield* this.#tags.keys();
  }

  async has(d: Descriptor, o?: Abortable): Promise<boolean> {
    checkAborted(o);
    return this.#has(d);
  }

  async put(d: Descriptor, open: () => Bytes, o?: Abortable): Promise<void> {
    checkAborted(o);
    if (this.#has(d)) return;
    const chunks: Uint8Array[] = [];
    for await (const chunk of open()) {
      checkAborted(o);
      chunks.push(chunk);
    }
    const bytes = Buffer.concat(chunks);
    if (isManifestType(d.mediaType)) {
      const children = childrenOf(parseManifest(bytes, d.mediaType));
      const missing = children.find((child) => !isForeign(child) && !this.#has(child));
      if (missing !== undefined)
        throw new Failure('NOT_FOUND', `${d.digest} names ${missing.digest}, which is not in memory`);
    }
    this.#store(d, bytes);
  }

  async tag(name: string, d: Descriptor, open: () => Bytes, o?: Abortable): Promise<void> {
    await this.put(d, open, o);
    this.#tags.set(name, this.#manifests.get(d.digest) ?? d);
  }

  /** As registries do: the bytes of a manifest that came as a blob are a blob. */
  #has(d: Descriptor): boolean {
    return isManifestType(d.mediaType) ? this.#manifests.has(d.digest) : this.#bytes.has(d.digest);
  }

  #store(d: Descriptor, bytes: Uint8Array): void {
    this.#bytes.set(d.digest, bytes);
    if (isManifestType(d.mediaType))
      this.#manifests.set(d.digest, { mediaType: d.mediaType, digest: d.digest, size: d.size });
  }
}
