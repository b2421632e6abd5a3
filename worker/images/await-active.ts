import type { Digest } from '../oci/digest.ts';
import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import type { Report } from '../util/events.ts';
import { Failure } from '../util/failure.ts';
import type { ListedImage, StorageClasses } from './backends.ts';

export interface AwaitActiveOptions extends Abortable {
  readonly clock: Clock;
  readonly report?: Report | undefined;
  /** How long an image may take to become active, in milliseconds. Default 60 minutes; ECR documents up to 20. */
  readonly waitMs?: number | undefined;
}

/** How long an image may take by default. */
export const RESTORE_MS = 60 * 60_000;
const POLL_MS = 15_000;
const NOTE_MS = 5 * 60_000;

interface Waiter extends PromiseWithResolvers<void> {
  readonly sinceMs: number;
}

/**
 * Returns a function that waits until an image, which is being restored from the archive storage class, can be pulled. All waits share one question
 * every 15 seconds: a call to the registry for each hundred images. UNAVAILABLE after `waitMs`, or where the image is archived again; NOT_FOUND where
 * it is deleted meanwhile.
 */
export function awaitActive(
  repository: string,
  storage: StorageClasses,
  options: AwaitActiveOptions,
): (digest: Digest) => Promise<void> {
  const { clock, waitMs = RESTORE_MS } = options;
  const waiting = new Map<Digest, Waiter>();
  let notedMs = -Infinity;

  const settle = (digest: Digest, waiter: Waiter, status: ListedImage['status'] | undefined): void => {
    const what = `restore ${repository}@${digest} from the archive storage class`;
    if (status === 'ACTIVATING' && clock.now() - waiter.sinceMs < waitMs) return;
    waiting.delete(digest);
    if (status === 'ACTIVE') waiter.resolve();
    else if (status === 'ACTIVATING') waiter.reject(notActive(repository, digest, waitMs));
    else if (status === 'ARCHIVED')
      waiter.reject(new Failure('UNAVAILABLE', `${what}: another process archived it again`));
    else waiter.reject(new Failure('NOT_FOUND', `${what}: it was deleted`));
  };

  const note = (): void => {
    if (clock.now() - notedMs < NOTE_MS) return;
    notedMs = clock.now();
    const images = waiting.size === 1 ? '1 image' : `${waiting.size} images`;
    const message = `${repository}: waiting for ${images} to be restored from the archive storage class`;
    options.report?.({ type: 'note', message });
  };

  const poll = async (): Promise<void> => {
    while (waiting.size > 0) {
      try {
        await clock.sleep(POLL_MS, options);
        note();
        // waits that begin meanwhile are for the next call
        const asked = [...waiting];
        const digests = asked.map(([digest]) => digest);
        const statuses = await storage.imageStatuses(repository, digests, options);
        for (const [digest, waiter] of asked) settle(digest, waiter, statuses.get(digest));
      } catch (error) {
        for (const { reject } of waiting.values()) reject(error);
        waiting.clear();
      }
    }
  };

  return async (digest) => {
    const isFirst = waiting.size === 0;
    const waiter = { ...Promise.withResolvers<void>(), sinceMs: clock.now() };
    waiting.set(digest, waiter);
    if (isFirst) void poll();
    await waiter.promise;
  };
}

/** The failure of an image that takes longer than ECR documents. `ms`: how long; one that another process restores has no known start. */
export function notActive(repository: string, digest: Digest, ms: number): Failure {
  const isKnown = ms < 7 * 24 * 60 * 60_000;
  const since = isKnown ? `it is not active after ${Math.round(ms / 60_000)} minutes` : 'another process restores it';
  return new Failure('UNAVAILABLE', `restore ${repository}@${digest} from the archive storage class: ${since}`);
}
