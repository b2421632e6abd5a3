import { formatReference, formatRepository, isRepositoryName, type Repository } from '../../oci/reference.ts';
import { formatJob, jobId, parseMessage, type CopyJob, type ParsedMessage, type PlanJob } from '../../queue/job.ts';
import { destinationsOf, type Destination } from '../../rules/destinations.ts';
import {
  behind,
  FROM_THE_START,
  isBehind,
  mayBeBehind,
  nameOf,
  planJobId,
  planJobs,
  referenceOf,
  titleOf,
  type JobPlan,
  type Known,
  type SourceImage,
  type SourceImages,
} from './plan-jobs.ts';
import { matchesPattern, parseLocation } from '../../oci/location.ts';
import { parseRule } from '../../rules/config.ts';
import { isCopyRule, notExecuted, type Candidate, type CopyRule } from '../../rules/rule.ts';
import { formatSource, sourcesOf } from '../../rules/sources.ts';
import type { Run } from '../../state/state.ts';
import { anyOf, checkAborted, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { deadline } from '../../util/deadline.ts';
import { atSide, Failure, isFailure } from '../../util/failure.ts';
import { quote } from '../../util/text.ts';
import type { Report } from '../../util/events.ts';
import type { BackendPool } from '../backend-pool.ts';
import { DestinationsNow } from './destinations-now.ts';
import type { Backends } from '../../images/backends.ts';
import { DestinationOwners } from '../destination-owner.ts';
import type { Service } from '../service.ts';
import { withoutRefused } from './refused-jobs.ts';
import { listSource, type Pushed, type SourceList } from './list-source.ts';

export interface PlanRequest {
  readonly rule: CopyRule;
  readonly run: Pick<Run, 'id' | 'startedAtMs'>;
  /** Goes on behind this image. */
  readonly after?: PlanJob['after'] | undefined;
  /** Only this repository, which the rule must name: something was pushed there. */
  readonly only?: (Repository & { readonly pushed: Pushed }) | undefined;
}

export interface PlanOptions extends Abortable {
  readonly clock: Clock;
  readonly report?: Report | undefined;
  /**
   * When to leave the rest to a worker, in milliseconds since 1970. Default: never. What is under way by then has a little longer, and is
   * broken off: a registry that does not answer holds up no other rule. Who goes on behind an image gets further, late or not.
   */
  readonly untilMs?: number | undefined;
  /** How long a run stays that of a planner which died: not longer than the message that brings the next one. Default 60. */
  readonly lockSeconds?: number | undefined;
}

export interface PlanResult {
  /** Images to copy. */
  readonly jobs: number;
  /** Images that need nothing. */
  readonly unchanged: number;
  /** Repositories and images that nobody could look at: each is a failed job of the run. */
  readonly failed: number;
  /** Whether a worker plans the rest. */
  readonly continued: boolean;
}

/** Images that are compared, made known and sent at once; between them the time is looked at. */
const BATCH = 500;
const LOCK_SECONDS = 60;
/** A longer message, as settings of repositories may make it, is not kept for the case that it is lost: every job would pay for it. */
const MAX_KEPT_BODY = 16 * 1024;

/** A message as the state keeps it with its job. */
export function keptBody(body: string): string | undefined {
  return body.length > MAX_KEPT_BODY ? undefined : body;
}

/** What is under way when it is late ends within this time, or is broken off. */
const ENDING_MS = 15_000;
/** Repositories of a registry that fail in a row, until the others are not asked any more: it is away. */
const MAX_FAILURES = 3;

/**
 * Plans a run: lists what the rule names, compares it with what is remembered and there, and makes a job known and sends it for each image
 * that is not everywhere yet. A repository that cannot be listed is a failed job of the run; the others go on. The run is told when all of it
 * is planned. Undefined when another is planning the run.
 *
 * Safe to repeat, from the start and after any crash: the same jobs are made, those that ended are not sent again, the others are. Only
 * the count of unchanged images is then too high. Memory is that of the largest repository.
 */
export async function planRule(
  request: PlanRequest,
  service: Service,
  backends: Backends,
  options: PlanOptions,
): Promise<PlanResult | undefined> {
  await using lease = await service.state.lock(`plan/${request.run.id}`, options.lockSeconds ?? LOCK_SECONDS, options);
  if (lease === undefined) return undefined;
  const signal = anyOf(options.signal, lease.signal);
  const { runs } = service.state;
  const { id: run } = request.run;
  const { name: rule } = request.rule;
  const before = await runs.get(run, { signal });
  if (before?.plannedAtMs !== undefined || before?.endedAtMs !== undefined) return NOTHING_LEFT;
  const again = before !== undefined && before.jobs.waiting > 0;
  const result = await plan({ ...request, again }, service, backends, { ...options, signal });
  const { jobs, unchanged, continued } = result;
  options.report?.({ type: 'run-planned', run, rule, jobs, unchanged, continued });
  return result;
}

async function plan(
  request: PlanRequest & { readonly again: boolean },
  service: Service,
  backends: Backends,
  options: PlanOptions & { readonly signal: AbortSignal },
): Promise<PlanResult> {
  const { untilMs = Infinity, clock, signal } = options;
  if (untilMs === Infinity || request.after !== undefined || request.only !== undefined)
    return new RunPlanner(request, service, backends, options, signal).plan();
  const late = (): Failure => new Failure('ABORTED', `plan run ${request.run.id}: the time for it is over`);
  await using end = deadline(Math.max(0, untilMs - clock.now()) + ENDING_MS, late, clock);
  return await new RunPlanner(request, service, backends, options, anyOf(signal, end.signal)).plan();
}

const NOTHING_LEFT: PlanResult = { jobs: 0, unchanged: 0, failed: 0, continued: false };

/** Does a job that goes on with planning. As `planRule`. NOT_FOUND without the rule or the run. */
export async function continuePlan(
  job: PlanJob,
  service: Service,
  backends: Pick<BackendPool, 'use'>,
  options: PlanOptions,
): Promise<PlanResult | undefined> {
  const { runs } = service.state;
  const run = await runs.get(job.run, options);
  if (run === undefined) throw new Failure('NOT_FOUND', `plan ${job.rule}: there is no run ${job.run}`);
  let rule: CopyRule;
  try {
    rule = await readRule(job.rule, service, options);
  } catch (error) {
    // nobody will plan the rest: the run ends with what there is
    if (isFailure(error, 'NOT_FOUND', 'INVALID', 'UNSUPPORTED')) await runs.planned(job.run, options);
    throw error;
  }
  return backends.use(async (opened) => planRule({ rule, run, after: job.after }, service, opened, options), options);
}

/** A rule as it is stored now. NOT_FOUND without it, UNSUPPORTED for one that is not executed. */
export async function readRule(name: string, { state }: Service, options: Abortable): Promise<CopyRule> {
  const stored = (await state.rules.list(options)).find((rule) => rule.name === name);
  if (stored === undefined)
    throw new Failure('NOT_FOUND', `there is no rule ${quote(name)}: see \`transship rules list\``);
  const rule = parseRule(stored.document);
  if (!isCopyRule(rule)) throw notExecuted(rule);
  return rule;
}

class RunPlanner {
  readonly #rule: CopyRule;
  readonly #run: PlanRequest['run'];
  readonly #after: PlanJob['after'];
  readonly #only: PlanRequest['only'];
  /** The jobs that were sent, where others may have been made known before that were not. */
  readonly #sent: Set<string> | undefined;
  readonly #service: Service;
  readonly #backends: Backends;
  /** For what ends the planning. */
  readonly #whole: PlanOptions;
  /** For what is broken off when it is late. */
  readonly #options: PlanOptions & { readonly signal: AbortSignal };
  readonly #destinations: DestinationsNow;
  readonly #owners: DestinationOwners;
  readonly #tally = { jobs: 0, unchanged: 0, failed: 0 };
  /** Images up to this one are planned; undefined: not even the first of those that are to be planned here. */
  #reached: PlanJob['after'] | undefined;

  constructor(
    { rule, run, after, only, again }: PlanRequest & { readonly again: boolean },
    service: Service,
    backends: Backends,
    options: PlanOptions,
    /** Fires with that of `options`, and when it is late. */
    signal: AbortSignal,
  ) {
    this.#rule = rule;
    this.#run = run;
    this.#after = after ?? FROM_THE_START;
    this.#reached = after === undefined ? FROM_THE_START : undefined;
    this.#only = only;
    this.#sent = again ? new Set() : undefined;
    this.#service = service;
    this.#backends = backends;
    this.#whole = options;
    this.#options = { ...options, signal };
    this.#destinations = new DestinationsNow(service.state, backends, options.report);
    this.#owners = new DestinationOwners(service.state.rules, options.clock);
  }

  async plan(): Promise<PlanResult> {
    const left = await this.#planUntilLate();
    await this.#sendForgotten();
    const continued = left !== undefined && (await this.#handOn(left));
    if (!continued) await this.#service.state.runs.planned(this.#run.id, this.#whole);
    return { ...this.#tally, continued };
  }

  /**
   * Jobs that somebody made known who planned the same before, and that are not made any more: meanwhile another run has done what they were
   * for, or their image is gone. Their messages may never have been sent, and nobody else would.
   */
  async #sendForgotten(): Promise<void> {
    const sent = this.#sent;
    if (sent === undefined) return;
    const { state, queue } = this.#service;
    const { signal } = this.#whole;
    const forgotten: { readonly body: string }[] = [];
    for await (const { id, body } of state.runs.jobs(this.#run.id, { state: 'waiting', signal }))
      if (body !== undefined && !sent.has(id) && isBehindIn(body, this.#after)) forgotten.push({ body });
    if (forgotten.length > 0) await queue.send(forgotten, this.#whole);
  }

  async #planUntilLate(): Promise<PlanJob['after'] | undefined> {
    try {
      return await this.#planRepositories();
    } catch (error) {
      checkAborted(this.#whole);
      if (!this.#options.signal.aborted || this.#reached === undefined) throw error;
      const { name } = this.#rule;
      this.#warn(`rule ${name}: not all that it names answered in time; a worker goes on`);
      return this.#reached;
    }
  }

  /** Returns behind which image somebody has to go on. */
  async #planRepositories(): Promise<PlanJob['after'] | undefined> {
    if (this.#reached !== undefined && this.#isLate()) return this.#reached;
    const away = new Map<string, { readonly times: number; readonly error: unknown }>();
    for (const { registry, repository } of await this.#repositories()) {
      const name = formatRepository({ registry, repository });
      if (!mayBeBehind(this.#after, name)) continue;
      if (this.#reached !== undefined && this.#isLate()) return this.#reached;
      const before = away.get(registry);
      try {
        if (before !== undefined && before.times >= MAX_FAILURES) throw before.error;
        const left = await this.#planRepository({ registry, repository });
        if (left !== undefined) return { repository: name, name: left };
        away.delete(registry);
      } catch (error) {
        await this.#fail(`list docker://${name}`, error);
        if (isFailure(error) && error.retryable) away.set(registry, { times: (before?.times ?? 0) + 1, error });
      }
      this.#reached = behind(name);
    }
    return undefined;
  }

  async #repositories(): Promise<readonly Repository[]> {
    if (this.#only !== undefined) return [this.#only];
    const found = new Map<string, Repository>();
    const add = (one: Repository): void => void found.set(formatRepository(one), one);
    for (const { registry, pattern, prefix } of sourcesOf(this.#rule)) {
      if (!pattern.includes('*')) {
        add({ registry, repository: pattern });
        continue;
      }
      try {
        const names = this.#backends.registry(registry, 'source').repositories(prefix, this.#options);
        for await (const repository of names) {
          if (!matchesPattern(pattern, repository)) continue;
          // it becomes part of a name or key
          if (isRepositoryName(repository)) add({ registry, repository });
          else this.#warn(`${registry} lists ${quote(repository)}, which cannot be a repository: it is left out`);
        }
      } catch (error) {
        await this.#fail(`list docker://${formatSource({ registry, pattern, prefix })}`, atSide('source', error));
      }
    }
    return [...found.entries()].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
  }

  /** Returns the last name planned, where there are more for somebody to go on with. */
  async #planRepository({ registry, repository }: Repository): Promise<string | undefined> {
    const { startedAtMs } = this.#run;
    const name = formatRepository({ registry, repository });
    const list = await listSource(this.#rule, this.#backends.registry(registry, 'source'), repository, startedAtMs, {
      ...this.#options,
      pushed: this.#only?.pushed,
    });
    if (list.archived > 0 && isBehind(this.#after, name, ''))
      this.#warn(`${name}: ${list.archived} images are archived and cannot be pulled; they are left out`);
    const candidates = list.selected.filter((candidate) => isBehind(this.#after, name, nameOf(candidate)));
    for (let index = 0; index < candidates.length; index += BATCH) {
      const batch = candidates.slice(index, index + BATCH);
      await this.#planBatch({ registry, repository }, list, batch);
      const last = batch.at(-1);
      if (last === undefined || index + BATCH >= candidates.length) continue;
      this.#reached = { repository: name, name: nameOf(last) };
      if (this.#isLate()) return nameOf(last);
    }
    return undefined;
  }

  async #planBatch(from: Repository, list: SourceList, batch: readonly Candidate[]): Promise<void> {
    const resolved = await list.resolve(batch, this.#options);
    for (const { candidate, failure } of resolved.failed)
      await this.#fail(`read docker://${formatRepository(from)}:${nameOf(candidate)}`, failure);
    const wanted: Destination[] = [];
    const images: SourceImage[] = [];
    for (const image of resolved.images) {
      const reference = referenceOf(from.registry, from.repository, image);
      try {
        wanted.push(...destinationsOf(this.#rule, reference, image.digest, this.#run.startedAtMs));
        images.push(image);
      } catch (error) {
        // the name that a template makes of this one cannot be
        await this.#fail(`plan docker://${formatReference(reference)}`, atSide('target', error));
      }
    }
    const { jobs, unchanged } = await this.#compare(from, list, images, wanted);
    await this.#send(
      jobs.map((job) => ({ job, title: titleOf(job) })),
      this.#options,
    );
    if (unchanged > 0) await this.#service.state.runs.addUnchanged(this.#run.id, unchanged, this.#options);
    this.#tally.jobs += jobs.length;
    this.#tally.unchanged += unchanged;
  }

  async #compare(
    { registry, repository }: Repository,
    list: SourceList,
    images: readonly SourceImage[],
    wanted: readonly Destination[],
  ): Promise<JobPlan> {
    const rule = this.#rule;
    const { id: run, startedAtMs } = this.#run;
    const record = await this.#destinations.records(wanted, this.#options);
    const remembered = wanted.filter((key) => record(key) !== undefined);
    // to look for what is gone is the schedule's affair
    const presence: Known['presence'] =
      this.#only === undefined ? await this.#destinations.presences(remembered, this.#options) : () => 'there';
    const came = new Set(remembered.flatMap((key) => record(key)?.manifests ?? []));
    const referrers = rule.referrers
      ? await list.referrers((subject) => came.has(subject), this.#options)
      : new Map<string, readonly string[]>();
    const from: SourceImages = { rule, run, startedAtMs, registry, repository, images };
    const planned = planJobs(from, { record, presence, referrers });
    const { jobs, refused } = await withoutRefused(planned.jobs, record, this.#owners, this.#options);
    for (const { title, failure } of refused) await this.#fail(title, failure);
    return { ...planned, jobs };
  }

  /** Makes jobs known, then sends those that have not ended. Returns them. */
  async #send(
    jobs: readonly { readonly job: CopyJob | PlanJob; readonly title: string }[],
    options: Abortable,
  ): Promise<ReadonlySet<string>> {
    if (jobs.length === 0) return new Set();
    const messages = jobs.map(({ job, title }) => ({ id: job.id, title, rule: job.rule, body: formatJob(job) }));
    const records = messages.map((message) => ({ ...message, body: keptBody(message.body) }));
    const open = await this.#service.state.runs.addJobs(this.#run.id, records, options);
    const sent = messages.filter(({ id }) => open.has(id)).map(({ body }) => ({ body }));
    if (sent.length > 0) await this.#service.queue.send(sent, options);
    for (const { id } of messages) this.#sent?.add(id);
    return open;
  }

  /** False when somebody went on from there before, and it ended: with a failure, which the run counts, or the run would be planned. */
  async #handOn(after: PlanJob['after']): Promise<boolean> {
    const { id: run, startedAtMs } = this.#run;
    const { name: rule } = this.#rule;
    const at = new Date(startedAtMs).toISOString();
    const job: PlanJob = { version: 1, kind: 'plan', id: planJobId(run, after), run, rule, at, after };
    const open = await this.#send([{ job, title: `plan ${rule} behind ${after.repository}` }], this.#whole);
    return open.has(job.id);
  }

  /** What could not be looked at is a failed job, so that the run is not a good one. */
  async #fail(title: string, error: unknown): Promise<void> {
    checkAborted(this.#options);
    // of the state or the queue: nothing can be planned without them
    if (!isFailure(error) || error.code === 'BUG' || error.context.side === undefined) throw error;
    // the event of a push comes again
    if (this.#only !== undefined && error.retryable) throw error;
    const { id: run } = this.#run;
    const { runs } = this.#service.state;
    const { code, message } = error;
    const id = jobId(run, title);
    this.#options.report?.({ type: 'rule-failed', rule: this.#rule.name, code, message: `${title}: ${message}` });
    const open = await runs.addJobs(run, [{ id, title, rule: this.#rule.name }], this.#options);
    if (open.has(id)) await runs.endJob(run, id, { state: 'failed', code, reason: message }, this.#options);
    this.#tally.failed++;
  }

  #isLate(): boolean {
    return (
      this.#options.untilMs !== undefined &&
      this.#only === undefined &&
      this.#options.clock.now() >= this.#options.untilMs
    );
  }

  #warn(message: string): void {
    this.#options.report?.({ type: 'warning', message });
  }
}

/** Whether the message asks for a copy of an image behind `after`. What cannot be read is for a worker to refuse. */
function isBehindIn(body: string, after: PlanJob['after']): boolean {
  let message: ParsedMessage;
  try {
    message = parseMessage(body);
  } catch {
    return true;
  }
  if (message.type !== 'job' || (message.job.kind !== 'mirror' && message.job.kind !== 'backup')) return false;
  const from = parseLocation(message.job.from);
  if (from.transport !== 'docker') return false;
  const { tag, digest } = from.reference;
  return isBehind(after, formatRepository(from.reference), nameOf({ tag, digest }));
}
