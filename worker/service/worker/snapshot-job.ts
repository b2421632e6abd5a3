import type { Backends } from '../../images/backends.ts';
import type { SnapshotJob } from '../../queue/job.ts';
import { Failure } from '../../util/failure.ts';
import type { Ended, RunJobOptions } from './job-run.ts';
import type { LeasedDestination } from './leases.ts';

/** Writes the snapshot of a run that keeps archives. */
export async function writeRunSnapshot(
  job: SnapshotJob,
  _destination: LeasedDestination | undefined,
  _backends: Backends,
  _options: RunJobOptions,
): Promise<Ended> {
  throw new Failure('UNSUPPORTED', `snapshot of ${job.to}: being built`);
}
