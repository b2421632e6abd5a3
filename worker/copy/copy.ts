import { once } from '../content/bytes.ts';
import type { Bytes, Source, Target } from '../content/content.ts';
import {
  blobsOf,
  digestsOf,
  foreignOf,
  manifestsBelow,
  walk,
  type Graph,
  type ManifestNode,
  type Root,
} from '../content/graph.ts';
import { progressOf } from '../content/paced.ts';
import { read } from '../content/read.ts';
import { watched } from '../content/watch.ts';
import type { Digest } from '../oci/digest.ts';
import { childrenOf, isForeign, MEDIA_TYPE, type Descriptor } from '../oci/manifest.ts';
import { anyOf, checkAborted, type Abortable } from '../util/abort.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import { atSide, describeFailure, isFailure, onSide, type Failure } from '../util/failure.ts';
import { Limit } from '../util/limit.ts';
import type { Outcome, Report } from '../util/events.ts';
import { CopyBudget } from './budget.ts';
import type { Shown } from './shown.ts';

export interface CopyOptions extends Abortable {
  /** Blobs at once. Default 4. */
  readonly concurrency?: number | undefined;
  /** Whether what refers to the images comes along: OCI 1.1 referrers and cosign tags, of each child too. Default true. */
  readonly referrers?: boolean | undefined;
  /** Whether a referrer that cannot be copied fails the whole copy, instead of being reported. For targets that are planned whole. Default false. */
  readonly strict?: boolean | undefined;
  /** Repositories at the target's registry whose blobs may be taken over, or what finds those that have a blob. Default none. */
  readonly mountFrom?: readonly string[] | ((blob: Descriptor) => readonly string[]) | undefined;
  /**
   * What the target shows, where it is trusted: a manifest that it shows stands for all that is below, which is not asked for then, and an image
   * that it does not show is sent without asking for each of its manifests and small blobs. Absent: everything is asked for.
   */
  readonly shown?: Shown | undefined;
  /** Names the target among those of copies with the same budget. Absent: no other copy writes there. */
  readonly place?: string | undefined;
  /** What copies at once share. Default: this one has its own, of `concurrency`. */
  readonly budget?: CopyBudget | undefined;
  /** The graph of the roots, where it was read before. With `shown` it may be an outline of what the target shows. */
  readonly graph?: Graph | undefined;
  readonly report?: Report | undefined;
  readonly clock?: Clock | undefined;
}

interface Tally {
  readonly count: number;
  readonly bytes: number;
}

interface ReferrerResult {
  readonly descriptor: Descriptor;
  readonly tags: readonly string[];
  /** Why it is not at the target; absent for one that is. */
  readonly refused?: Failure;
}

export interface CopyResult {
  /** Blobs and manifests by how they came to be at the target. */
  readonly tallies: Readonly<Record<Outcome, Tally>>;
  readonly referrers: readonly ReferrerResult[];
  /** Foreign layers that the source does not have or the target refused: their descriptors were copied, their bytes were not. */
  readonly foreign: readonly Descriptor[];
  /** Every manifest that belongs to the images and need not be looked at again: without those that failed as may pass. */
  readonly manifests: readonly Digest[];
  /** Those of `manifests` that are not at the target, or lack their tag there: the source cannot give them, or the target refuses them. */
  readonly absent: readonly Digest[];
}

/** Blobs of at most this many bytes are sent to a new image without asking first: the request costs more than the bytes. */
const SMALL_BYTES = 16 * 1024;
/** Manifests are small; what limits them is the target's own rate. */
const MANIFESTS_AT_ONCE = 8;

/**
 * Copies the images of `roots` to the target, whole: every platform, every layer, and what refers to them. Children before parents, tags
 * last, so that nothing is visible before all of it is there; a copy that is stopped anywhere can be run again and sends only what is
 * missing. Every blob is asked for, also below manifests that are there already, so that a copy heals what an earlier one or the target's
 * own garbage collection left incomplete; not so at a target that is trusted (`shown`). Idempotent. Failures carry the side they happened on.
 */
