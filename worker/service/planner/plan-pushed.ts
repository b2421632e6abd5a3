import type { Backends } from '../../images/backends.ts';
import { formatRepository, type Repository } from '../../oci/reference.ts';
import { parseDigest } from '../../oci/digest.ts';
import { mayPass } from '../../queue/redelivery.ts';
import { isCopyRule, isExpired, type CopyRule } from '../../rules/rule.ts';
import type { Run } from '../../state/state.ts';
import { checkAborted } from '../../util/abort.ts';
import { ifFound, isFailure } from '../../util/failure.ts';
import type { BackendPool } from '../backend-pool.ts';
import { DestinationOwners } from '../destination-owner.ts';
import type { Service } from '../service.ts';
import { listSource } from './list-source.ts';
import { archivedWarning, type Pushed } from './source-list.ts';
import { batchesOf, planBatch } from './plan-batch.ts';
import type { PushedImages } from './many-jobs.ts';
import { planStores } from './plan-many.ts';
import { planPublish } from './plan-publish.ts';
import { NOTHING_LEFT, planRun, type PlanOptions, type PlanResult } from './plan-run.ts';
import type { Presences } from './presences.ts';
import { Remembered } from './remembered.ts';
import { readRule } from './stored-rule.ts';

/**
 * Closes a run of events, and plans it: of pushes as `planPushed` does, of changes of objects as `planPublish`. Plans nothing for a rule that
 * was deleted, has expired or is of another kind by then.
 */
export async function planPushes(
  { run, rule: name }: { readonly run: Run; readonly rule: string },
  service: Service,
  backends: Pick<BackendPool, 'use'>,
  options: PlanOptions,
): Promise<PlanResult | undefined> {
  const { runs } = service.state;
  const rule = await ifFound(readRule(name, service, options));
  const pushes = await runs.closePushes(run.id, options);
  const [first] = pushes;
  const living = rule === undefined || isExpired(rule, options.clock.now()) ? undefined : rule;
  if (living?.kind === 'publish')
    return backends.use(async (opened) => planPublish({ rule: living, run }, service, opened, options), options);
  if (first === undefined || living === undefined || !isCopyRule(living)) {
    await runs.planned(run.id, options);
    return NOTHING_LEFT;
  }
  const { registry, repository } = first;
  const pushed = pushes.map(({ tag, digest }) => ({ tag, digest: parseDigest(digest) }));
  const request = { rule: living, run, registry, repository, pushed };
  return backends.use(async (opened) => planPushed(request, service, opened, options), options);
}

/** A repository that the rule names, and what was pushed there. */
export interface PushedPlan extends Repository {
  readonly rule: CopyRule;
  readonly run: Pick<Run, 'id' | 'startedAtMs'>;
  readonly pushed: readonly Pushed[];
}

/**
 * Plans the run of pushes: the images of one repository that they concern, with one list of it. For a tag that is the image; for a signature
 * or SBOM the image that it is about, or what contains that; for an image of an index nothing, since the index is pushed after it. As
 * `planRun`. A retryable failure of the registry is thrown, since the job that plans is retried; any other is a failed job of the run.
 */
export async function planPushed(
  request: PushedPlan,
  service: Service,
  backends: Backends,
  options: PlanOptions,
): Promise<PlanResult | undefined> {
  const { rule, run, registry, repository, pushed } = request;
  const { report } = options;
  const snapshots: { readonly rule: CopyRule; pushed: PushedImages } = {
    rule,
    pushed: { registry, repository, only: [] },
  };
  return planRun(
    { ...request, snapshots },
    service,
    async (jobs, held) => {
      const fail = async (title: string, error: unknown): Promise<void> => {
        checkAborted(held);
        if (isFailure(error) && mayPass(error)) throw error;
        await jobs.fail(title, error, held);
      };
      const remembered = new Remembered(service.state.destinations);
      const owners = new DestinationOwners(service.state.rules, options.clock);
      const context = { rule, run, jobs, remembered, presences: NOT_LOOKED_AT, owners, fail };
      const name = formatRepository(request);
      try {
        const source = backends.registry(registry, 'source');
        const list = await listSource(rule, source, repository, run.startedAtMs, { ...held, pushed });
        if (list.archived.length > 0) report?.({ type: 'warning', message: archivedWarning(name, list) });
        const only = list.selected.flatMap(({ tag, digest }) => (digest === undefined ? [] : [{ tag, digest }]));
        snapshots.pushed = { registry, repository, only };
        await planStores({ rule, run, jobs, pushed: snapshots.pushed }, held);
        if (rule.to.length === 0) return undefined;
        for (const candidates of batchesOf(list.selected))
          await planBatch({ registry, repository, list, candidates }, context, held);
      } catch (error) {
        await fail(`list docker://${name}`, error);
      }
      return undefined;
    },
    options,
  );
}

/** A push does not look for what is gone at destinations: the schedule does. */
const NOT_LOOKED_AT: Pick<Presences, 'find'> = { find: async () => () => 'there' };
