import { referrersTag } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import {
  artifactTypeOf,
  isIndexType,
  isManifestType,
  MEDIA_TYPE,
  parseDescriptor,
  parseManifest,
  type Descriptor,
  type Manifest,
} from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, isFailure } from '../util/failure.ts';
import type { RepositoryContext } from './context.ts';
import type { Manifests } from './manifests.ts';
import { pages } from './pages.ts';

/**
 * What refers to the manifests of one repository: by the referrers API, or where a registry has none by the tag that stands in for it.
 * https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers
 */
export class Referrers {
  readonly #c: RepositoryContext;
  readonly #manifests: Manifests;
  /** Undefined until the first answer. */
  #hasApi: boolean | undefined;
  /** Changes of fallback tags under way: each is a read and a write, one after the other. */
  readonly #changes = new Map<Digest, Promise<void>>();

  constructor(context: RepositoryContext, manifests: Manifests) {
    this.#c = context;
    this.#manifests = manifests;
  }

  /** Each once, as they really are: lists were seen with sizes that are wrong and with manifests that refer to something else. */
  async *of(subject: Digest, o: Abortable): AsyncIterable<Descriptor> {
    const seen = new Set<Digest>();
    const listed = (await this.#listed(subject, o)) ?? (await this.#tagged(subject, o));
    for (const entry of listed) {
      const d = this.#parse(entry, subject);
      if (d === undefined || seen.has(d.digest)) continue;
      seen.add(d.digest);
      const found = await this.#checked(d, subject, o);
      if (found !== undefined) yield found;
    }
  }

  /**
   * Sees to it that a manifest just pushed is found by its subject. `processed` is whether the registry said that it did so itself
   * (OCI-Subject); else its list decides, and where it has none, the fallback tag gets an entry.
   */
  async register(subject: Digest, d: Descriptor, manifest: Manifest, processed: boolean, o: Abortable): Promise<void> {
    if (processed && this.#hasApi !== false) return;
    const listed = await this.#listed(subject, o);
    // a list without it may be late, but it is this registry's own: a tag beside it would never be read
    if (listed !== undefined) return;
    const before = this.#changes.get(subject) ?? Promise.resolve();
    const change = before.catch(() => undefined).then(async () => this.#addToTag(subject, d, manifest, o));
    this.#changes.set(subject, change);
    try {
      await change;
    } finally {
      if (this.#changes.get(subject) === change) this.#changes.delete(subject);
    }
  }

  /** What the API lists; undefined where there is none, which is remembered. */
  async #listed(subject: Digest, o: Abortable): Promise<readonly unknown[] | undefined> {
    if (this.#hasApi === false) return undefined;
    const { transport, host, name, scopes, ecr } = this.#c;
    const what = `list referrers of ${host}/${name}@${subject}`;
    const entries: unknown[] = [];
    try {
      const url = `/v2/${name}/referrers/${subject}`;
      for await (const page of pages(transport, { what, operation: 'read-manifest', url, scopes }, o)) {
        const manifests = page['manifests'];
        if (manifests !== null && manifests !== undefined && !Array.isArray(manifests))
          throw new Failure('UNSUPPORTED', `${what}: the registry did not answer with an index`);
        entries.push(...(manifests ?? []));
      }
    } catch (error) {
      if (!isFailure(error, 'NOT_FOUND', 'UNSUPPORTED', 'INVALID')) throw error;
      // ECR has the API: what is not there is the repository, or the image
      if (ecr !== undefined) return [];
      if (error.context['registryCode'] !== 'NAME_UNKNOWN') this.#hasApi = false;
      return undefined;
    }
    this.#hasApi = true;
    return entries;
  }

  /** What the fallback tag lists. */
  async #tagged(subject: Digest, o: Abortable): Promise<readonly unknown[]> {
    const tag = referrersTag(subject);
    const found = await this.#manifests.find(tag, o);
    if (found === undefined) return [];
    if (!isIndexType(found.mediaType)) {
      this.#warn(`${this.#named}:${tag} is not a list of referrers; passed over`);
      return [];
    }
    return this.#entriesOf(found, o);
  }

  async #entriesOf(index: Descriptor, o: Abortable): Promise<readonly unknown[]> {
    const { bytes } = await this.#manifests.get(index.digest, o);
    const { manifests } = JSON.parse(Buffer.from(bytes).toString()) as { readonly manifests?: unknown };
    return Array.isArray(manifests) ? manifests : [];
  }

  #parse(entry: unknown, subject: Digest): Descriptor | undefined {
    try {
      return parseDescriptor(entry, 'a referrer');
    } catch (error) {
      if (!isFailure(error)) throw error;
      this.#warn(`a referrer of ${this.#named}@${subject} is passed over: ${error.message}`);
      return undefined;
    }
  }

  /** `d` with the size it really has; undefined when it is not there or refers to something else. */
  async #checked(d: Descriptor, subject: Digest, o: Abortable): Promise<Descriptor | undefined> {
    // ECR's list was never seen to be wrong, and asking would move the last pull time
    if (this.#c.ecr !== undefined || !isManifestType(d.mediaType)) return d;
    try {
      if (this.#hasApi === true) {
        const { size } = await this.#manifests.resolve(d.digest, o);
        return { ...d, size };
      }
      const { descriptor, bytes } = await this.#manifests.get(d.digest, o);
      const manifest = parseManifest(bytes, descriptor.mediaType);
      if (manifest.subject?.digest === subject) return describe(descriptor, manifest);
      this.#warn(`${this.#named}@${d.digest} is listed as a referrer of ${subject}, but refers to something else`);
    } catch (error) {
      if (!isFailure(error, 'NOT_FOUND', 'INVALID', 'CORRUPT')) throw error;
      this.#warn(`a referrer of ${this.#named}@${subject} is passed over: ${error.message}`);
    }
    return undefined;
  }

  async #addToTag(subject: Digest, d: Descriptor, manifest: Manifest, o: Abortable): Promise<void> {
    const tag = referrersTag(subject);
    const found = await this.#manifests.find(tag, o);
    if (found !== undefined && !isIndexType(found.mediaType)) {
      throw new Failure('CONFLICT', `list a referrer of ${this.#named}@${subject}: the tag ${tag} is something else`);
    }
    const entries = found === undefined ? [] : await this.#entriesOf(found, o);
    if (entries.some((entry) => (entry as Partial<Descriptor> | null)?.digest === d.digest)) return;
    const index = {
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociIndex,
      manifests: [...entries, describe(d, manifest)],
    };
    const bytes = Buffer.from(JSON.stringify(index));
    await this.#manifests.put(tag, MEDIA_TYPE.ociIndex, bytes, o);
  }

  #warn(message: string): void {
    this.#c.report?.({ type: 'warning', message });
  }

  get #named(): string {
    return `${this.#c.host}/${this.#c.name}`;
  }
}

/** Whether a tag is one that lists referrers, as `referrersTag` names them. */
export function isReferrersTag(tag: string): boolean {
  return /^sha(?:256|512)-[0-9a-f]{64}$/.test(tag);
}

/** As lists have it: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers */
function describe(d: Descriptor, manifest: Manifest): Descriptor {
  const artifactType = artifactTypeOf(manifest);
  return {
    mediaType: d.mediaType,
    digest: d.digest,
    size: d.size,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(manifest.annotations === undefined ? {} : { annotations: manifest.annotations }),
  };
}
