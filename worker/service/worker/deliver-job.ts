import { verifyTitle } from '../planner/plan-verify.ts';
import { formatJob, type Job, type PlanJob } from '../../queue/job.ts';
import type { Delivery, Outcome } from '../../queue/queue.ts';
import {
  MAX_ATTEMPTS,
  mayPass,
  retryLater,
  isReplacedNext,
  isTooOld,
  replace,
  waitSeconds,
} from '../../queue/redelivery.ts';
import { titleOf as copyTitle } from '../planner/plan-jobs.ts';
import { aborted, anyOf, type Abortable } from '../../util/abort.ts';
import { describeFailure, Failure, isFailure, toFailure } from '../../util/failure.ts';
import type { Event, JobName, Report } from '../../util/events.ts';
import type { Backends, OperationOptions } from '../../images/backends.ts';
import { failureOfAll, type FailedDestination } from './failed-destinations.ts';
import { acquireLeases, LEASE_SECONDS, type LeasedDestination, type JobLeases, type JobDestination } from './leases.ts';
import { allowedTargets, judgeRequest } from '../judge-request.ts';
import { continuePlan } from '../planner/plan-scheduled.ts';
import { prunedPlace } from '../place-uses.ts';
import { isOver, sendSnapshotsAfter, titleOfMany } from '../planner/plan-many.ts';
import { newJob } from '../planner/run-jobs.ts';
import type { JobTaken } from '../../state/state.ts';
import type { Done, Ended, RunJobOptions } from './job-run.ts';
import { destinationsOfJob, runJob, type ContentJob } from './run-job.ts';
import { sendDeadLetter } from './send-dead-letter.ts';
import type { WorkContext } from './work-context.ts';

const DONE: Outcome = { type: 'done' };

/** A verification that shows no progress is given up after so many messages of twelve hours each. */
const MAX_VERIFY_HANDOVERS = 28;

/** Handles one delivery of a job, from its leases to the outcome of its message. */
export class JobDelivery {
  readonly #delivery: Delivery;
  readonly #context: WorkContext;
  readonly #job: Job;
  readonly #name: JobName;
  readonly #report: Report;
  /** Fires when the worker stops, or the message can no longer be extended. */
  readonly #signal: AbortSignal;
  /** The attempt that this delivery began, until its work begins. */
  #taken: number | undefined;
  #unreferenced = false;

  constructor(delivery: Delivery, context: WorkContext, job: Job, options: { readonly signal: AbortSignal }) {
    this.#delivery = delivery;
    this.#context = context;
    this.#job = job;
    this.#name = { kind: job.kind, id: job.id, run: job.run, rule: job.rule, title: titleOf(job) };
    this.#report = context.reportOf(this.#name);
    this.#signal = options.signal;
  }

  /**
   * Does the job, or hands it back. Its failures become outcomes; failures of the state, the queues and the access to registries are thrown.
   *
   * @param taken the attempt that this delivery began; undefined where another delivery began the job, and may still run it
   */
  async run(taken: TakenJob | undefined): Promise<Outcome> {
    this.#taken = taken?.attempt;
    // by the second attempt the planner's list is out of date
    this.#unreferenced = taken?.attempt === 1 && taken.unreferenced === true;
    try {
      return await this.#run();
    } catch (error) {
      // its work did not begin
      await this.#giveUpAttempt().catch(() => undefined);
      throw error;
    }
  }

