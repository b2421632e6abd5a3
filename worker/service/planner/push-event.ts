import type { ObjectEvent, PushEvent } from '../../queue/events.ts';
import { ecrHost } from '../../oci/ecr-host.ts';
import { parseRule } from '../../rules/config.ts';
import { matchesPattern } from '../../oci/location.ts';
import { parseObjectPlace } from '../../oci/object-place.ts';
import { isCopyRule, isExpired, isPlannedRule, type CopyRule, type PlannedRule, type Rule } from '../../rules/rule.ts';
import { sourcesOf } from '../../rules/sources.ts';
import type { Message } from '../../queue/queue.ts';
import type { GatheredPush, Rules, Run, StoredRule } from '../../state/state.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import type { Report } from '../../util/events.ts';
import { describeFailure, toFailure, type Failure } from '../../util/failure.ts';
import type { Service } from '../service.ts';
import { FROM_THE_START, planJobOf } from './plan-jobs.ts';
import { newJob } from './run-jobs.ts';

/** Events of one place within this time are planned by one run, which begins with the first of them. */
const WINDOW_SECONDS = 30;

/** How events are gathered. */
export interface PushOptions extends Abortable {
  readonly clock: Clock;
  readonly report?: Report | undefined;
  /** The rules that the event is compared with. Default: those that are stored now. */
  readonly rules?: Pick<Rules, 'list'> | undefined;
  /** How long the first event of a run waits for others. Default 30. */
  readonly windowSeconds?: number | undefined;
}

/** What an event adds to a run of a rule. */
interface Gathered {
  /** The id of the event. */
  readonly id: string;
  /** As in `PushGroup`. */
  readonly place: string;
  /** Absent for objects: the run of a change lists all that is there. */
  readonly push?: GatheredPush;
}

/**
 * Adds a push to a run of each rule that has `on: push` and names the repository. The first push begins the run, and sends the job that plans
 * it after `windowSeconds`, so the events of an index, its children, signatures and SBOMs are one run. When this returns, the state has the
 * push and a job that will plan it. Idempotent while the run gathers; later the same event makes another run, which finds nothing to copy. A
 * rule that fails does not stop the others; the first failure is thrown at the end. Returns the ids of the runs.
 */
export async function gatherPush(event: PushEvent, service: Service, options: PushOptions): Promise<readonly string[]> {
  const { id, repository, tag, digest } = event;
  const ofRule = (rule: PlannedRule): Gathered | undefined => {
    const registry = isCopyRule(rule) ? registryOf(rule, event) : undefined;
    if (registry === undefined) return undefined;
    return { id, place: `${registry}/${repository}`, push: { id, registry, repository, tag, digest } };
  };
  return gather(ofRule, service, options);
}

/**
 * Adds a change of an object to a run of each rule that has `on: push` and publishes it, as `gatherPush` does. Nothing is kept of the object:
 * the run lists what is there after its window.
 */
export async function gatherObject(
  { id, bucket, key }: ObjectEvent,
  service: Service,
  options: PushOptions,
): Promise<readonly string[]> {
  const ofRule = (rule: PlannedRule): Gathered | undefined => {
    const from = rule.kind === 'publish' ? parseObjectPlace(rule.from) : undefined;
    const isBelow = from?.transport === 's3' && from.bucket === bucket && key.startsWith(from.prefix);
    return isBelow && rule.kind === 'publish' ? { id, place: rule.from } : undefined;
  };
  return gather(ofRule, service, options);
}

/** Adds an event to a run of each rule that it starts. */
async function gather(
  ofRule: (rule: PlannedRule) => Gathered | undefined,
  service: Service,
  options: PushOptions,
): Promise<readonly string[]> {
  const runs: string[] = [];
  const failures: Failure[] = [];
  for (const stored of await (options.rules ?? service.state.rules).list(options)) {
    try {
      const rule = pushRule(stored, options);
      if (rule === undefined || isExpired(rule, options.clock.now())) continue;
      const gathered = ofRule(rule);
      if (gathered !== undefined) runs.push(await addToRun(gathered, rule.name, service, options));
    } catch (error) {
      checkAborted(options);
      failures.push(toFailure(error));
    }
  }
  if (failures[0] !== undefined) throw failures[0];
  return runs;
}

async function addToRun(
  { id, place, push }: Gathered,
  rule: string,
  { queue, state }: Service,
  { clock, windowSeconds = WINDOW_SECONDS, ...options }: PushOptions,
): Promise<string> {
  const own = `push-${id}-${rule}`;
  const group = { rule, place, run: own, untilMs: clock.now() + windowSeconds * 1000 };
  const run = await state.runs.gatherPush(group, push, options);
  const title = push === undefined ? `plan changes of ${place}` : `plan pushes to ${place}`;
  const addPlan = async (one: Run): Promise<Message | undefined> => {
    const job = planJobOf({ rule, run: one, after: FROM_THE_START });
    const { record, message } = newJob(job, { title });
    const open = await state.runs.addJobs(one.id, [record], options);
    return open.has(job.id) ? { ...message, delaySeconds: windowSeconds } : undefined;
  };
  const sendPlan = async (one: Run): Promise<void> => {
    const message = await addPlan(one);
    if (message !== undefined) await queue.send([message], options);
  };
  // the event that began a run sends the job that plans it, and is redelivered until it has; a planner sends a job again whose message was lost
  if (run.id.startsWith(own)) await sendPlan(run);
  else if (Object.values(run.jobs).every((count) => count === 0)) await addPlan(run);
  if (run.id !== own) {
    // redelivered after its own run had stopped gathering
    const earlier = await state.runs.get(own, options);
    if (earlier !== undefined && earlier.plannedAtMs === undefined) await sendPlan(earlier);
  }
  return run.id;
}

/** The rules of documents that were read before: every event is compared with all rules, which are mostly the same objects. */
const parsed = new WeakMap<StoredRule, Rule>();

/** The rule where an event may start it; undefined where not, and for a rule that cannot be read, which is reported. */
function pushRule(stored: StoredRule, options: Pick<PushOptions, 'report'>): PlannedRule | undefined {
  const { name, document } = stored;
  try {
    const rule = parsed.get(stored) ?? parseRule(document);
    parsed.set(stored, rule);
    return isPlannedRule(rule) && rule.onPush ? rule : undefined;
  } catch (error) {
    const { code } = toFailure(error);
    options.report?.({ type: 'rule-failed', rule: name, code, message: describeFailure(error) });
    return undefined;
  }
}

/** The registry of the event as the rule names it: ECR has more than one host for each. Undefined where it does not name the repository. */
function registryOf(rule: CopyRule, { account, region, repository }: PushEvent): string | undefined {
  return sourcesOf(rule).find(({ registry, pattern }) => {
    const host = ecrHost(registry);
    return host?.account === account && host.region === region && matchesPattern(pattern, repository);
  })?.registry;
}
