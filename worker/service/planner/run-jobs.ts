import { formatRepository } from '../../oci/reference.ts';
import { parseLocation, withoutTransport } from '../../oci/location.ts';
import { fingerprintOf } from '../../queue/fingerprint.ts';
import {
  formatJob,
  jobId,
  parseMessage,
  type BackupStoreJob,
  type CopyJob,
  type Job,
  type ParsedMessage,
  type PlanJob,
  type PublishJob,
  type SettingsJob,
  type VerifyJob,
} from '../../queue/job.ts';
import type { Message } from '../../queue/queue.ts';
import type { JobRecord, NewJob, Run } from '../../state/state.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import type { Report } from '../../util/events.ts';
import { describeFailure, isFailure } from '../../util/failure.ts';
import type { Service } from '../service.ts';
import { isAfter, mayHaveAfter, nameOf, planJobOf } from './plan-jobs.ts';

/** A longer message, as settings of repositories can make it, is not kept to be sent again: every job would pay for it. */
const MAX_KEPT_BODY = 16 * 1024;

/** A job as the state keeps it, without the body of a long message, and as it is sent. */
export function newJob(
  job: Job,
  shown: Pick<NewJob, 'title' | 'fault' | 'unreferenced'>,
): { readonly record: NewJob; readonly message: Message } {
  const { id, rule } = job;
  const body = formatJob(job);
  const kept = body.length > MAX_KEPT_BODY ? undefined : body;
  return { record: { ...shown, id, rule, body: kept, fingerprint: fingerprintOf(job) }, message: { body } };
}

/** A job that planning makes, and what people read of it. */
interface PlannedJob extends Pick<NewJob, 'title' | 'fault' | 'unreferenced'> {
  readonly job: CopyJob | BackupStoreJob | SettingsJob | PublishJob | VerifyJob | PlanJob;
  /** The size of the image that the job copies. Absent: it is not known. */
  readonly bytes?: number | undefined;
}

/** What planning has found out so far. */
export interface Tally {
  /** Images to copy. */
  readonly jobs: number;
  /** Images that need nothing. */
  readonly unchanged: number;
  /** Those of `unchanged` that rest on the record alone: one of their destinations could not be looked at. */
  readonly unseen: number;
  /** Repositories and images that could not be looked at: each is a failed job of the run. */
  readonly failed: number;
}

export interface RunJobsOptions {
  readonly rule: string;
  readonly run: Pick<Run, 'id' | 'startedAtMs'>;
  /** Whether the run was planned before, at least in part: then some of its jobs may be known and not sent. */
  readonly again: boolean;
  readonly report?: Report | undefined;
}

/** The jobs of one run while it is planned. Each is made known first and sent then, so that a crash in between loses none. */
export class RunJobs {
  readonly #service: Service;
  readonly #options: RunJobsOptions;
  readonly #tally = { jobs: 0, unchanged: 0, unseen: 0, failed: 0 };
  /** Ids of the jobs of this planning; kept only for a run that is planned again. */
  readonly #sent: Set<string> | undefined;

  constructor(service: Service, options: RunJobsOptions) {
    this.#service = service;
    this.#options = options;
    this.#sent = options.again ? new Set() : undefined;
  }

