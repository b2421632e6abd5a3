import { referrersTag } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import {
  isIndexType,
  isManifestType,
  MEDIA_TYPE,
  parseDescriptor,
  parseManifest,
  referrerEntry,
  type Descriptor,
  type Manifest,
} from '../oci/manifest.ts';
import type { ReferrersOptions } from '../content/content.ts';
import { MAX_REFERRERS } from '../content/graph.ts';
import { orAborted, type Abortable } from '../util/abort.ts';
import { Failure, ifFound, isFailure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import { append } from '../util/lists.ts';
import type { RepositoryContext } from './context.ts';
import type { Manifests } from './manifests.ts';
import { pages } from './pages.ts';

/** Entries of a list that are compared with the registry at once. */
const CHECKED_AT_ONCE = 8;

/** What a fallback tag stands for, with its bytes where they were read. */
interface FoundList {
  readonly descriptor: Descriptor;
  readonly bytes?: Uint8Array;
}

/**
 * The referrers of the manifests of one repository: by the referrers API or, for a registry without it, by the fallback tag.
 * https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers
 */
export class Referrers {
  readonly #context: RepositoryContext;
  readonly #manifests: Manifests;
  /** Undefined until the first answer. */
  #hasApi: boolean | undefined;
  /** Whether a refusal was reported: one warning for a repository is enough. */
  #hasForgiven = false;
  /** The first question to the API while it is under way: those after it wait for what it shows. */
  #asking: Promise<unknown> | undefined;
  /** Why the API did not list; later subjects are not asked for again. */
  #apiRefusal: Failure | undefined;
  /** Changes of fallback tags under way: each is a read and a write, one after the other. */
  readonly #changes = new Map<Digest, Promise<void>>();

  constructor(context: RepositoryContext, manifests: Manifests) {
    this.#context = context;
    this.#manifests = manifests;
  }

  /**
   * Each once, as they really are, or with `asListed` as an API lists them: lists were seen with sizes that are wrong, and with manifests that
   * are not there or refer to something else. At most `MAX_REFERRERS` and one more, which shows that there are more. One warning for all that
   * are passed over. `onRefused` is called where the API or the tag refuses to answer.
   */
  async *of(subject: Digest, options: ReferrersOptions): AsyncIterable<Descriptor> {
    const listed = (await this.#listed(subject, options)) ?? (await this.#tagged(subject, options));
    if (this.#apiRefusal !== undefined) options.onRefused?.(this.#apiRefusal.message);
    const passedOver: string[] = [];
    const candidates = [...this.#distinct(listed.slice(0, MAX_REFERRERS + 1), passedOver).values()];
    try {
      if (options.asListed === true && this.#hasApi === true) {
        yield* candidates;
        return;
      }
      // as they are asked for: a reader that has enough leaves the rest unchecked
      for (let at = 0; at < candidates.length; at += CHECKED_AT_ONCE) {
        const some = candidates.slice(at, at + CHECKED_AT_ONCE);
        const found = new Map<Digest, Descriptor>();
        await forEachOf(
          some,
          CHECKED_AT_ONCE,
          async (descriptor, { signal }) => {
            const checked = await this.#checked(descriptor, subject, { signal });
            if (typeof checked === 'string') passedOver.push(checked);
            else found.set(descriptor.digest, checked);
          },
          options,
        );
        for (const { digest } of some) {
          const descriptor = found.get(digest);
          if (descriptor !== undefined) yield descriptor;
        }
      }
    } finally {
      this.#warnOf(passedOver, subject, listed.length > MAX_REFERRERS + 1);
    }
  }

  /**
   * Ensures that a manifest just pushed is found by its subject. `processed` is whether the registry answered that it did so itself (OCI-Subject).
   * Otherwise its list decides; for a registry without the referrers API, the fallback tag gets an entry.
   */
  async register(
    subject: Digest,
    descriptor: Descriptor,
    manifest: Manifest,
    processed: boolean,
    options: Abortable,
  ): Promise<void> {
    if (processed && this.#hasApi !== false) return;
    const listed = await this.#listed(subject, options);
    // a list without it may be late, but it is this registry's own: a tag beside it would never be read
    if (listed !== undefined) return;
    const before = this.#changes.get(subject) ?? Promise.resolve();
    const change = before
      .catch(() => undefined)
      .then(async () => this.#addToTag(subject, descriptor, manifest, options));
    this.#changes.set(subject, change);
    try {
      await change;
    } finally {
      if (this.#changes.get(subject) === change) this.#changes.delete(subject);
    }
  }

  /** What the API lists; undefined for a registry without the API, which is remembered. */
  async #listed(subject: Digest, options: Abortable): Promise<readonly unknown[] | undefined> {
    if (this.#hasApi === undefined && this.#asking !== undefined) await orAborted(this.#asking, options);
    if (this.#hasApi === false) return undefined;
    const asking = this.#ask(subject, options);
    this.#asking ??= asking.catch(() => undefined);
    return asking;
  }

  async #ask(subject: Digest, options: Abortable): Promise<readonly unknown[] | undefined> {
    const { transport, host, name, scopes, ecr } = this.#context;
    const what = `list referrers of ${host}/${name}@${subject}`;
    const entries: unknown[] = [];
    let isApi = false;
    try {
      const url = `/v2/${name}/referrers/${subject}`;
      for await (const page of pages(transport, { what, operation: 'read-manifest', url, scopes }, options)) {
        const manifests = page['manifests'];
        if (manifests !== null && manifests !== undefined && !Array.isArray(manifests))
          throw new Failure('UNSUPPORTED', `${what}: the registry did not answer with an index`);
        append(entries, manifests ?? []);
        isApi = true;
        // one more than are read
        if (entries.length > MAX_REFERRERS + 1) break;
      }
    } catch (error) {
      if (isFailure(error) && error.context['tooLong'] === true) throw error;
      // a registry that has given a page has the API: without the others the list is not whole
      if (isApi || !isFailure(error, 'NOT_FOUND', 'UNSUPPORTED', 'INVALID', 'DENIED', 'UNAUTHENTICATED')) throw error;
      // ECR has the API: what is not there is the repository, or the image
      if (ecr !== undefined) {
        if (isRefusal(error)) throw error;
        return [];
      }
      if (isRefusal(error)) {
        await this.#forgive(error, subject, options);
        this.#apiRefusal = error;
      }
      if (error.context['registryCode'] !== 'NAME_UNKNOWN') this.#hasApi = false;
      return undefined;
    }
    this.#hasApi = true;
    return entries;
  }

  /**
   * Turns a refusal to list referrers into one warning where the registry lets us read the manifest itself: some registries answer 401 or 403
   * for a path or a tag that they do not have. Throws the refusal otherwise.
   */
  async #forgive(refusal: Failure, subject: Digest, options: Abortable): Promise<void> {
    try {
      await this.#manifests.find(subject, options);
    } catch (error) {
      if (isFailure(error) && isRefusal(error)) throw refusal;
      throw error;
    }
    if (this.#hasForgiven) return;
    this.#hasForgiven = true;
    this.#warn(
      `${refusal.message}; images of ${this.#named} are copied without referrers that only this permission shows: grant it, or pass --no-referrers`,
    );
  }

  /** What the fallback tag lists. */
  async #tagged(subject: Digest, options: ReferrersOptions): Promise<readonly unknown[]> {
    const tag = referrersTag(subject);
    if (options.listedTags?.has(tag) === false) return [];
    let found: FoundList | undefined;
    try {
      found = await this.#findList(tag, options);
    } catch (error) {
      if (!isFailure(error) || !isRefusal(error)) throw error;
      await this.#forgive(error, subject, options);
      options.onRefused?.(error.message);
    }
    if (found === undefined) return [];
    if (!isIndexType(found.descriptor.mediaType)) {
      this.#warn(`${this.#named}:${tag} is not a list of referrers; passed over`);
      return [];
    }
    return this.#entriesOf(found, options);
  }

  /** What a fallback tag stands for: read at once where it is known to be there, and else looked for first. */
  async #findList(tag: string, options: ReferrersOptions): Promise<FoundList | undefined> {
    if (options.listedTags?.has(tag) === true) return ifFound(this.#manifests.get(tag, options));
    const descriptor = await this.#manifests.find(tag, options);
    return descriptor === undefined ? undefined : { descriptor };
  }

  async #entriesOf({ descriptor, ...read }: FoundList, options: Abortable): Promise<readonly unknown[]> {
    const bytes = read.bytes ?? (await this.#manifests.get(descriptor.digest, options)).bytes;
    const { manifests } = JSON.parse(Buffer.from(bytes).toString()) as { readonly manifests?: unknown };
    return Array.isArray(manifests) ? manifests : [];
  }

  /** The descriptors among `entries`, by digest. Adds to `passedOver` why the others are not descriptors. */
  #distinct(entries: readonly unknown[], passedOver: string[]): ReadonlyMap<Digest, Descriptor> {
    const found = new Map<Digest, Descriptor>();
    for (const entry of entries) {
      try {
        const descriptor = parseDescriptor(entry, 'a referrer');
        if (!found.has(descriptor.digest)) found.set(descriptor.digest, descriptor);
      } catch (error) {
        if (!isFailure(error)) throw error;
        passedOver.push(error.message);
      }
    }
    return found;
  }

  /** `listed` with the size that it really has; or, as a string, why it is passed over: it is not there, or refers to something else. */
  async #checked(listed: Descriptor, subject: Digest, options: Abortable): Promise<Descriptor | string> {
    // ECR's list was never seen to be wrong, and asking would move the last pull time
    if (this.#context.ecr !== undefined || !isManifestType(listed.mediaType)) return listed;
    try {
      if (this.#hasApi === true) {
        const { size } = await this.#manifests.resolve(listed.digest, options);
        return { ...listed, size };
      }
      const { descriptor, bytes } = await this.#manifests.get(listed.digest, options);
      const manifest = parseManifest(bytes, descriptor.mediaType);
      if (manifest.subject?.digest === subject) return referrerEntry(descriptor, manifest);
      return `${listed.digest} refers to something else`;
    } catch (error) {
      if (!isFailure(error, 'NOT_FOUND', 'INVALID', 'CORRUPT')) throw error;
      return error.message;
    }
  }

  #warnOf(passedOver: readonly string[], subject: Digest, hasMore: boolean): void {
    const [first] = passedOver;
    if (first === undefined) return;
    const one = passedOver.length === 1;
    const which = `${one ? 'a referrer' : `${passedOver.length} referrers`} of ${this.#named}@${subject}`;
    const rest = hasMore ? '; the list has more, which are not read' : '';
    this.#warn(`${which} ${one ? 'is passed over:' : 'are passed over, the first:'} ${first}${rest}`);
  }

  async #addToTag(subject: Digest, descriptor: Descriptor, manifest: Manifest, options: Abortable): Promise<void> {
    const tag = referrersTag(subject);
    const found = await this.#manifests.find(tag, options);
    if (found !== undefined && !isIndexType(found.mediaType)) {
      throw new Failure('CONFLICT', `list a referrer of ${this.#named}@${subject}: the tag ${tag} is something else`);
    }
    const entries = found === undefined ? [] : await this.#entriesOf({ descriptor: found }, options);
    if (entries.some((entry) => (entry as Partial<Descriptor> | null)?.digest === descriptor.digest)) return;
    const index = {
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociIndex,
      manifests: [...entries, referrerEntry(descriptor, manifest)],
    };
    const bytes = Buffer.from(JSON.stringify(index));
    await this.#manifests.put(tag, MEDIA_TYPE.ociIndex, bytes, options);
  }

  #warn(message: string): void {
    this.#context.report?.({ type: 'warning', message });
  }

  get #named(): string {
    return `${this.#context.host}/${this.#context.name}`;
  }
}

function isRefusal(failure: Failure): boolean {
  return failure.code === 'DENIED' || failure.code === 'UNAUTHENTICATED';
}
