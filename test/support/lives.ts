// Lives of a process that may be killed at any write: of one that a test plays, and of the real ones that life.ts is run as.
import type { Target } from '../../worker/content/content.ts';
import { manifestsFrom } from '../../worker/content/manifests-from.ts';
import { walk } from '../../worker/content/graph.ts';
import { copy } from '../../worker/copy/copy.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { openArchiveTarget } from '../../worker/images/archive-target.ts';
import type { OperationOptions } from '../../worker/images/backends.ts';
import { systemClock } from '../../worker/util/clock.ts';
import type { Event } from '../../worker/util/events.ts';
import { REPOSITORY } from './archives.ts';
import { crashed, CrashPoints } from './crash.ts';
import { crashing } from './faulty-objects.ts';
import type { MadeImage } from './images.ts';

/** What is known of a life when it is over. */
export interface Life {
  readonly died: boolean;
  /** Points at which it could have been killed; where it died, up to that one. */
  readonly points: number;
  /** How many bytes of the archive were handed to the store. */
  readonly bytesSent: number;
  /** When it died: blobs that were begun and not at their end. */
  readonly blobsInFlight: number;
}

export interface LifeOptions {
  /** The point at which it dies, counted from 1. Default: it does not. */
  readonly at?: number | undefined;
  /** Called as it dies. Where that does not end the process, it is played on as if it had. */
  readonly onDeath?: (life: Life) => void;
}

/** Bytes that may be sent twice because of a death: one part for each blob in flight. Those that hold no blob are sent one at a time. */
export function sentTwiceAllowed(death: Life, partSize: number): number {
  return Math.max(1, death.blobsInFlight) * partSize;
}

/** Backs `image` up as `transship backup` does, with its defaults but for the size of parts, or goes on with what earlier lives left. */
export async function backupLife(
  image: MadeImage,
  store: ObjectStore,
  key: string,
  options: LifeOptions & { readonly partSize: number },
): Promise<Life> {
  const flying = new Set<string>();
  let death: Life | undefined;
  const dying = crashing(store, options.at ?? Infinity, () => {
    death = { died: true, points: dying.writes(), bytesSent: dying.bytesSent(), blobsInFlight: flying.size };
    options.onDeath?.(death);
  });
  const report = (event: Event): void => {
    if (event.type === 'blob-started') flying.add(event.digest);
    else if (event.type === 'blob-done') flying.delete(event.digest);
  };
  const writing = writeArchive(image, inParts(dying.store, options.partSize), key, { clock: systemClock, report });
  await crashed(writing);
  return death ?? { died: false, points: dying.writes(), bytesSent: dying.bytesSent(), blobsInFlight: 0 };
}

async function writeArchive(
  { content, root }: MadeImage,
  store: ObjectStore,
  key: string,
  options: OperationOptions,
): Promise<void> {
  await using target = await openArchiveTarget({ store, key, temporary: noTemporary }, options);
  const source = target.current === undefined ? content : manifestsFrom(content, target.current);
  const graph = await walk(source, [root], options);
  await target.write({ source: content, graph, repository: REPOSITORY });
}

/** Mirrors `image` to `target`, or completes what an earlier life left. */
export async function mirrorLife(image: MadeImage, target: Target, options: LifeOptions = {}): Promise<Life> {
  let death: Life | undefined;
  const points = new CrashPoints(options.at ?? Infinity, () => {
    death = { died: true, points: points.count, bytesSent: 0, blobsInFlight: 0 };
    options.onDeath?.(death);
  });
  await crashed(copy(image.content, dyingTarget(target, points), [image.root], { strict: true }));
  return death ?? { died: false, points: points.count, bytesSent: 0, blobsInFlight: 0 };
}

/**
 * `target` as a process sees it that is killed at one of `points`. Each put and tag is several: before it begins, when the first bytes of each
 * chunk were sent, and when it took effect but the caller has not heard of it.
 */
export function dyingTarget(target: Target, points: CrashPoints): Target {
  const write = async (
    open: Parameters<Target['put']>[1],
    work: (opener: Parameters<Target['put']>[1]) => Promise<void>,
  ): Promise<void> => {
    points.point();
    await work(async function* () {
      for await (const chunk of open()) {
        // half of a chunk is on its way when it happens
        if (chunk.byteLength > 1) yield chunk.subarray(0, chunk.byteLength / 2);
        points.point();
        yield chunk.subarray(chunk.byteLength > 1 ? chunk.byteLength / 2 : 0);
      }
    });
    points.point();
  };
  return {
    has: async (descriptor, options) => {
      points.alive();
      return target.has(descriptor, options);
    },
    put: async (descriptor, open, options) => write(open, async (opener) => target.put(descriptor, opener, options)),
    tag: async (name, descriptor, open, options) =>
      write(open, async (opener) => target.tag(name, descriptor, opener, options)),
  };
}

/** The store with uploads in parts of this size. */
function inParts(store: ObjectStore, partSize: number): ObjectStore {
  return { ...store, upload: async (key, size, options) => store.upload(key, size, { ...options, partSize }) };
}

/** Plain archives are read in place. */
async function noTemporary(): Promise<never> {
  throw new Error('a folder for now was asked for');
}
