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
import { childrenOf, isForeign, type Descriptor } from '../oci/manifest.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import { atSide, describeFailure, isFailure, onSide, type Failure } from '../util/failure.ts';
import { forEachOf, Limit } from '../util/limit.ts';
import { highest } from '../util/lists.ts';
import type { Outcome, Report } from '../util/events.ts';

export interface CopyOptions extends Abortable {
  /** Blobs at once. Default 4. */
  readonly concurrency?: number | undefined;
  /** Whether what refers to the images comes along: OCI 1.1 referrers and cosign tags, of each child too. Default true. */
  readonly referrers?: boolean | undefined;
  /** Whether a referrer that cannot be copied fails the whole copy, instead of being reported. For targets that are planned whole. Default false. */
  readonly strict?: boolean | undefined;
  /** Repositories at the target's registry whose blobs may be taken over, or what finds those that have a blob. Default none. */
  readonly mountFrom?: readonly string[] | ((blob: Descriptor) => readonly string[]) | undefined;
  /** The graph of the roots, where it was read before. */
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

const DEFAULT_CONCURRENCY = 4;
/** Bytes that may be read ahead of what the target takes, in all. */
const AHEAD_BYTES = 32 * 1024 * 1024;
/** Manifests are small; what limits them is the target's own rate. */
const MANIFESTS_AT_ONCE = 8;

/**
 * Makes the images of `roots` be at the target, whole: every platform, every layer, and what refers to them. Children before parents, tags
 * last, so that nothing is visible before all of it is there; a copy that is stopped anywhere can be run again and sends only what is
 * missing. Every blob is asked for, also below manifests that are there already, so that a copy heals what an earlier one or the target's
 * own garbage collection left incomplete. Idempotent. Failures carry the side they happened on.
 */
export async function copy(
  source: Source,
  target: Target,
  roots: readonly Root[],
  options: CopyOptions = {},
): Promise<CopyResult> {
  const graph =
    options.graph ?? (await onSide('source', walk(source, roots, { ...options, concurrency: MANIFESTS_AT_ONCE })));
  const run = new CopySession(source, target, graph, options);
  const images = part(graph, graph.roots);
  const blobs = options.strict === true ? blobsOf(graph) : blobsOf(images);
  const bytes = blobs.reduce((sum, descriptor) => sum + descriptor.size, 0);
  options.report?.({ type: 'planned', blobs: blobs.length, manifests: graph.manifests.size, bytes });
  for (const descriptor of foreignOf(graph)) run.done(descriptor, 'foreign');

  await run.blobs(blobs);
  for (const root of graph.roots) {
    // the top manifest of an image that nothing refers to is stored by its tag
    const tagged = root.tags.length > 0 && graph.referrers.length === 0;
    await run.manifests(manifestsBelow(graph, root.descriptor.digest).slice(0, tagged ? -1 : undefined));
  }
  const referrers: ReferrerResult[] = graph.unreadable.map(({ root, failure }) => ({
    ...root,
    refused: atSide('source', failure),
  }));
  for (const referrer of graph.referrers) referrers.push(await run.referrer(referrer));
  for (const root of graph.roots) await run.tags(root);
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
    foreign: { count: 0, bytes: 0 },
  };
  readonly foreign: Descriptor[] = [];
  readonly #source: Source;
  readonly #target: Target;
  readonly #graph: Graph;
  readonly #options: CopyOptions;
  readonly #ahead = new Limit(AHEAD_BYTES);
  /** One digest, one copy. */
  readonly #finished = new Set<Digest>();
  readonly #sentAgain = new Map<Digest, Promise<boolean>>();

  constructor(source: Source, target: Target, graph: Graph, options: CopyOptions) {
    this.#source = source;
    this.#target = target;
    this.#graph = graph;
    this.#options = options;
  }