export async function copy(
  source: Source,
  target: Target,
  roots: readonly Root[],
  options: CopyOptions = {},
): Promise<CopyResult> {
  const graph =
    options.graph ?? (await onSide('source', walk(source, roots, { ...options, concurrency: MANIFESTS_AT_ONCE })));
  const blobs = blobsOf(options.strict === true ? graph : part(graph, graph.roots));
  const planned = blobsOf(graph);
  const bytes = planned.reduce((sum, descriptor) => sum + descriptor.size, 0);
  options.report?.({ type: 'planned', blobs: planned.length, manifests: graph.manifests.size, bytes });
  const stop = new AbortController();
  const run = new CopySession(source, target, graph, { ...options, signal: anyOf(options.signal, stop.signal) });
  let referrers: readonly ReferrerResult[];
  try {
    referrers = await run.all(blobs);
  } catch (error) {
    stop.abort(error);
    throw error;
  } finally {
    await run.ended();
  }
  checkAborted(options);
  const refused = new Map(referrers.map((referrer) => [referrer.descriptor.digest, referrer.refused]));
  const manifests = digestsOf(graph).filter((digest) => refused.get(digest)?.retryable !== true);
  const absent = manifests.filter((digest) => refused.get(digest) !== undefined || !run.isDone(digest));
  return { tallies: run.tallies, referrers, foreign: run.foreign, manifests, absent };
}

class CopySession {
  readonly tallies: Record<Outcome, { count: number; bytes: number }> = {
    copied: { count: 0, bytes: 0 },
    mounted: { count: 0, bytes: 0 },
    exists: { count: 0, bytes: 0 },
    trusted: { count: 0, bytes: 0 },
    foreign: { count: 0, bytes: 0 },
  };
  readonly foreign: Descriptor[] = [];
  readonly #source: Source;
  readonly #target: Target;
  readonly #graph: Graph;
  readonly #options: CopyOptions;
  readonly #budget: CopyBudget;
  readonly #manifestsAtOnce = new Limit(MANIFESTS_AT_ONCE);
  /** What is being done about each blob and manifest: one digest, one copy. */
  readonly #tasks = new Map<Digest, Promise<void>>();
  readonly #finished = new Set<Digest>();
  /** Whether the target, which is trusted, does not show the images: what they have of their own is not there either. */
  #isNew = false;
  readonly #sentAgain = new Map<Digest, Promise<boolean>>();

  constructor(source: Source, target: Target, graph: Graph, options: CopyOptions) {
    this.#source = source;
    this.#target = target;
    this.#graph = graph;
    this.#options = options;
    this.#budget = options.budget ?? new CopyBudget(options.concurrency);
  }

