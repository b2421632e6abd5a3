import { fingerprintOf } from '../queue/fingerprint.ts';
import type { Job } from '../queue/job.ts';
import type { JobTaken, StateStore } from '../state/state.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';

/**
 * Why a message is not the job that it claims to be; undefined where it is. Every job is in the state before its message is sent, and
 * processes that may send messages are not trusted to change the state.
 */
export async function disagreement(
  job: Job,
  { runs }: Pick<StateStore, 'runs'>,
  options: Abortable,
): Promise<Failure | undefined> {
  const known = await runs.job(job.run, job.id, options);
  if (known?.fingerprint === fingerprintOf(job)) return undefined;
  return disagreementOf(job, known === undefined ? 'unknown' : 'other');
}

/** The failure of a message whose job the state does not have (`unknown`), or has with other content (`other`). */
export function disagreementOf(job: Job, state: Extract<JobTaken['state'], 'unknown' | 'other'>): Failure {
  const why =
    state === 'unknown'
      ? 'the state does not have this job: leave out id, run and at to make it a request'
      : 'it differs from the job that the state has under this id, and is refused';
  return new Failure('INVALID', `${job.kind} job ${job.id} of run ${job.run}: ${why}`);
}