  done(descriptor: Descriptor, outcome: Outcome): void {
    const type = this.#graph.manifests.has(descriptor.digest) ? 'manifest-done' : 'blob-done';
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

  async blobs(all: readonly Descriptor[]): Promise<void> {
    const missing = all.filter((descriptor) => !this.#finished.has(descriptor.digest));
    // the largest first, so that none is left to run alone at the end
    const ordered = this.#target.inOrder === true ? missing : missing.toSorted((a, b) => b.size - a.size);
    await forEachOf(
      ordered,
      this.#options.concurrency ?? DEFAULT_CONCURRENCY,
      (descriptor, options) => this.#blob(descriptor, options),
      this.#options,
    );
  }

  async #blob(descriptor: Descriptor, options: Abortable): Promise<void> {
    if (await onSide('target', this.#target.has(descriptor, options))) return this.done(descriptor, 'exists');
    const { mountFrom = [] } = this.#options;
    for (const repository of typeof mountFrom === 'function' ? mountFrom(descriptor) : mountFrom) {
      if ((await this.#target.mount?.(descriptor, repository, options)) === true)
        return this.done(descriptor, 'mounted');
    }
    return this.done(descriptor, (await this.#sendBlob(descriptor, options)) ? 'copied' : 'foreign');
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
    let broken: Failure | undefined;
    const open = (): Bytes => {
      broken = undefined;
      report?.({ type: 'blob-started', digest, bytes: size });
      const body = read(this.#source, descriptor, { ...options, report, ahead: this.#ahead, clock });
      const failed = (error: unknown): Failure => (broken = atSide('source', error));
      return watched(watched(body, { failed }), progressOf(descriptor, report, clock));
    };
    try {
      await this.#target.put(descriptor, open, options);
    } catch (error) {
      checkAborted(options);
      // what a target makes of a body that broke under it says less than why it broke
      throw broken ?? atSide('target', error);
    }
  }

  /** `nodes` with children before parents; those that do not name each other at once. */
  async manifests(nodes: readonly ManifestNode[]): Promise<void> {
    const heights = new Map<Digest, number>();
    for (const node of nodes) {
      const below = childrenOf(node.manifest).map((child) => heights.get(child.digest) ?? -1);
      heights.set(node.descriptor.digest, highest(below, -1) + 1);
    }
    const top = highest(heights.values(), -1);
    for (let height = 0; height <= top; height++) {
      const level = nodes.filter((node) => heights.get(node.descriptor.digest) === height);
      await forEachOf(level, MANIFESTS_AT_ONCE, (node, options) => this.#manifest(node, options), this.#options);
    }
  }

  async #manifest(node: ManifestNode, options: Abortable): Promise<void> {
    const descriptor = node.descriptor;
    if (this.#finished.has(descriptor.digest)) return;
    if (await onSide('target', this.#target.has(descriptor, options))) return this.done(descriptor, 'exists');
    await this.#healing(node, options, () => this.#target.put(descriptor, () => once(node.bytes), options));
    this.done(descriptor, 'copied');
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

  async referrer(root: Root): Promise<ReferrerResult> {
    const { descriptor, tags } = root;
    try {
      const nodes = manifestsBelow(this.#graph, descriptor.digest);
      await this.blobs(blobsOf(part(this.#graph, [root])));
      await this.manifests(nodes);
      await this.tags(root);
      return { descriptor, tags };
    } catch (error) {
      checkAborted(this.#options);
      if (this.#options.strict === true || !isFailure(error) || error.code === 'BUG') throw error;
      const message = describeFailure(error);
      this.#options.report?.({ type: 'referrer-refused', digest: descriptor.digest, code: error.code, message });
      return { descriptor, tags, refused: error };
    }
  }

  async tags(root: Root): Promise<void> {
    const { descriptor } = root;
    const node = this.#graph.manifests.get(descriptor.digest);
    if (node === undefined || root.tags.length === 0) return;
    const isThere =
      this.#finished.has(descriptor.digest) || (await onSide('target', this.#target.has(descriptor, this.#options)));
    for (const name of root.tags) {
      await this.#healing(node, this.#options, () =>
        this.#target.tag(name, descriptor, () => once(node.bytes), this.#options),
      );
      if (!this.#finished.has(descriptor.digest)) this.done(descriptor, isThere ? 'exists' : 'copied');
      this.#options.report?.({ type: 'tagged', name, digest: descriptor.digest });
    }
  }
}

/** The graph of some of its roots alone. */
function part(graph: Graph, roots: readonly Root[]): Graph {
  const nodes = roots.flatMap((root) => manifestsBelow(graph, root.descriptor.digest));
  return {
    roots,
    referrers: [],
    unreadable: [],
    manifests: new Map(nodes.map((node) => [node.descriptor.digest, node])),
    foreignAtSource: graph.foreignAtSource,
  };
}
