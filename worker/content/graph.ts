import { cosignTags } from '../oci/derived-tag.ts';
import { shortDigest, type Digest } from '../oci/digest.ts';
import { childrenOf, isForeign, isIndexType, isManifestType, type Descriptor } from '../oci/manifest.ts';
import type { Clock } from '../util/clock.ts';
import { describeFailure, Failure, isFailure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import type { Report } from '../util/events.ts';
import type { AnswerOptions, Source } from './content.ts';
import { ManifestReader, type ReadManifest } from './manifest-reader.ts';

/** A manifest and the names it has, or is to get. */
export interface Root {
  readonly descriptor: Descriptor;
  readonly tags: readonly string[];
}

export type ManifestNode = ReadManifest;

/** Everything that belongs to some images, by digest; nothing of it but manifests has been read. */
export interface Graph {
  readonly roots: readonly Root[];
  /**
   * What refers to the images and to their children, found by looking: OCI 1.1 referrers (without tags) and cosign's tags. A subject's
   * referrer comes before the referrer's own.
   */
  readonly referrers: readonly Root[];
  /** What refers to the images, but could not be read: listed and not there, or wrong. It is nowhere else in the graph. */
  readonly unreadable: readonly { readonly root: Root; readonly failure: Failure }[];
  /** Whether more refers to the images than was looked at: more than 1,000 manifests, or deeper than 3. Default false. */
  readonly truncated?: boolean | undefined;
  /** Why the source did not list all that refers to the images: the first refusal. Absent where it listed all. */
  readonly unlisted?: string | undefined;
  /** Every manifest below the roots and the referrers, children before the parents that name them. */
  readonly manifests: ReadonlyMap<Digest, ManifestNode>;
  /**
   * Manifests of platforms that an index names and that were not read, by `outline`: their blobs and foreign layers are unknown. Absent: every
   * manifest below the roots was read.
   */
  readonly unread?: ReadonlyMap<Digest, Descriptor> | undefined;
  /** Foreign layers that the source has, for instance of images that were pushed into a closed network: copied like any blob. Absent: none. */
  readonly foreignAtSource?: ReadonlySet<Digest> | undefined;
}

export interface WalkOptions extends AnswerOptions {
  /** Whether to look for referrers and cosign tags. Default true. */
  readonly referrers?: boolean | undefined;
  /**
   * Whether lists of the source are believed: that of its tags, which shows that a tag of cosign or a fallback tag is absent, and those of
   * referrers, which state how large each is. Default false: each is asked for, and a refusal to answer for a tag is in `unlisted`, whatever is listed.
   */
  readonly byLists?: boolean | undefined;
  /**
   * Whether the manifests of platforms may stay unread, where only their digests matter: what refers to them is looked for all the same. Those of
   * Windows are read, as they may have foreign layers. Default false.
   */
  readonly outline?: boolean | undefined;
  /** Requests at once. Default 8. */
  readonly concurrency?: number | undefined;
  readonly report?: Report | undefined;
  readonly clock?: Clock | undefined;
}

/** Indexes within indexes: more than images have. */
const MAX_DEPTH = 16;
/** The most manifests that refer to one image, directly or through each other: far more than its signatures and SBOMs. */
export const MAX_REFERRERS = 1000;
/** How deep referrers of referrers are followed. A signature of an SBOM of an image is 2 deep. */
const MAX_REFERRER_DEPTH = 3;
/** The codes of a referrer that is listed and does not exist, or is broken. */
const UNREADABLE = ['NOT_FOUND', 'INVALID', 'UNSUPPORTED', 'CORRUPT'] as const;

/**
 * Reads every manifest below `roots`, and their referrers unless an option turns that off. INVALID for manifests that are impossible, such as an
 * index that contains itself; NOT_FOUND when the source lacks a manifest that another names.
 */
export async function walk(source: Source, roots: readonly Root[], options: WalkOptions = {}): Promise<Graph> {
  const walker = new Walker(source, options);
  const entered: Root[] = [];
  for (const root of roots) entered.push(await walker.enter(root));
  const referrers = options.referrers === false ? [] : await walker.findReferrers();
  const { unreadable, manifests, unread, truncated, unlisted } = walker;
  const graph: Graph = {
    roots: entered,
    referrers,
    unreadable,
    manifests,
    truncated,
    unlisted,
    ...(unread.size === 0 ? {} : { unread }),
  };
  const foreign = foreignOf(graph);
  return foreign.length === 0 ? graph : { ...graph, foreignAtSource: await servedBy(source, foreign, options) };
}

/** The digests of those `blobs` that the source hands out. A blob that it refuses is not there; a source that cannot be asked is a failure. */
export async function servedBy(
  source: Source,
  blobs: readonly Descriptor[],
  options: WalkOptions,
): Promise<ReadonlySet<Digest>> {
  const present = new Set<Digest>();
  await forEachOf(
    blobs,
    options.concurrency ?? 8,
    async (descriptor, { signal }) => {
      try {
        // `Source` has no cheaper way to ask whether a blob is there
        for await (const _ of await source.open(descriptor, { signal })) break;
        present.add(descriptor.digest);
      } catch (error) {
        if (!isFailure(error, 'NOT_FOUND', 'DENIED', 'UNAUTHENTICATED', 'INVALID', 'UNSUPPORTED', 'CORRUPT'))
          throw error;
      }
    },
    options,
  );
  return present;
}

/**
 * Every blob of the graph once, in the order in which archives hold them: small ones that manifests call config first, then layers in the
 * order of the manifests. Foreign layers are among them where the source has them.
 */
export function blobsOf(graph: Graph): readonly Descriptor[] {
  const configs = new Map<Digest, Descriptor>();
  const layers = new Map<Digest, Descriptor>();
  for (const { manifest } of graph.manifests.values()) {
    for (const child of childrenOf(manifest)) {
      if (graph.manifests.has(child.digest) || graph.unread?.has(child.digest) === true) continue;
      if (isForeign(child) && graph.foreignAtSource?.has(child.digest) !== true) continue;
      if (manifest.kind === 'image' && child === manifest.config) configs.set(child.digest, child);
      else if (!layers.has(child.digest)) layers.set(child.digest, child);
    }
  }
  for (const digest of configs.keys()) layers.delete(digest);
  return [...configs.values(), ...layers.values()];
}

/**
 * Every foreign layer that is elsewhere, once: carried as a descriptor, while its bytes stay at its `urls`. A blob that another manifest lists as an
 * ordinary layer is left out: a base layer of Windows is foreign in old images and ordinary in new ones.
 */
export function foreignOf(graph: Graph): readonly Descriptor[] {
  const found = new Map<Digest, Descriptor>();
  for (const { manifest } of graph.manifests.values()) {
    for (const child of childrenOf(manifest)) if (isForeign(child)) found.set(child.digest, child);
  }
  for (const { digest } of blobsOf(graph)) found.delete(digest);
  return [...found.values()];
}

/**
 * The digest of every manifest that belongs to the images. Includes those that cannot be read, but not those that may be pushed later: what a list
 * names and the source does not have.
 */
export function digestsOf(graph: Graph): readonly Digest[] {
  const broken = graph.unreadable.filter(({ failure }) => failure.code !== 'NOT_FOUND');
  const unread = graph.unread?.keys() ?? [];
  return [...new Set([...graph.manifests.keys(), ...unread, ...broken.map(({ root }) => root.descriptor.digest)])];
}

/** Why more may refer to the images than the graph has, a sentence each. Empty where all that refers to them was looked for. */
export function unseenOf({ truncated, unlisted }: Graph): readonly string[] {
  return [
    ...(truncated === true
      ? ['not all manifests that refer to it were looked at: there are too many, or they are too deep']
      : []),
    ...(unlisted === undefined ? [] : [`not all that may refer to it was listed: ${unlisted}`]),
  ];
}

/** The manifests below and including `root`, children first. */
export function manifestsBelow(graph: Graph, root: Digest): readonly ManifestNode[] {
  const seen = new Map<Digest, ManifestNode>();
  const visit = (digest: Digest): void => {
    const node = graph.manifests.get(digest);
    if (node === undefined || seen.has(digest)) return;
    for (const child of childrenOf(node.manifest)) visit(child.digest);
    seen.set(digest, node);
  };
  visit(root);
  return [...seen.values()];
}

class Walker {
  readonly manifests = new Map<Digest, ManifestNode>();
  readonly unread = new Map<Digest, Descriptor>();
  readonly unreadable: { readonly root: Root; readonly failure: Failure }[] = [];
  truncated = false;
  unlisted: string | undefined;
  readonly #source: Source;
  readonly #options: WalkOptions;
  readonly #reader: ManifestReader;
  readonly #atOnce: number;
  /** The first that was entered, for messages. */
  #image: Digest | undefined;
  /** The tags of the images. */
  readonly #named = new Set<string>();
  /** Every tag of the source. Undefined where each is asked for. */
  #tags: ReadonlySet<string> | undefined;
  #outline: boolean;

  constructor(source: Source, options: WalkOptions) {
    this.#source = source;
    this.#options = options;
    this.#atOnce = options.concurrency ?? 8;
    this.#reader = new ManifestReader(source, options);
    this.#outline = options.outline === true;
  }

  /** Reads what is at and below `root`. Returns it with the media type of its bytes, because the source may have stated a wrong one. */
  async enter(root: Root): Promise<Root> {
    if (!isManifestType(root.descriptor.mediaType)) throw unsupported(root.descriptor);
    const { descriptor } = await this.#reader.read(root.descriptor, { isRoot: true });
    this.#image ??= descriptor.digest;
    for (const tag of root.tags) this.#named.add(tag);
    await this.#descend(descriptor, []);
    return { ...root, descriptor };
  }

  /** Reads what is at and below `descriptor`; children enter the map before their parent. */
  async #descend(descriptor: Descriptor, above: readonly Digest[]): Promise<void> {
    if (above.includes(descriptor.digest)) throw new Failure('INVALID', `${descriptor.digest} contains itself`);
    if (above.length > MAX_DEPTH)
      throw new Failure(
        'INVALID',
        `${descriptor.digest} is an index within ${above.length} others; ${MAX_DEPTH} are allowed`,
      );
    if (!isManifestType(descriptor.mediaType) || this.manifests.has(descriptor.digest)) return;
    const node = await this.#reader.read(descriptor);
    const children = childrenOf(node.manifest).filter(
      (child) => isManifestType(child.mediaType) && !this.#staysUnread(child),
    );
    const missing = new Map(
      children.filter((child) => !this.#reader.has(child.digest)).map((child) => [child.digest, child]),
    );
    await forEachOf(
      missing.values(),
      this.#atOnce,
      async (child, { signal }) => {
        await this.#reader.read(child, { signal });
      },
      this.#options,
    );
    const path = [...above, descriptor.digest];
    for (const child of children) await this.#descend(child, path);
    this.manifests.set(descriptor.digest, node);
    this.unread.delete(descriptor.digest);
  }

  /** Whether a child is left unread; it is then noted as such. */
  #staysUnread(child: Descriptor): boolean {
    if (!this.#outline || isIndexType(child.mediaType) || this.#reader.has(child.digest)) return false;
    const { os = 'unknown' } = child.platform ?? {};
    if (os === 'unknown' || os === 'windows') return false;
    this.unread.set(child.digest, child);
    return true;
  }

  /**
   * What refers to what has been read so far, and what refers to that: `MAX_REFERRERS` at most, `MAX_REFERRER_DEPTH` deep, with one warning
   * where there are more.
   */
  async findReferrers(): Promise<readonly Root[]> {
    // a referrer may have to be copied, whole
    this.#outline = false;
    this.#tags = await this.#listedTags();
    const found = new Map<Digest, Root>();
    const seen = new Set([...this.manifests.keys(), ...this.unread.keys()]);
    const most = seen.size + MAX_REFERRERS;
    let subjects = [...Array.from(this.manifests.values(), (node) => node.descriptor), ...this.unread.values()];
    for (let depth = 1; subjects.length > 0; depth++) {
      const next: Descriptor[] = [];
      // a few at a time, so that memory holds no more lists than are requested at once
      for (let at = 0; at < subjects.length; at += this.#atOnce) {
        const listed = await this.#referrersOfEach(subjects.slice(at, at + this.#atOnce));
        const unseen = new Set(listed.map((root) => root.descriptor.digest).filter((digest) => !seen.has(digest)));
        const room = depth > MAX_REFERRER_DEPTH ? 0 : most - seen.size;
        const taken = new Set([...unseen].slice(0, room));
        await this.#fetchEach(listed.filter((root) => taken.has(root.descriptor.digest)));
        for (const root of listed) {
          const { digest } = root.descriptor;
          const before = found.get(digest);
          if (before !== undefined) {
            found.set(digest, { ...before, tags: [...new Set([...before.tags, ...root.tags])] });
          } else if (taken.delete(digest)) {
            seen.add(digest);
            const entered = await this.#enterIfReadable(root);
            if (entered === undefined) continue;
            found.set(digest, entered);
            next.push(entered.descriptor);
          } else if (root.tags.length > 0 && this.unread.has(digest)) found.set(digest, await this.enter(root));
          else if (root.tags.length > 0 && this.manifests.has(digest)) found.set(digest, root);
        }
        if (unseen.size > room) {
          this.truncated = true;
          this.#warnOfMore(depth);
          return [...found.values()];
        }
      }
      subjects = next;
    }
    return [...found.values()];
  }

  /**
   * Every tag of the source, by a list that shows the tags of the images too, or for images without a tag any: one that does not is late, and
   * proves nothing.
   */
  async #listedTags(): Promise<ReadonlySet<string> | undefined> {
    if (this.#options.byLists !== true) return undefined;
    const listed = await this.#source.listedTags?.(this.#options);
    if (listed?.size === 0) return undefined;
    return [...this.#named].every((tag) => listed?.has(tag) === true) ? listed : undefined;
  }

  /** What refers to each of `subjects`, in the order of the subjects, not of the answers: the same image gives the same graph. */
  async #referrersOfEach(subjects: readonly Descriptor[]): Promise<readonly Root[]> {
    const lists = new Map<Digest, readonly Root[]>();
    await forEachOf(
      subjects,
      this.#atOnce,
      async (subject, { signal }) => {
        lists.set(subject.digest, await this.#referrersOf(subject, signal));
      },
      this.#options,
    );
    return subjects.flatMap((subject) => lists.get(subject.digest) ?? []);
  }

  /** Reads the manifests of referrers ahead. One that cannot be read fails when it is entered. */
  async #fetchEach(referrers: readonly Root[]): Promise<void> {
    await forEachOf(
      referrers.filter((root) => isManifestType(root.descriptor.mediaType)),
      this.#atOnce,
      async ({ descriptor }, { signal }) => {
        try {
          await this.#reader.read(descriptor, { signal, isRoot: true });
        } catch (error) {
          if (!isFailure(error, ...UNREADABLE)) throw error;
          await this.#readAsItIs(descriptor, error, signal);
        }
      },
      this.#options,
    );
  }

  /** Reads a referrer again with its real size, where a list that was believed states another one. */
  async #readAsItIs(listed: Descriptor, failure: Failure, signal: AbortSignal): Promise<void> {
    let why = failure;
    if (this.#options.byLists === true && failure.code === 'CORRUPT') {
      try {
        const { size } = await this.#source.resolve(listed.digest, { signal });
        if (size !== listed.size) {
          await this.#reader.read({ ...listed, size }, { signal, isRoot: true });
          return;
        }
      } catch (error) {
        if (!isFailure(error, ...UNREADABLE)) throw error;
        why = error;
      }
    }
    this.#reader.markFailed(listed.digest, why);
  }

  #warnOfMore(depth: number): void {
    const why =
      depth > MAX_REFERRER_DEPTH
        ? `they refer to each other more than ${MAX_REFERRER_DEPTH} deep`
        : `there are more than ${MAX_REFERRERS}`;
    const message = `not all manifests that refer to the image ${this.#image === undefined ? '' : shortDigest(this.#image)} are copied: ${why}`;
    this.#options.report?.({ type: 'warning', message });
  }

  /** A signature that is listed and not there, or broken, must not keep the image from being copied. */
  async #enterIfReadable(root: Root): Promise<Root | undefined> {
    const before = new Set(this.manifests.keys());
    try {
      return await this.enter(root);
    } catch (error) {
      if (!isFailure(error, ...UNREADABLE)) throw error;
      for (const digest of this.manifests.keys()) if (!before.has(digest)) this.manifests.delete(digest);
      const { code } = error;
      const message = describeFailure(error);
      this.unreadable.push({ root, failure: error });
      this.#options.report?.({ type: 'referrer-refused', digest: root.descriptor.digest, code, message });
      return undefined;
    }
  }

  async #referrersOf(subject: Descriptor, signal: AbortSignal): Promise<readonly Root[]> {
    const found: Root[] = [];
    const onRefused = (reason: string): void => {
      this.unlisted ??= reason;
    };
    const asListed = this.#options.byLists;
    const listing = this.#source.referrers(subject, { signal, onRefused, asListed, listedTags: this.#tags });
    for await (const descriptor of listing) {
      found.push({ descriptor, tags: [] });
      if (found.length > MAX_REFERRERS) break;
    }
    found.sort((a, b) => (a.descriptor.digest < b.descriptor.digest ? -1 : 1));
    for (const tag of cosignTags(subject.digest)) {
      if (this.#tags?.has(tag) === false) continue;
      try {
        found.push({ descriptor: await this.#source.resolve(tag, { signal }), tags: [tag] });
      } catch (error) {
        // some registries answer 403 for a tag that does not exist, without stating that
        if (isFailure(error, 'DENIED', 'UNAUTHENTICATED')) onRefused(error.message);
        else if (!isFailure(error, 'NOT_FOUND', 'UNSUPPORTED')) throw error;
      }
    }
    return found;
  }
}

function unsupported(descriptor: Descriptor): Failure {
  const docker1 = descriptor.mediaType.startsWith('application/vnd.docker.distribution.manifest.v1');
  const why = docker1
    ? 'an image of docker schema 1: push it again with a current docker'
    : `of type ${descriptor.mediaType}`;
  return new Failure('UNSUPPORTED', `${descriptor.digest} is not a manifest that is carried, but ${why}`);
}
