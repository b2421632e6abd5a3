import { digestOf, type Digest } from '../oci/digest.ts';
import { artifactTypeOf, childrenOf, isManifestType, parseManifest, type Descriptor } from '../oci/manifest.ts';
import { Failure } from '../util/failure.ts';
import type { ByteRange, Bytes, Source, Target } from './content.ts';

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

  async resolve(reference: string): Promise<Descriptor> {
    const found = this.#tags.get(reference) ?? this.#manifests.get(reference as Digest);
    if (found === undefined) throw new Failure('NOT_FOUND', `there is no ${reference} in memory`);
    return found;
  }

  async open(d: Descriptor, o?: ByteRange): Promise<Bytes> {
    const bytes = this.#bytes.get(d.digest);
    if (bytes === undefined) throw new Failure('NOT_FOUND', `there is no ${d.digest} in memory`);
    const part = bytes.subarray(o?.from ?? 0, o?.to);
    return (async function* () {
      if (part.byteLength > 0) yield part;
    })();
  }

  async *referrers(d: Descriptor): AsyncIterable<Descriptor> {
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

  async *tags(): AsyncIterable<string> {
    yield* this.#tags.keys();
  }

  async has(d: Descriptor): Promise<boolean> {
    return this.#bytes.has(d.digest);
  }

  async put(d: Descriptor, open: () => Bytes): Promise<void> {
    if (this.#bytes.has(d.digest)) return;
    const chunks: Uint8Array[] = [];
    for await (const chunk of open()) chunks.push(chunk);
    const bytes = Buffer.concat(chunks);
    if (isManifestType(d.mediaType)) {
      const missing = childrenOf(parseManifest(bytes, d.mediaType)).find(
        (c) => !this.#bytes.has(c.digest) && c.urls === undefined,
      );
      if (missing !== undefined)
        throw new Failure('NOT_FOUND', `${d.digest} names ${missing.digest}, which is not in memory`);
    }
    this.#store(d, bytes);
  }

  async tag(name: string, d: Descriptor, open: () => Bytes): Promise<void> {
    await this.put(d, open);
    this.#tags.set(name, this.#manifests.get(d.digest) ?? d);
  }

  #store(d: Descriptor, bytes: Uint8Array): void {
    this.#bytes.set(d.digest, bytes);
    if (isManifestType(d.mediaType))
      this.#manifests.set(d.digest, { mediaType: d.mediaType, digest: d.digest, size: d.size });
  }
}
