import { formatJob, type Job, type PlanJob } from '../../queue/job.ts';
import type { Delivery, Outcome } from '../../queue/queue.ts';
import { MAX_ATTEMPTS, mayPass, retryLater, isTooOld, replace, waitSeconds } from '../../queue/redelivery.ts';
import { titleOf as copyTitle } from '../planner/plan-jobs.ts';
import { aborted, anyOf, type Abortable } from '../../util/abort.ts';
import { describeFailure, Failure, isFailure, toFailure } from '../../util/failure.ts';
import type { JobName, Report } from '../../util/events.ts';
import type { Backends, OperationOptions } from '../../images/backends.ts';
import { acquireLeases, LEASE_SECONDS, type LeasedDestination, type JobLeases, type JobDestination } from './leases.ts';
import { continuePlan } from '../planner/plan-scheduled.ts';
import { keptBody } from '../planner/run-jobs.ts';
import { destinationsOfJob, runJob, type RunJobOptions } from './run-job.ts';
import type { WorkContext } from './work-context.ts';

const DONE: Outcome = { type: 'done' };

/** Handles one delivery of a job, from its leases to the outcome of its message. */
export class JobDelivery {
  readonly #delivery: Delivery;
  readonly #context: WorkContext;
  readonly #job: Job;
  readonly #name: JobName;
  readonly #report: Report;
  /** Fires when the worker stops, or the message can no longer be extended. */
  readonly #signal: AbortSignal;

  constructor(delivery: Delivery, context: WorkContext, job: Job, options: { readonly signal: AbortSignal }) {
    this.#delivery = delivery;
    this.#context = context;
    this.#job = job;
    this.#name = { kind: job.kind, id: job.id, run: job.run, rule: job.rule, title: titleOf(job) };
    this.#report = context.reportOf(this.#name);
    this.#signal = options.signal;
  }

