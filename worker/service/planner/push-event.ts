import type { PushEvent } from '../../queue/job.ts';
import { parseDigest } from '../../oci/digest.ts';
import { ecrHost } from '../../oci/ecr-host.ts';
import { parseRule } from '../../rules/config.ts';
import { matchesPattern } from '../../oci/location.ts';
import { isCopyRule, isExpired, type CopyRule } from '../../rules/rule.ts';
import { sourcesOf } from '../../rules/sources.ts';
import type { StoredRule } from '../../state/state.ts';
import { checkAborted } from '../../util/abort.ts';
import { describeFailure, Failure, toFailure } from '../../util/failure.ts';
import type { BackendPool } from '../backend-pool.ts';
import { planPushed } from './plan-pushed.ts';
import type { PlanOptions, PlanResult } from './plan-run.ts';
import type { Service } from '../service.ts';

/** What a push started. */
export interface PushResult {
  /** One for each rule that the push starts. */
  readonly runs: readonly (PlanResult & { readonly run: string; readonly rule: string })[];
}

/**
 * Begins and plans a run for each rule that has `on: push` and names the repository, with the images that the push concerns. For a tag that is
 * the image; for a signature or SBOM the image that it is about, or what contains that; for an image of an index nothing, since the index is
 * pushed after it. Idempotent: the same event makes the same runs and jobs.
 *
 * UNAVAILABLE when the registry does not show the push yet, or another planner is planning the same run: try again. A rule that fails does
 * not stop the others; the first failure is thrown at the end.
 */
export async function planPush(
  event: PushEvent,
  service: Service,
  backends: Pick<BackendPool, 'use'>,
  options: PlanOptions,
): Promise<PushResult> {
  const { rules, runs } = service.state;
  const started: PushResult['runs'][number][] = [];
  const failures: Failure[] = [];
  for (const stored of await rules.list(options)) {
    try {
      const rule = pushRule(stored, options);
      if (rule === undefined || isExpired(rule, options.clock.now())) continue;
      const registry = registryOf(rule, event);
      if (registry === undefined) continue;
      const id = `push-${event.id}-${rule.name}`;
      const run = await runs.begin({ id, rule: rule.name, trigger: 'push' }, options);
      const { repository } = event;
      const pushed = { tag: event.tag, digest: parseDigest(event.digest) };
      const request = { rule, run, registry, repository, pushed };
      const result = await backends.use(async (opened) => planPushed(request, service, opened, options), options);
      if (result === undefined)
        throw new Failure('UNAVAILABLE', `plan ${id}: another planner is already planning this run`);
      started.push({ ...result, run: id, rule: rule.name });
    } catch (error) {
      checkAborted(options);
      failures.push(toFailure(error));
    }
  }
  if (failures[0] !== undefined) throw failures[0];
  return { runs: started };
}

/** The rule where a push starts it; undefined where not, and for a rule that cannot be read, which is reported. */
function pushRule({ name, document }: StoredRule, options: Pick<PlanOptions, 'report'>): CopyRule | undefined {
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
