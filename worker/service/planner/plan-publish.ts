import type { Backends } from '../../images/backends.ts';
import { listingOf } from '../../images/publish.ts';
import type { Digest } from '../../oci/digest.ts';
import { parseObjectPlace } from '../../oci/object-place.ts';
import { parseRepository } from '../../oci/reference.ts';
import { jobId, type PublishJob } from '../../queue/job.ts';
import { mayPass } from '../../queue/redelivery.ts';
import { choicesKey, publishedAt } from '../../rules/destinations.ts';
import type { PublishRule } from '../../rules/rule.ts';
import type { Run, StateStore, SyncRecord } from '../../state/state.ts';
import { anyOf, checkAborted, type Abortable } from '../../util/abort.ts';
import { deadline } from '../../util/deadline.ts';
import { describeFailure, Failure, ifFound, isFailure, onSide } from '../../util/failure.ts';
import { DestinationOwners } from '../destination-owner.ts';
import type { Service } from '../service.ts';
import { titleOf } from './plan-jobs.ts';
import { planRun, type PlanOptions, type PlanResult } from './plan-run.ts';
import { Retries } from './retries.ts';
import type { RunJobs } from './run-jobs.ts';
import { isLookDue } from './tag-looks.ts';

/** A run of a rule that publishes. */
export interface PublishPlan {
  readonly rule: PublishRule;
  readonly run: Pick<Run, 'id' | 'startedAtMs' | 'trigger'>;
}

export interface PublishPlanOptions extends PlanOptions {
  /** When to stop listing, in milliseconds since 1970: the job lists again. Default: never. */
  readonly untilMs?: number | undefined;
  /** How often the destination is asked for. 0: in every run. Default 24. */
  readonly lookEveryHours?: number | undefined;
}

interface Parts {
  readonly jobs: RunJobs;
  readonly state: StateStore;
  readonly backends: Backends;
}

/**
 * Plans a run of a rule that publishes, as `planRun`: one job, or none where the listing of its objects is the one that was published and the
 * destination is still as it was left. Costs a LIST for 1,000 objects, one read of the state, and one HEAD a day and for each run by hand. A listing that fails is a
 * failed job of the run; one that takes too long is left to the job.
 */
export async function planPublish(
  plan: PublishPlan,
  service: Service,
  backends: Backends,
  options: PublishPlanOptions,
): Promise<PlanResult | undefined> {
  const planned = async (jobs: RunJobs, held: Abortable): Promise<undefined> => {
    await planJob(plan, { jobs, state: service.state, backends }, { ...options, ...held });
  };
  return planRun(plan, service, planned, options);
}

async function planJob(plan: PublishPlan, parts: Parts, options: PublishPlanOptions): Promise<void> {
  const { rule, run } = plan;
  const { jobs, state } = parts;
  const job = publishJobOf(plan);
  const title = titleOf({ from: job.from, to: [job.to] });
  const destination = publishedAt(job.to);
  const record = await state.destinations.get(destination, options);
  const owners = new DestinationOwners(state.rules, options.clock);
  const remembered = { location: destination.location, record };
  const refusal = await owners.refusal(remembered, job, { ...options, dateMs: run.startedAtMs });
  if (refusal !== undefined) return jobs.fail(title, refusal, options);
  let listing: Digest | undefined;
  try {
    listing = await listInTime(rule, parts.backends, options);
  } catch (error) {
    checkAborted(options);
    // the job that plans a run of events is retried
    if (run.trigger === 'push' && isFailure(error) && mayPass(error)) throw error;
    return jobs.fail(`list ${rule.from}`, error, options);
  }
  const found = await compare(plan, record, listing, parts, options);
  if (found !== 'changed') return jobs.add([], { unchanged: 1, unseen: found === 'unseen' ? 1 : 0 }, options);
  // a person who asks for a run wants an attempt now
  const retries = run.trigger === 'schedule' ? new Retries(rule.name, run, state.runs) : undefined;
  const retried = await retries?.find(job, options);
  if (retried === undefined) await jobs.add([{ job, title }], { unchanged: 0, unseen: 0 }, options);
  else await jobs.leave({ job, title }, retried, options);
}

function publishJobOf({ rule, run }: PublishPlan): PublishJob {
  const to = `docker://${rule.to}`;
  return {
    version: 1,
    kind: 'publish',
    id: jobId(run.id, 'publish', rule.from, to),
    run: run.id,
    rule: rule.name,
    at: new Date(run.startedAtMs).toISOString(),
    from: rule.from,
    to,
  };
}

/** The digest of the listing. Undefined where it is not complete by `untilMs`. */
async function listInTime(
  { from }: PublishRule,
  backends: Backends,
  options: PublishPlanOptions,
): Promise<Digest | undefined> {
  const { untilMs = Infinity, clock } = options;
  const list = async (taskOptions: Abortable): Promise<Digest> =>
    onSide('source', listingOf(parseObjectPlace(from), backends, taskOptions));
  if (untilMs === Infinity) return list(options);
  const late = (): Failure => new Failure('ABORTED', `list ${from}: the time for it is over`);
  const leftMs = untilMs - clock.now();
  if (leftMs <= 0) return undefined;
  await using end = deadline(leftMs, late, clock);
  try {
    return await list({ signal: anyOf(options.signal, end.signal) });
  } catch (error) {
    checkAborted(options);
    if (end.signal.aborted) return undefined;
    throw error;
  }
}

/** `unseen`: by its record it is unchanged, and the registry did not answer. */
async function compare(
  { rule, run }: PublishPlan,
  record: SyncRecord | undefined,
  listing: Digest | undefined,
  { state, backends }: Parts,
  options: PublishPlanOptions,
): Promise<'changed' | 'unchanged' | 'unseen'> {
  if (record === undefined || record.sourceDigest !== listing || record.source !== rule.from) return 'changed';
  if (record.choices !== choicesKey({}) || record.failing === true) return 'changed';
  // an event does not look for what is gone at destinations: the schedule does, and a person who asks for a run wants to know
  if (run.trigger === 'push' || (run.trigger === 'schedule' && !isLookDue(record, options))) return 'unchanged';
  const { registry, repository } = parseRepository(rule.to);
  try {
    const target = backends.registry(registry, 'target').repository(repository);
    const now = await ifFound(onSide('target', target.resolve(record.name, options)));
    if (now?.digest !== record.digest) return 'changed';
  } catch (error) {
    checkAborted(options);
    if (!isFailure(error) || error.code === 'BUG') throw error;
    const message = `docker://${rule.to} counts as it was left: ${describeFailure(error)}`;
    options.report?.({ type: 'warning', message });
    return 'unseen';
  }
  await state.destinations.looked(record, options.clock.now(), options);
  return 'unchanged';
}