  get tally(): Tally {
    return { ...this.#tally };
  }

  /** Makes jobs known and sends them, and counts how many other images of the batch need nothing. */
  async add(
    jobs: readonly PlannedJob[],
    others: Pick<Tally, 'unchanged' | 'unseen'>,
    options: Abortable,
  ): Promise<void> {
    await this.#send(jobs, options);
    if (others.unchanged > 0) await this.#service.state.runs.addUnchanged(this.#options.run.id, others, options);
    this.#tally.jobs += jobs.length;
    this.#tally.unchanged += others.unchanged;
    this.#tally.unseen += others.unseen;
  }

  /**
   * A source or an image that cannot be looked at becomes a failed job, so that the run is not a good one. Throws failures of the state and
   * the queue, without which nothing can be planned, and bugs.
   */
  async fail(title: string, error: unknown, options: Abortable): Promise<void> {
    checkAborted(options);
    if (!isFailure(error) || error.code === 'BUG' || error.context.side === undefined) throw error;
    const { rule, run, report } = this.#options;
    const { code } = error;
    const message = describeFailure(error);
    const id = jobId(run.id, title);
    report?.({ type: 'rule-failed', rule, code, message: `${title}: ${message}` });
    await this.#addFailed({ id, title }, code, message, options);
    this.#tally.failed++;
  }

  /**
   * Leaves a job to an earlier run that still retries it. It is recorded as a failed job of this run: the image is not where it has to be, so
   * the run is not a good one.
   */
  async leave(
    { job: { id }, title, fault }: PlannedJob,
    { run, attempts, code = 'UNAVAILABLE', reason = '' }: JobRecord,
    options: Abortable,
  ): Promise<void> {
    const why = `the run ${run} goes on trying after attempt ${attempts}: ${reason}`;
    await this.#addFailed({ id, title, fault }, code, why, options);
    this.#sent?.add(id);
  }

  async #addFailed(
    job: Pick<JobRecord, 'id' | 'title' | 'fault'>,
    code: string,
    reason: string,
    options: Abortable,
  ): Promise<void> {
    const { rule, run } = this.#options;
    const { runs } = this.#service.state;
    const open = await runs.addJobs(run.id, [{ ...job, rule, failed: { code, reason } }], options);
    // an earlier planning of the run made it known
    if (open.has(job.id)) await runs.endJob(run.id, job.id, { state: 'failed', code, reason }, options);
  }

  /**
   * Sends waiting jobs of images after `after` that an earlier planning of the run made known and this one did not make: meanwhile another
   * run has done what they were for, or their image is gone. Their messages may never have been sent.
   */
  async sendForgotten(after: PlanJob['after'], options: Abortable): Promise<void> {
    const sent = this.#sent;
    if (sent === undefined) return;
    const { state, queue } = this.#service;
    const forgotten: { readonly body: string }[] = [];
    const waiting = state.runs.jobs(this.#options.run.id, { state: 'waiting', signal: options.signal });
    for await (const { id, body } of waiting)
      if (body !== undefined && !sent.has(id) && isForImageAfter(body, after)) forgotten.push({ body });
    if (forgotten.length > 0) await queue.send(forgotten, options);
  }

  /**
   * Sends the job that goes on with planning after `after`. False when that job exists and has ended: it has failed, which the run counts, or
   * the run would be planned.
   */
  async handOn(after: PlanJob['after'], options: Abortable): Promise<boolean> {
    const { rule, run } = this.#options;
    const job = planJobOf({ rule, run, after });
    const open = await this.#send([{ job, title: `plan ${rule} after ${after.repository}` }], options);
    return open.has(job.id);
  }

  /** Makes jobs known, then sends those that have not ended, and returns their ids. */
  async #send(jobs: readonly PlannedJob[], options: Abortable): Promise<ReadonlySet<string>> {
    if (jobs.length === 0) return new Set();
    const { aboveBytes = Infinity } = this.#service.large ?? {};
    const made = jobs.map(({ job, bytes = 0, ...shown }) =>
      newJob(bytes > aboveBytes ? { ...job, large: true } : job, shown),
    );
    const records = made.map(({ record }) => record);
    const open = await this.#service.state.runs.addJobs(this.#options.run.id, records, options);
    const sent = made.filter(({ record }) => open.has(record.id)).map(({ message }) => message);
    if (sent.length > 0) await this.#service.queue.send(sent, options);
    for (const { id } of records) this.#sent?.add(id);
    return open;
  }
}

/**
 * Whether the message asks for a copy of an image after `after`, or for the settings of a repository that may have such images. What cannot be
 * read is for a worker to refuse.
 */
function isForImageAfter(body: string, after: PlanJob['after']): boolean {
  let message: ParsedMessage;
  try {
    message = parseMessage(body);
  } catch {
    return true;
  }
  if (message.type === 'job' && message.job.kind === 'settings')
    return mayHaveAfter(after, withoutTransport(message.job.from));
  // they are not images, and planned before all of them
  if (message.type === 'job' && ['publish', 'backup-store', 'verify'].includes(message.job.kind)) return true;
  if (message.type !== 'job' || (message.job.kind !== 'mirror' && message.job.kind !== 'backup')) return false;
  const from = parseLocation(message.job.from);
  if (from.transport !== 'docker') return false;
  const { tag, digest } = from.reference;
  return isAfter(after, formatRepository(from.reference), nameOf({ tag, digest }));
}