  async #run(): Promise<Outcome> {
    const { backends } = this.#context;
    const job = this.#job;
    if (job.kind === 'plan')
      return this.#withLeases([], async (_, taskOptions) => goOnPlanning(job, this.#context, taskOptions));
    // a planner sent it because its message seemed lost: the process that ends the last job of the run sends it again
    if (
      job.kind === 'snapshot' &&
      !(await isOver(job.run, this.#context.service.state.runs, { signal: this.#signal }))
    ) {
      await this.#giveUpAttempt();
      return DONE;
    }
    const judged = await this.#judge(job);
    const useBackends = async (reachable: Backends): Promise<Outcome> => {
      const destinations = isFailure(judged)
        ? judged
        : await orFailure(destinationsOfJob(judged, reachable, this.#options(this.#signal)));
      return this.#withLeases(isFailure(destinations) ? [] : destinations, async (leased, taskOptions) => {
        if (isFailure(judged)) throw judged;
        if (isFailure(destinations)) throw destinations;
        return runJob(judged, leased, reachable, taskOptions);
      });
    };
    return backends.use(useBackends, { signal: this.#signal });
  }

  /** The job as it may be done, or why it may not: of a rule it is as the state has it, a request is judged. */
  async #judge(job: ContentJob): Promise<ContentJob | Failure> {
    if (job.rule !== undefined || job.kind === 'settings' || job.kind === 'snapshot' || job.kind === 'verify')
      return job;
    const targets = await allowedTargets(this.#context.service, { signal: this.#signal });
    try {
      return judgeRequest(job, targets);
    } catch (error) {
      return toFailure(error);
    }
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
      await this.#giveUpAttempt();
      return await this.#waitFor('another worker writes to the same destination');
    }
    const attempt = this.#taken ?? (await state.runs.startJob(this.#job.run, this.#job.id, options));
    // it has ended: this is a duplicate
    if (attempt === undefined) return DONE;
    // after it is marked as running, so that a Cleaner that locks the place later sees it
    const pruned = await prunedPlace(this.#job, state, options);
    if (pruned !== undefined) {
      this.#taken = attempt;
      await this.#giveUpAttempt();
      return await this.#waitFor(`a Cleaner is deleting from ${pruned}`);
    }
    this.#taken = undefined;
    if (attempt <= MAX_ATTEMPTS) return await this.#attempt(attempt, leases, task);
    const failure = crashedTooOften();
    return await this.#deadLetter(failure, failedWith(failure, leases), 0);
  }

  /** Sets the job back to waiting where this delivery began it, but not its work. An attempt that began since is not affected. */
  async #giveUpAttempt(): Promise<void> {
    const attempt = this.#taken;
    this.#taken = undefined;
    if (attempt === undefined) return;
    await this.#context.service.state.runs.giveBackJob(this.#job.run, this.#job.id, { attempt });
  }

  /** Hands the job back while another process is at its places: soon done, since most copies are short, and so is pruning one place. */
  async #waitFor(why: string): Promise<Outcome> {
    const { leaseSeconds = LEASE_SECONDS, clock } = this.#context;
    // soon at first, then every half a lease, and half of that more by chance
    return this.#comeBackIn(
      Math.min(leaseSeconds / 2, 2 ** this.#delivery.receiveCount) * (1 + clock.random() / 2),
      why,
    );
  }

  /** Hands a job back that waits in the state already. */
  async #comeBackIn(seconds: number, why: string): Promise<Outcome> {
    this.#handedBack(why);
    // its message is not lost, however long it waits
    if (isReplacedNext(this.#delivery))
      await this.#context.service.state.runs.resendJob(this.#job.run, this.#job.id, undefined, {
        signal: this.#signal,
      });
    return this.#retryLater(seconds);
  }

