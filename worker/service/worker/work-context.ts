import type { Clock } from '../../util/clock.ts';
import type { JobName, Report } from '../../util/events.ts';
import type { BackendPool } from '../backend-pool.ts';
import type { Rules } from '../../state/state.ts';
import type { Service } from '../service.ts';

/** What a worker needs to do its work: the same for all messages. */
export interface WorkContext {
  readonly service: Service;
  readonly backends: BackendPool;
  readonly clock: Clock;
  /** Returns the report for events of one job and its copies; without a job, for events that belong to none. */
  reportOf(job: JobName | undefined): Report;
  /** How long a lease lasts unless it is renewed. The leases of a crashed worker expire after this time. Default 60. */
  readonly leaseSeconds?: number | undefined;
  /** The rules that events are compared with. Default: those that are stored when the event is received. */
  readonly pushRules?: Pick<Rules, 'list'> | undefined;
  /** Pushes to one repository within this time are planned by one run. Default 30. */
  readonly pushWindowSeconds?: number | undefined;
  /** Blobs at once in one job. Default 4. */
  readonly concurrency?: number | undefined;
  /** What snapshots name as the program that wrote them. Default `transship`. */
  readonly tool?: string | undefined;
  /** As `ScheduledPlanOptions.lookEveryHours`, for plans that a worker goes on with. */
  readonly lookEveryHours?: number | undefined;
}