  /**
   * Copies the images, what refers to them, and the tags. `blobs`: the first to be sent, in their order where the target wants one. A manifest is
   * sent as soon as all that it names is there; what refers to an image, after the images.
   */
  async all(blobs: readonly Descriptor[]): Promise<readonly ReferrerResult[]> {
    const { roots, referrers, unreadable } = this.#graph;
    for (const descriptor of foreignOf(this.#graph)) this.#done(descriptor, 'foreign');
    const whole = await this.#findWhole();
    this.#isNew = this.#options.shown !== undefined && whole.size < roots.length;
    // the largest first, so that none is left to run alone at the end
    const ordered = this.#target.inOrder === true ? blobs : blobs.toSorted((a, b) => b.size - a.size);
    const sent = ordered.map(async (descriptor) => this.#blobOnce(descriptor));
    const images = Promise.all([...sent, ...roots.map(async (root) => this.#image(root))]);
    const found = Promise.all(referrers.map(async (referrer) => this.#referrer(referrer, images)));
    // whichever fails first: a referrer fails only where that fails the copy
    const [results] = await Promise.all([found, images]);
    for (const root of roots) await this.#tags(root);
    const unread = unreadable.map(({ root: { descriptor, tags }, failure }) => ({
      descriptor,
      tags,
      refused: atSide('source', failure),
    }));
    return [...unread, ...results];
  }

  /** Resolves once nothing is under way any more. */
  async ended(): Promise<void> {
    await Promise.allSettled(this.#tasks.values());
  }

  /** The images that a trusted target shows, by their tags or their digest. All that is below them counts as there. */
  async #findWhole(): Promise<ReadonlySet<Root>> {
    const whole = new Set<Root>();
    for (const root of this.#graph.roots) if (await this.#isShown(root)) whole.add(root);
    for (const root of whole) this.#trust(root);
    return whole;
  }

  async #isShown({ descriptor: { digest }, tags }: Root): Promise<boolean> {
    const { shown, signal } = this.#options;
    if (shown === undefined) return false;
    return (await shown.areAll(tags, digest, { signal })) || shown.areAll([digest], digest, { signal });
  }

  /** Counts everything below a manifest that the target shows as present. Foreign layers, which it may have refused, are asked for. */
  #trust(root: Root): void {
    const all = part(this.#graph, [root]);
    const below = Array.from(all.manifests.values(), (node) => node.descriptor);
    for (const descriptor of [...below, ...unreadBelow(this.#graph, all), ...blobsOf(all)]) {
      if (isForeign(descriptor) || this.#finished.has(descriptor.digest)) continue;
      this.#done(descriptor, descriptor.digest === root.descriptor.digest ? 'exists' : 'trusted');
    }
  }

  /** Stores the manifests of an image. The top one of an image that nothing refers to is stored by its tag. */
  async #image({ descriptor, tags }: Root): Promise<void> {
    const tagged = tags.length > 0 && this.#graph.referrers.length === 0;
    await (tagged ? this.#childrenOf(descriptor) : this.#manifestOnce(descriptor));
  }

  #done(descriptor: Descriptor, outcome: Outcome): void {
    const { manifests, unread } = this.#graph;
    const isManifest = manifests.has(descriptor.digest) || unread?.has(descriptor.digest) === true;
    const type = isManifest ? 'manifest-done' : 'blob-done';
    this.#finished.add(descriptor.digest);
    this.tallies[outcome].count++;
    this.tallies[outcome].bytes += descriptor.size;
    if (outcome === 'foreign') this.foreign.push(descriptor);
    this.#options.report?.({ type, digest: descriptor.digest, bytes: descriptor.size, outcome });
  }

  /** Whether it is at the target. */
  isDone(digest: Digest): boolean {
    return this.#finished.has(digest);
  }

  /** Runs `work` for a digest, unless it is done or under way. */
  async #once(digest: Digest, work: () => Promise<void>): Promise<void> {
    if (this.#finished.has(digest)) return;
    let task = this.#tasks.get(digest);
    if (task === undefined) {
      task = work();
      this.#tasks.set(digest, task);
    }
    await task;
  }

  async #blobOnce(descriptor: Descriptor): Promise<void> {
    const { signal, place } = this.#options;
    const { digest } = descriptor;
    const send = async (isLater: boolean): Promise<void> => this.#blob(descriptor, isLater, { signal });
    await this.#once(digest, async () => this.#budget.inTurn(place, digest, send, { signal }));
  }

  /** `isLater`: another copy may have sent it meanwhile. */
  async #blob(descriptor: Descriptor, isLater: boolean, options: Abortable): Promise<void> {
    // the empty config is in most repositories already, so it is asked for
    const isAbsent = this.#isNew && descriptor.size <= SMALL_BYTES && descriptor.mediaType !== MEDIA_TYPE.ociEmpty;
    if ((isLater || !isAbsent) && (await onSide('target', this.#target.has(descriptor, options))))
      return this.#done(descriptor, 'exists');
    const { mountFrom = [] } = this.#options;
    for (const repository of typeof mountFrom === 'function' ? mountFrom(descriptor) : mountFrom) {
      if ((await this.#target.mount?.(descriptor, repository, options)) === true)
        return this.#done(descriptor, 'mounted');
    }
    return this.#done(descriptor, (await this.#sendBlob(descriptor, options)) ? 'copied' : 'foreign');
  }

  /**
   * Sends a blob. False for a foreign layer that the target refuses, because it must not be distributed or for another reason: the manifest
   * names where else it is. A failure that may pass is thrown for foreign layers too.
   */
  async #sendBlob(descriptor: Descriptor, options: Abortable): Promise<boolean> {
    try {
      await this.#putBlob(descriptor, options);
      return true;
    } catch (error) {
      checkAborted(options);
      const mayRefuse = isForeign(descriptor) && this.#options.strict !== true;
      const isRefusal = isFailure(error) && !error.retryable && error.code !== 'BUG' && error.context.side === 'target';
      if (!mayRefuse || !isRefusal) throw error;
      const message = `the foreign layer ${descriptor.digest} was not copied: ${describeFailure(error)}`;
      this.#options.report?.({ type: 'warning', message });
      return false;
    }
  }

  async #putBlob(descriptor: Descriptor, options: Abortable): Promise<void> {
    const { report, clock = systemClock } = this.#options;
    const { digest, size } = descriptor;
    const { ahead } = this.#budget;
    let broken: Failure | undefined;
    const open = (): Bytes => {
      broken = undefined;
      report?.({ type: 'blob-started', digest, bytes: size });
      const body = read(this.#source, descriptor, { ...options, report, ahead, clock });
      const failed = (error: unknown): Failure => (broken = atSide('source', error));
      return watched(watched(body, { failed }), progressOf(descriptor, report, clock));
    };
    try {
      await this.#target.put(descriptor, open, options);
    } catch (error) {
      checkAborted(options);
      // the reason why a body broke is more useful than the target's error about the broken body
      throw broken ?? atSide('target', error);
    }
  }

  /** Ensures that the target has everything that a manifest names. */
  async #childrenOf(descriptor: Descriptor): Promise<void> {
    const node = this.#graph.manifests.get(descriptor.digest);
    if (node === undefined || this.#finished.has(descriptor.digest)) return;
    await Promise.all(
      childrenOf(node.manifest).map(async (child) => {
        if (this.#graph.manifests.has(child.digest)) await this.#manifestOnce(child);
        else if (!isForeign(child) || this.#graph.foreignAtSource?.has(child.digest) === true)
          await this.#blobOnce(child);
      }),
    );
  }

  async #manifestOnce(descriptor: Descriptor): Promise<void> {
    const node = this.#graph.manifests.get(descriptor.digest);
    if (node === undefined) return;
    const { signal } = this.#options;
    await this.#once(descriptor.digest, async () => {
      await this.#childrenOf(descriptor);
      await this.#manifestsAtOnce.run(async () => this.#manifest(node, { signal }), { signal });
    });
  }

  async #manifest(node: ManifestNode, options: Abortable): Promise<void> {
    const descriptor = node.descriptor;
    if (!this.#isNew && (await onSide('target', this.#target.has(descriptor, options))))
      return this.#done(descriptor, 'exists');
    await this.#healing(node, options, () => this.#target.put(descriptor, () => once(node.bytes), options));
    this.#done(descriptor, 'copied');
  }

  /**
   * Runs `write`, and once more after putting everything that the manifest names, when the target misses some of it although it said that it
   * was there.
   */
  async #healing(node: ManifestNode, options: Abortable, write: () => Promise<void>): Promise<void> {
    try {
      await onSide('target', write());
    } catch (error) {
      if (!isFailure(error, 'NOT_FOUND') || childrenOf(node.manifest).length === 0) throw error;
      this.#options.report?.({
        type: 'warning',
        message: `${describeFailure(error)}; sending what ${node.descriptor.digest} names again`,
      });
      for (const child of childrenOf(node.manifest)) {
        const below = this.#graph.manifests.get(child.digest);
        if (below !== undefined) {
          await this.#healing(below, options, () => this.#target.put(child, () => once(below.bytes), options));
        } else if (!isForeign(child) || this.#graph.foreignAtSource?.has(child.digest) === true) {
          const sent = this.#sentAgain.get(child.digest) ?? this.#sendBlob(child, options);
          this.#sentAgain.set(child.digest, sent);
          await sent;
        }
      }
      await onSide('target', write());
    }
  }

  /** Copies what refers to an image, after the images themselves and after the referrer that it refers to. */
  async #referrer(root: Root, images: Promise<unknown>): Promise<ReferrerResult> {
    const { descriptor, tags } = root;
    const node = this.#graph.manifests.get(descriptor.digest);
    try {
      if (!this.#isNew && (await this.#isReferrerShown(root))) {
        this.#trust(root);
        return { descriptor, tags };
      }
      const blobs = blobsOf(part(this.#graph, [root])).map(async (blob) => this.#blobOnce(blob));
      await Promise.all([...blobs, images.catch(() => checkAborted(this.#options))]);
      const subject = node?.manifest.subject?.digest;
      if (subject !== undefined) await this.#tasks.get(subject)?.catch(() => undefined);
      await (tags.length > 0 ? this.#childrenOf(descriptor) : this.#manifestOnce(descriptor));
      await this.#tags(root);
      return { descriptor, tags };
    } catch (error) {
      checkAborted(this.#options);
      if (this.#options.strict === true || !isFailure(error) || error.code === 'BUG') throw error;
      const message = describeFailure(error);
      this.#options.report?.({ type: 'referrer-refused', digest: descriptor.digest, code: error.code, message });
      return { descriptor, tags, refused: error };
    }
  }

  async #isReferrerShown({ descriptor: { digest }, tags }: Root): Promise<boolean> {
    const { shown, signal } = this.#options;
    return (await shown?.areAll(tags.length > 0 ? tags : [digest], digest, { signal })) === true;
  }

  async #tags(root: Root): Promise<void> {
    const { descriptor } = root;
    const { shown, signal, report } = this.#options;
    const node = this.#graph.manifests.get(descriptor.digest);
    if (node === undefined || root.tags.length === 0) return;
    const isThere =
      this.#finished.has(descriptor.digest) ||
      (!this.#isNew && (await onSide('target', this.#target.has(descriptor, { signal }))));
    for (const name of root.tags) {
      const isShown = !this.#isNew && (await shown?.find(name, { signal })) === descriptor.digest;
      if (!isShown) {
        // a trusted target was asked just now
        const options = { signal, skipLook: shown !== undefined };
        await this.#healing(node, { signal }, () =>
          this.#target.tag(name, descriptor, () => once(node.bytes), options),
        );
      }
      if (!this.#finished.has(descriptor.digest)) this.#done(descriptor, isThere ? 'exists' : 'copied');
      report?.({ type: 'tagged', name, digest: descriptor.digest });
    }
  }
}

/** The manifests that `below`, a part of `graph`, names and that were not read. */
function unreadBelow({ unread }: Graph, below: Graph): readonly Descriptor[] {
  if (unread === undefined) return [];
  const named = Array.from(below.manifests.values(), ({ manifest }) => childrenOf(manifest)).flat();
  return named.filter(({ digest }) => unread.has(digest));
}

/** The graph of some of its roots alone. */
function part(graph: Graph, roots: readonly Root[]): Graph {
  const nodes = roots.flatMap((root) => manifestsBelow(graph, root.descriptor.digest));
  return {
    roots,
    referrers: [],
    unreadable: [],
    manifests: new Map(nodes.map((node) => [node.descriptor.digest, node])),
    unread: graph.unread,
    foreignAtSource: graph.foreignAtSource,
  };
}
