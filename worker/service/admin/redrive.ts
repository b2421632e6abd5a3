import type { Job } from '../../queue/job.ts';
import { isLargeJob } from '../../queue/large-jobs.ts';
import type { Delivery } from '../../queue/queue.ts';
import type { StateStore } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';
import { systemClock, type Clock } from '../../util/clock.ts';
import { Failure, ifFound } from '../../util/failure.ts';
import type { Report } from '../../util/events.ts';
import { quote } from '../../util/text.ts';
import { destinationKeys, eachDeadLetter, isDone, jobIn, messageIn } from '../dead-letters.ts';
import { disagreement } from '../disagreement.ts';
import type { Service } from '../service.ts';
import { startTask } from '../start-task.ts';

/** Which dead letters are meant. Default: all. */
export interface RedriveChoice {
  /** Only jobs of this rule. */
  readonly rule?: string | undefined;
  /** Only jobs of this run. */
  readonly run?: string | undefined;
}

/** The result of a redrive, in dead letters. Each counts once. */
export interface RedriveResult {
  readonly redriven: number;
  /** Those of `redriven` that failed again meanwhile, and are dead letters as before. */
  readonly failedAgain: number;
  /** Deleted, because later runs did what they ask for. */
  readonly done: number;
  /** Dead letters that stay: those of other rules or runs, jobs that the state does not have like that, and messages that ask for nothing. */
  readonly left: number;
}

type RedriveOptions = Abortable & { readonly report?: Report | undefined; readonly clock?: Clock | undefined };

/** A receive that waits for a moment asks all servers of the queue. */
const WAIT_SECONDS = 1;

/**
 * Puts dead letters back to the queue, and their jobs back to waiting: jobs, and pushes that could not be planned. What is neither stays
 * where it is. Starts a worker when none runs that takes them. Safe to repeat, and to stop: a message is in one of the queues at any time, for a moment in both.
 */
export async function redrive(
  choice: RedriveChoice,
  service: Service,
  options: RedriveOptions,
): Promise<RedriveResult> {
  const { state, queue, deadLetters } = service;
  const redriven = new Set<string>();
  const takers = new Set<Pick<Service, 'tasks'>>();
  let [failedAgain, done, left] = [0, 0, 0];
  const take = async (delivery: Delivery): Promise<boolean> => {
    const job = jobIn(delivery.body);
    const key = job?.id ?? delivery.body;
    if (redriven.has(key)) {
      failedAgain++;
      return false;
    }
    const type = messageIn(delivery.body)?.type ?? 'ignored';
    if (type === 'ignored' || !isChosen(job, choice) || !(await isOurs(delivery, job, state, options))) {
      left++;
      return false;
    }
    if (job !== undefined && (await isDone(job, state.destinations, options))) done++;
    else {
      if (job !== undefined) await ifFound(state.runs.reviveJob(job.run, job.id, options));
      await queue.send([{ body: delivery.body }], options);
      redriven.add(key);
      takers.add((isLargeJob(delivery.body) ? service.large : undefined) ?? service);
    }
    await delivery.settle({ type: 'done' });
    return true;
  };
  await eachDeadLetter(deadLetters, take, { ...options, waitSeconds: WAIT_SECONDS });
  for (const taker of takers) await startTask(taker, { ...options, clock: options.clock ?? systemClock });
  return { redriven: redriven.size, failedAgain, done, left };
}

/** The result of discarding, in dead letters. */
export interface DiscardResult {
  readonly discarded: number;
  readonly left: number;
}

/**
 * Deletes one dead letter by its id as `status` has it, or all that are chosen. Their jobs stay failed; when one of their destinations fails
 * again, there is a dead letter again. NOT_FOUND for an id that no dead letter has.
 */
export async function discard(
  which: string,
  choice: RedriveChoice,
  { state, deadLetters }: Service,
  options: RedriveOptions,
): Promise<DiscardResult> {
  let [discarded, left] = [0, 0];
  const take = async (delivery: Delivery): Promise<boolean> => {
    const job = jobIn(delivery.body);
    if ((which !== 'all' && delivery.id !== which) || !isChosen(job, choice)) {
      left++;
      return false;
    }
    // before it is deleted: after a crash in between the letter is still there
    if (job !== undefined) await forget(job, state, options);
    await delivery.settle({ type: 'done' });
    discarded++;
    return true;
  };
  await eachDeadLetter(deadLetters, take, { ...options, waitSeconds: WAIT_SECONDS });
  if (which !== 'all' && discarded === 0)
    throw new Failure('NOT_FOUND', `discard ${quote(which)}: no dead letter has this id; see \`transship status\``);
  return { discarded, left };
}

/** Whether the state has the job like that. Workers refuse all others, and reviving one would leave the job of that id without a message. */
async function isOurs(
  { id }: Delivery,
  job: Job | undefined,
  state: StateStore,
  options: RedriveOptions,
): Promise<boolean> {
  const refusal = job === undefined ? undefined : await disagreement(job, state, options);
  if (refusal === undefined) return true;
  options.report?.({ type: 'warning', message: `dead letter ${id} stays: ${refusal.message}` });
  return false;
}

/** A letter that only claims to be a job leaves what destinations remember of the job's own. */
async function forget(job: Job, state: StateStore, options: Abortable): Promise<void> {
  if ((await disagreement(job, state, options)) !== undefined) return;
  for (const key of destinationKeys(job)) await state.destinations.forgetLetters(key, job.id, options);
}

function isChosen(job: Job | undefined, choice: RedriveChoice): boolean {
  return (
    (choice.rule === undefined || job?.rule === choice.rule) && (choice.run === undefined || job?.run === choice.run)
  );
}