  async #attempt(attempt: number, leases: JobLeases, task: Task): Promise<Outcome> {
    const { clock, service, tool = 'transship' } = this.#context;
    const job = this.#name;
    const startedMs = clock.now();
    this.#report({ type: 'job-started', job, attempt, waitedMs: Math.max(0, startedMs - this.#delivery.sentAtMs) });
    // no event shows how far a plan is: its run does. A verification goes on with its next part
    const { kind, handovers = 0 } = this.#job;
    let hasMoved = kind === 'plan' || (kind === 'verify' && handovers < MAX_VERIFY_HANDOVERS);
    const tooLarge = new AbortController();
    const report = (event: Event): void => {
      hasMoved ||= isProgress(event);
      if (isAbove(event, this.#largeAboveBytes)) tooLarge.abort(new Failure('ABORTED', LARGE));
      this.#report(event);
    };
    const { destinations, rules, runs } = service.state;
    const parts = {
      ...this.#options(anyOf(this.#signal, anyOf(leases.signal, tooLarge.signal))),
      report,
      destinations,
      rules,
      runs,
      tool,
      unreferenced: this.#unreferenced,
    };
    const ended = await orFailure(task(leases.destinations, parts));
    const isGivenUp = this.#signal.aborted || leases.signal?.aborted === true;
    if (tooLarge.signal.aborted && isFailure(ended, 'ABORTED') && !isGivenUp) return this.#handToLargeWorker();
    const durationMs = clock.now() - startedMs;
    if (!isFailure(ended) && ended.state === 'waiting') {
      await service.state.runs.giveBackJob(job.run, job.id);
      return this.#comeBackIn(ended.seconds, ended.why);
    }
    if (!isFailure(ended) && ended.state !== 'failed') {
      const { state, bytes, objects } = ended;
      const left = await service.state.runs.endJob(job.run, job.id, { state });
      const [unchanged, gone] = [state === 'skipped', state === 'gone'];
      this.#report({ type: 'job-done', job, durationMs, unchanged, ...(gone ? { gone } : {}), ...bytes, objects });
      await this.#sendSnapshots(left);
      return DONE;
    }
    const isStuck = isTooOld(this.#signal) && !hasMoved;
    if (this.#signal.aborted && !isStuck) return this.#giveBack();
    const ending = isStuck ? stuck(isFailure(ended) ? ended : undefined) : ended;
    const failed = isFailure(ending) ? failedWith(ending, leases) : ending.failed;
    const failure = isFailure(ending) ? ending : failureOfAll(failed, leases.destinations.length);
    const isRetryable = mayPass(failure) || leases.signal?.aborted === true;
    return isRetryable && attempt < MAX_ATTEMPTS
      ? this.#retry(attempt, failure, durationMs)
      : this.#deadLetter(failure, failed, durationMs);
  }

  async #retry(attempt: number, failure: Failure, durationMs: number): Promise<Outcome> {
    const { code } = failure;
    const message = describeFailure(failure);
    const job = this.#name;
    const { clock, service } = this.#context;
    const seconds = waitSeconds(attempt, failure, clock);
    const dueAtMs = clock.now() + seconds * 1000;
    await service.state.runs.retryJob(job.run, job.id, { code, reason: message, dueAtMs });
    this.#report({ type: 'job-failed', job, durationMs, code, message, again: true });
    return isTooOld(this.#signal) ? replace(this.#next(), seconds, service.queue) : this.#retryLater(seconds);
  }

  /** Sends the dead letter, then ends the job: after a crash in between the job is dead-lettered twice rather than lost. */
  async #deadLetter(failure: Failure, failed: readonly FailedDestination[], durationMs: number): Promise<Outcome> {
    const { code } = failure;
    const message = describeFailure(failure);
    const job = this.#name;
    const { clock, service } = this.#context;
    await sendDeadLetter({ job: this.#job, failure, failed }, service, { clock });
    const left = await service.state.runs.endJob(job.run, job.id, { state: 'failed', code, reason: message });
    this.#report({ type: 'job-failed', job, durationMs, code, message, again: false });
    await this.#sendSnapshots(left);
    return DONE;
  }

  /** After the end of a job that may be the last of its run: its snapshots are due then. A planner sends what this worker crashes before. */
  async #sendSnapshots(left: number): Promise<void> {
    const { kind, rule, run } = this.#job;
    // only runs that back up end with snapshots
    const endsWithThem = kind === 'backup' || kind === 'backup-store' || kind === 'settings' || kind === 'plan';
    if (rule !== undefined && endsWithThem) await sendSnapshotsAfter({ run, left }, this.#context.service, {});
  }

  /** Hands the job back. What it did so far is at its destinations: uploads go on where they were. */
  async #giveBack(): Promise<Outcome> {
    await this.#context.service.state.runs.giveBackJob(this.#job.run, this.#job.id);
    this.#handedBack(aborted(this.#signal).message);
    return isTooOld(this.#signal) ? this.replace() : { type: 'again', seconds: 0 };
  }

  /** Hands the job to a large worker. When its message is lost, it is sent again as one for large workers. */
  async #handToLargeWorker(): Promise<Outcome> {
    const { queue, state } = this.#context.service;
    const { record, message } = newJob({ ...this.#job, large: true }, { title: titleOf(this.#job) });
    await state.runs.giveBackJob(this.#job.run, this.#job.id, { body: record.body });
    this.#handedBack(LARGE);
    return replace(message.body, 0, queue);
  }

  /** Infinity for a job that no large worker takes over, and for a large worker itself, which copies whatever it gets. */
  get #largeAboveBytes(): number {
    const { kind, large } = this.#job;
    const isCopy = kind === 'mirror' || kind === 'backup' || kind === 'restore';
    return isCopy && large !== true ? (this.#context.service.large?.aboveBytes ?? Infinity) : Infinity;
  }

  async #retryLater(seconds: number): Promise<Outcome> {
    return retryLater(this.#delivery, this.#next(), seconds, this.#context.service.queue);
  }

  /** Replaces this message with a new one. */
  async replace(): Promise<Outcome> {
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

type TakenJob = Extract<JobTaken, { readonly state: 'taken' }>;

type Task = (
  destinations: readonly LeasedDestination[],
  options: RunJobOptions & { readonly signal: AbortSignal; readonly report: Report },
) => Promise<Ended>;

/** The failure of a job as a whole, at each of its destinations. */
function failedWith(failure: Failure, { destinations }: JobLeases): readonly FailedDestination[] {
  return destinations.map((destination) => ({ destination, failure }));
}

/** Whether content came to a destination: as bytes of a blob, or by a mount or a manifest that was not there. */
function isProgress(event: Event): boolean {
  if (event.type === 'blob-progress') return event.bytes > 0;
  if (event.type === 'object-published') return event.outcome === 'copied';
  return (event.type === 'blob-done' || event.type === 'manifest-done') && /^(?:copied|mounted)$/.test(event.outcome);
}

const LARGE = 'the image is large: a large worker copies it';

/** Whether the event shows that an image has more bytes than `aboveBytes`. */
function isAbove(event: Event, aboveBytes: number): boolean {
  return event.type === 'planned' && event.bytes > aboveBytes;
}

/** Why a job is not simply handed on to a new message: it might be handed on without end. */
function stuck(cause: Failure | undefined): Failure {
  return new Failure('UNAVAILABLE', 'nothing was copied in the twelve hours that a message has', { cause });
}

function crashedTooOften(): Failure {
  return new Failure('UNAVAILABLE', `${MAX_ATTEMPTS} workers crashed or were stopped while running this job`);
}

/** Makes the job of a request known: the state has all others before they are sent. `whole` as in `NewRun`. Idempotent. */
export async function makeKnown(
  job: Job,
  context: WorkContext,
  options: Abortable & { readonly whole?: boolean },
): Promise<void> {
  const { runs } = context.service.state;
  const run = await runs.begin({ id: job.run, rule: job.rule, trigger: 'request', whole: options.whole }, options);
  await runs.addJobs(job.run, [newJob(job, { title: titleOf(job) }).record], options);
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
  if (planned === undefined)
    throw new Failure('UNAVAILABLE', `plan ${job.rule}: another planner is already planning this run`);
  return { state: 'done' };
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
    case 'publish':
      return copyTitle({ from: job.from, to: [job.to] });
    case 'backup-store':
    case 'snapshot':
      return titleOfMany(job);
    case 'verify':
      return verifyTitle(job);
    case 'settings':
      return copyTitle({ from: `settings of ${job.from}`, to: [job.to] });
    case 'plan':
      return `plan ${job.rule}`;
    default:
      return job satisfies never;
  }
}