  /** Does the job, or hands it back. Its failures become outcomes; failures of the state, the queues and the access to registries are thrown. */
  async run(): Promise<Outcome> {
    const { backends } = this.#context;
    if (isTooOld(this.#signal)) return this.#replace();
    const job = this.#job;
    if (job.kind === 'plan')
      return this.#withLeases([], async (_, taskOptions) => goOnPlanning(job, this.#context, taskOptions));
    const useBackends = async (reachable: Backends): Promise<Outcome> => {
      const destinations = await orFailure(destinationsOfJob(job, reachable, this.#options(this.#signal)));
      return this.#withLeases(isFailure(destinations) ? [] : destinations, async (leased, taskOptions) => {
        if (isFailure(destinations)) throw destinations;
        return runJob(job, leased, reachable, taskOptions);
      });
    };
    return backends.use(useBackends, { signal: this.#signal });
  }

  /** Runs `task` with the leases of the job, unless another worker has one of them or the job has ended. */
  async #withLeases(destinations: readonly JobDestination[], task: Task): Promise<Outcome> {
    const { state } = this.#context.service;
    const options = { signal: this.#signal };
    const taken = await orFailure(
      acquireLeases(this.#job.id, destinations, state, { ...options, leaseSeconds: this.#context.leaseSeconds }),
    );
    if (isFailure(taken)) {
      // a name that no table takes
      if (taken.code !== 'INVALID' || destinations.length === 0) throw taken;
      return this.#withLeases([], async () => Promise.reject(taken));
    }
    await using leases = taken;
    if (leases === undefined) {
      this.#handedBack('another writes to the same destination');
      // most copies are short: soon at first, then every half a lease, and half of that more by chance
      const { leaseSeconds = LEASE_SECONDS, clock } = this.#context;
      return await this.#retryLater(
        Math.min(leaseSeconds / 2, 2 ** this.#delivery.receiveCount) * (1 + clock.random() / 2),
      );
    }
    const attempt = await begin(this.#job, this.#context, options);
    // it has ended: this is a duplicate
    if (attempt === undefined) return DONE;
    return attempt > MAX_ATTEMPTS
      ? await this.#deadLetter(crashedTooOften(), 0)
      : await this.#attempt(attempt, leases, task);
  }

  async #attempt(attempt: number, leases: JobLeases, task: Task): Promise<Outcome> {
    const { clock, service } = this.#context;
    const job = this.#name;
    const startedMs = clock.now();
    this.#report({ type: 'job-started', job, attempt, waitedMs: Math.max(0, startedMs - this.#delivery.sentAtMs) });
    let done: Done;
    try {
      const { destinations, rules } = service.state;
      const parts = { ...this.#options(anyOf(this.#signal, leases.signal)), destinations, rules };
      done = await task(leases.destinations, parts);
    } catch (error) {
      if (this.#signal.aborted) return this.#giveBack();
      const failure = toFailure(error);
      const isRetryable = mayPass(failure) || leases.signal?.aborted === true;
      const durationMs = clock.now() - startedMs;
      return isRetryable && attempt < MAX_ATTEMPTS
        ? this.#retry(attempt, failure, durationMs)
        : this.#deadLetter(failure, durationMs);
    }
    const { unchanged } = done;
    await service.state.runs.endJob(job.run, job.id, { state: unchanged ? 'skipped' : 'done' });
    this.#report({ type: 'job-done', job, durationMs: clock.now() - startedMs, unchanged });
    return DONE;
  }

  async #retry(attempt: number, failure: Failure, durationMs: number): Promise<Outcome> {
    const { code } = failure;
    const message = describeFailure(failure);
    const job = this.#name;
    await this.#context.service.state.runs.retryJob(job.run, job.id, { code, reason: message });
    this.#report({ type: 'job-failed', job, durationMs, code, message, again: true });
    return this.#retryLater(waitSeconds(attempt, failure, this.#context.clock));
  }

  /** Sends the dead letter, then ends the job: after a crash in between the job is dead-lettered twice rather than lost. */
  async #deadLetter(failure: Failure, durationMs: number): Promise<Outcome> {
    const { code } = failure;
    const message = describeFailure(failure);
    const job = this.#name;
    const { deadLetters, state } = this.#context.service;
    await deadLetters.send([{ body: formatJob(this.#job), reason: deadLetterReason(failure) }]);
    await state.runs.endJob(job.run, job.id, { state: 'failed', code, reason: message });
    this.#report({ type: 'job-failed', job, durationMs, code, message, again: false });
    return DONE;
  }

  /** Hands the job back. What it did so far is at its destinations: uploads go on where they were. */
  async #giveBack(): Promise<Outcome> {
    await this.#context.service.state.runs.giveBackJob(this.#job.run, this.#job.id);
    this.#handedBack(aborted(this.#signal).message);
    return isTooOld(this.#signal) ? this.#replace() : { type: 'again', seconds: 0 };
  }

  async #retryLater(seconds: number): Promise<Outcome> {
    return retryLater(this.#delivery, this.#next(), seconds, this.#context.service.queue);
  }

  async #replace(): Promise<Outcome> {
    return replace(this.#next(), 0, this.#context.service.queue);
  }

  /** The body of the message that replaces this one. */
  #next(): string {
    return formatJob({ ...this.#job, handovers: (this.#job.handovers ?? 0) + 1 });
  }

  #handedBack(message: string): void {
    this.#report({ type: 'job-handed-back', job: this.#name, message });
  }

  #options(signal: AbortSignal): OperationOptions & { readonly signal: AbortSignal; readonly report: Report } {
    const { clock, concurrency } = this.#context;
    return { clock, concurrency, report: this.#report, signal };
  }
}

type Task = (
  destinations: readonly LeasedDestination[],
  options: RunJobOptions & { readonly signal: AbortSignal; readonly report: Report },
) => Promise<Done>;

interface Done {
  /** Whether nothing was needed. */
  readonly unchanged: boolean;
}

function crashedTooOften(): Failure {
  return new Failure('UNAVAILABLE', `${MAX_ATTEMPTS} workers crashed or were stopped while running this job`);
}

/** The reason that a dead letter carries: the code and the whole sentence of its failure. */
export function deadLetterReason(failure: Failure): string {
  return `${failure.code}: ${describeFailure(failure)}`;
}

/** Which attempt it is. Undefined when the job has ended. */
async function begin(job: Job, context: WorkContext, options: Abortable): Promise<number | undefined> {
  const { runs } = context.service.state;
  try {
    return await runs.startJob(job.run, job.id, options);
  } catch (error) {
    if (!isFailure(error, 'NOT_FOUND')) throw error;
    await makeKnown(job, context, options);
    return runs.startJob(job.run, job.id, options);
  }
}

/** Makes a job known that no planner made: the state knows all others before they are sent. `whole` as in `NewRun`. Idempotent. */
export async function makeKnown(
  job: Job,
  context: WorkContext,
  options: Abortable & { readonly whole?: boolean },
): Promise<void> {
  const { runs } = context.service.state;
  const run = await runs.begin({ id: job.run, rule: job.rule, trigger: 'request', whole: options.whole }, options);
  await runs.addJobs(
    job.run,
    [{ id: job.id, title: titleOf(job), rule: job.rule, body: keptBody(formatJob(job)) }],
    options,
  );
  // planning it ends with the last of its jobs
  if (job.kind !== 'plan' && run.trigger === 'request') await runs.planned(job.run, options);
}

async function goOnPlanning(
  job: PlanJob,
  context: WorkContext,
  options: OperationOptions & { readonly report: Report },
): Promise<Done> {
  const planned = await continuePlan(job, context.service, context.backends, {
    ...options,
    lockSeconds: context.leaseSeconds,
    lookEveryHours: context.lookEveryHours,
  });
  if (planned === undefined) throw new Failure('UNAVAILABLE', `plan ${job.rule}: another plans the run at this moment`);
  return { unchanged: false };
}

async function orFailure<T>(work: T | Promise<T>): Promise<T | Failure> {
  try {
    return await work;
  } catch (error) {
    return toFailure(error);
  }
}

function titleOf(job: Job): string {
  switch (job.kind) {
    case 'mirror':
    case 'backup':
      return copyTitle(job);
    case 'restore':
      return copyTitle({ from: job.from, to: [job.to] });
    case 'verify':
      return job.against === undefined ? `verify ${job.from}` : `verify ${job.from} against ${job.against}`;
    case 'settings':
      return copyTitle({ from: `settings of ${job.from}`, to: [job.to] });
    case 'plan':
      return `plan ${job.rule}`;
    default:
      return job satisfies never;
  }
}
