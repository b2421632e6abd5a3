import type { PushEvent } from '../../queue/job.ts';
import { ecrHost } from '../../oci/ecr-host.ts';
import { parseRule } from '../../rules/config.ts';
import { matchesPattern } from '../../oci/location.ts';
import { isCopyRule, isExpired, type CopyRule } from '../../rules/rule.ts';
import { sourcesOf } from '../../rules/sources.ts';
import type { StoredRule } from '../../state/state.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import type { Report } from '../../util/events.ts';
import { describeFailure, toFailure, type Failure } from '../../util/failure.ts';
import type { Service } from '../service.ts';
import { FROM_THE_START, planJobOf } from './plan-jobs.ts';
import { newJob } from './run-jobs.ts';

/** Pushes to one repository within this time are planned by one run, which begins with the first of them. */
const WINDOW_SECONDS = 30;

/** How `gatherPush` gathers. */
export interface PushOptions extends Abortable {
  readonly clock: Clock;
  readonly report?: Report | undefined;
  /** How long the first push of a run waits for others. Default 30. */
  readonly windowSeconds?: number | undefined;
}

/**
 * Adds a push to a run of each rule that has `on: push` and names the repository. The first push begins the run, and sends the job that plans
 * it after `windowSeconds`, so the events of an index, its children, signatures and SBOMs are one run. When this returns, the state has the
 * push and a job that will plan it. Idempotent while the run gathers; later the same event makes another run, which finds nothing to copy. A
 * rule that fails does not stop the others; the first failure is thrown at the end. Returns the ids of the runs.
 */
export async function gatherPush(event: PushEvent, service: Service, options: PushOptions): Promise<readonly string[]> {
  const gathered: string[] = [];
  const failures: Failure[] = [];
  for (const stored of await service.state.rules.list(options)) {
    try {
      const rule = pushRule(stored, options);
      if (rule === undefined || isExpired(rule, options.clock.now())) continue;
      const registry = registryOf(rule, event);
      if (registry !== undefined) gathered.push(await addToRun(event, { rule: rule.name, registry }, service, options));
    } catch (error) {
      checkAborted(options);
      failures.push(toFailure(error));
    }
  }
  if (failures[0] !== undefined) throw failures[0];
  return gathered;
}

async function addToRun(
  { id, repository, tag, digest }: PushEvent,
  { rule, registry }: { readonly rule: string; readonly registry: string },
  { queue, state }: Service,
  { clock, windowSeconds = WINDOW_SECONDS, ...options }: PushOptions,
): Promise<string> {
  const own = `push-${id}-${rule}`;
  const group = { rule, registry, repository, run: own, untilMs: clock.now() + windowSeconds * 1000 };
  const run = await state.runs.gatherPush(group, { id, registry, repository, tag, digest }, options);
  const isBegun = run.id.startsWith(own);
  if (!isBegun && Object.values(run.jobs).some((count) => count > 0)) return run.id;
  const job = planJobOf({ rule, run, after: FROM_THE_START });
  const { record, message } = newJob(job, { title: `plan pushes to ${registry}/${repository}` });
  const open = await state.runs.addJobs(run.id, [record], options);
  // only the push that began the run sends the job, and is redelivered until it has; a message that is lost later is sent again by a planner
  if (isBegun && open.has(job.id)) await queue.send([{ ...message, delaySeconds: windowSeconds }], options);
  return run.id;
}

/** The rule where a push starts it; undefined where not, and for a rule that cannot be read, which is reported. */
function pushRule({ name, document }: StoredRule, options: Pick<PushOptions, 'report'>): CopyRule | undefined {
  try {
    const rule = parseRule(document);
    return isCopyRule(rule) && rule.onPush ? rule : undefined;
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
