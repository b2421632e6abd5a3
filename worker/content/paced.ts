import type { Descriptor } from '../oci/manifest.ts';
import type { Clock } from '../util/clock.ts';
import type { Report } from '../util/events.ts';
import type { BodyWatcher } from './watch.ts';

/** How often progress is reported at most. */
const EVERY_MS = 100;

/** Calls `report` with the number of bytes taken since its last call, at most ten times a second and once more when the body is over. */
export function paced(report: (bytes: number) => void, clock: Pick<Clock, 'now'>): BodyWatcher {
  let reportedMs = -Infinity;
  let bytes = 0;
  const flush = (): void => {
    if (bytes === 0) return;
    const sum = bytes;
    bytes = 0;
    report(sum);
  };
  return {
    taken: (more) => {
      bytes += more;
      const nowMs = clock.now();
      if (nowMs - reportedMs < EVERY_MS) return;
      reportedMs = nowMs;
      flush();
    },
    ended: flush,
  };
}

/** Reports the progress of a blob, paced: `blob-progress`. */
export function progressOf(
  { digest }: Pick<Descriptor, 'digest'>,
  report: Report | undefined,
  clock: Pick<Clock, 'now'>,
): BodyWatcher {
  return paced((bytes) => report?.({ type: 'blob-progress', digest, bytes }), clock);
}
