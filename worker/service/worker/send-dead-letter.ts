import { formatJob, type Job } from '../../queue/job.ts';
import type { Letter } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { describeFailure, isFailure, type Failure } from '../../util/failure.ts';
import type { Service } from '../service.ts';
import type { FailedDestination } from './failed-destinations.ts';

/** A dead letter is sent anew when the earlier one is this old: its queue keeps messages for 14 days at most. */
const SENT_AGAIN_MS = 13 * 24 * 3600 * 1000;

/** The reason that a dead letter carries: the code and the whole sentence of its failure. */
export function deadLetterReason(failure: Failure): string {
  return `${failure.code}: ${describeFailure(failure)}`;
}

/**
 * Sends the dead letter of a job that failed, unless earlier ones report the same cause at each destination that failed. It is the whole
 * job: a message that differs from the job in the state would be refused when it is redriven.
 *
 * A letter is remembered at its destinations before it is sent. After a crash in between, the job sends it again: a letter that is remembered
 * for the same job may not exist. A record of the destination forgets it, and then `isDone` of ../dead-letters.ts holds for the letter.
 */
export async function sendDeadLetter(
  {
    job,
    failure,
    failed,
  }: { readonly job: Job; readonly failure: Failure; readonly failed: readonly FailedDestination[] },
  service: Service,
  options: Abortable & { readonly clock: Clock },
): Promise<void> {
  const { deadLetters } = service;
  const unreported = await unreportedOf(job, failed, service, options);
  if (failed.length > 0 && unreported.length === 0) return;
  for (const one of unreported) await remember(job, one, service, options);
  await deadLetters.send([{ body: formatJob(job), reason: deadLetterReason(failure) }], options);
}

/** The destinations whose failure no dead letter reports. All for a request by hand, which no later run repeats, and after a purge of the letters. */
async function unreportedOf(
  job: Job,
  failed: readonly FailedDestination[],
  { state, deadLetters }: Service,
  options: Abortable & { readonly clock: Clock },
): Promise<readonly FailedDestination[]> {
  if (job.rule === undefined) return failed;
  const sinceMs = options.clock.now() - SENT_AGAIN_MS;
  const unreported: FailedDestination[] = [];
  for (const one of failed) {
    const letters = await state.destinations.letters(one.destination.key, options);
    const reports = ({ cause, job: id, atMs }: Letter): boolean =>
      cause === one.failure.code && id !== job.id && atMs > sinceMs;
    if (!letters.some(reports)) unreported.push(one);
  }
  if (unreported.length === failed.length) return failed;
  const { visible, inFlight, delayed } = await deadLetters.count(options);
  return visible + inFlight + delayed === 0 ? failed : unreported;
}

async function remember(
  { id }: Job,
  { destination, failure }: FailedDestination,
  { state }: Service,
  options: Abortable & { readonly clock: Clock },
): Promise<void> {
  const letter = { cause: failure.code, job: id, atMs: options.clock.now() };
  try {
    await state.destinations.addLetter(destination.key, letter, destination.lease, options);
  } catch (error) {
    // another worker has the destination now: the letter is sent all the same
    if (!isFailure(error, 'CONFLICT')) throw error;
  }
}
