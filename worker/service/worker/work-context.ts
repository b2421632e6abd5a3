import type { Clock } from '../../util/clock.ts';
import type { JobName, Report } from '../../util/events.ts';
import type { BackendPool } from '../backend-pool.ts';
import type { Service } from '../service.ts';

/** What a worker has to do its work with: the same for all messages. */
export interface WorkContext {
  readonly service: Service;
  readonly backends: BackendPool;
  readonly clock: Clock;
  /** Takes what there is to tell of one job, its copies included; of what belongs to no job without one. */
  reportOf(job: JobName | undefined): Report;
  /** How long a lease on a destination is at a time: what a worker that died held is free so much later. Default 60. */
  readonly leaseSeconds?: number | undefined;
  /** Blobs at once, of one job. Default 4. */
  readonly concurrency?: number | undefined;
}
