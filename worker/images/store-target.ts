import { dryRun } from '../content/dry-run.ts';
import type { Root } from '../content/graph.ts';
import { copy } from '../copy/copy.ts';
import type { StoreLocation } from '../oci/location.ts';
import { parseStoreRoot } from '../oci/place.ts';
import { SnapshotBuilder } from '../store/snapshot-builder.ts';
import { Failure, onSide } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { describeImage } from './describe-image.ts';
import type { ImageTarget, WholeImage, WrittenImage } from './image-target.ts';
import { openStore } from './open-place.ts';
import { registryFacts } from './registry-facts.ts';

/** One image that is copied into a store. */
export interface StoreTargetRequest {
  readonly to: StoreLocation;
  /** The image, with the tags that it gets there. */
  readonly root: Root;
  /** Whether what refers to the image was looked for. */
  readonly referrers: boolean;
  /** The program that writes the snapshot, such as `transship 0.1.0`. */
  readonly tool: string;
  /** Compares, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
}

/**
 * A store as the target of one image: its content, and a snapshot that lists it alone. The registry that the image is listed under is the one that
 * `to` names, else the one that the image itself names; INVALID where neither names one. Failures carry `target`.
 */
export async function openStoreTarget(
  request: StoreTargetRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<ImageTarget> {
  const root = parseStoreRoot(request.to.place, `store:${request.to.place}`);
  const store = await openStore(root, backends, { ...options, side: 'target', create: true });
  return {
    current: undefined,
    write: async (image) => {
      const registry = registryOf(request.to, image);
      if (request.dryRun === true) {
        const present = await onSide('target', store.blobs(options));
        const has = async ({ digest, size }: Root['descriptor']): Promise<boolean> => present.get(digest) === size;
        const target = dryRun({ has, put: async () => undefined, tag: async () => undefined });
        const written = await copy(image.source, target, untagged(image), { ...options, graph: image.graph });
        return { ...writtenAs(written, 'planned'), bytesToSend: written.tallies.copied.bytes };
      }
      await using session = await onSide('target', store.begin(options));
      const startedAt = timeOf(options);
      const graph = { ...image.graph, roots: untagged(image) };
      const copied = await copy(image.source, session.target, graph.roots, { ...options, graph, strict: true });
      const { repository, tag } = request.to.image;
      const scope = { repositories: repository, ...(tag === undefined ? {} : { tags: tag }), untagged: false };
      const draft = new SnapshotBuilder({
        startedAt,
        tool: request.tool,
        kind: 'store',
        registry: registryFacts(registry),
        scope: { ...scope, referrers: request.referrers, platforms: [], listed: false },
      });
      draft.repository(repository, { complete: false });
      draft.image(repository, describeImage(graph, { tags: request.root.tags }, copied.foreign));
      const snapshot = draft.finish({ finishedAt: timeOf(options), added: session.added });
      await onSide('target', session.finish(snapshot, options));
      return writtenAs(copied, copied.tallies.copied.count === 0 ? 'unchanged' : 'copied');
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** Tags are in the snapshot alone. */
function untagged({ graph }: WholeImage): readonly Root[] {
  return graph.roots.map((root) => ({ ...root, tags: [] }));
}

function writtenAs(copied: Awaited<ReturnType<typeof copy>>, outcome: WrittenImage['outcome']): WrittenImage {
  const { manifests, foreign, tallies } = copied;
  return { outcome, manifests, foreign, copied, bytesReused: 0, bytesSkipped: tallies.exists.bytes };
}

function registryOf({ place, image: { registry, repository } }: StoreLocation, image: WholeImage): string {
  const host = registry ?? image.repository?.split('/', 1)[0];
  if (host !== undefined) return host;
  throw new Failure(
    'INVALID',
    `store:${place}:${repository} names no registry, and the image does not say which it is of: write store:${place}:HOST/${repository}:TAG`,
    { context: { side: 'target' } },
  );
}

function timeOf({ clock }: OperationOptions): string {
  return new Date(clock.now()).toISOString();
}
