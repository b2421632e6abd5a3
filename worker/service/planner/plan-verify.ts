import { withoutTransport } from '../../oci/location.ts';
import { jobId, type VerifyJob } from '../../queue/job.ts';
import type { VerifyRule } from '../../rules/rule.ts';
import { runNumber } from '../../rules/schedule.ts';
import type { Run } from '../../state/state.ts';
import { describeSample, sampleOf } from '../../util/sample.ts';
import type { Service } from '../service.ts';
import { planRun, type PlanOptions, type PlanResult } from './plan-run.ts';

/** A run of a rule that verifies. */
interface VerifyPlan {
  readonly rule: VerifyRule;
  readonly run: Pick<Run, 'id' | 'startedAtMs'>;
}

/** Plans a run of a rule that verifies, as `planRun`: one job for each place. Asks no place for anything. */
export async function planVerify(
  plan: VerifyPlan,
  service: Service,
  options: PlanOptions,
): Promise<PlanResult | undefined> {
  return planRun(
    plan,
    service,
    async (jobs, held) => {
      const made = verifyJobsOf(plan).map((job) => ({ job, title: verifyTitle(job) }));
      await jobs.add(made, { unchanged: 0, unseen: 0 }, held);
      return undefined;
    },
    options,
  );
}

/** The jobs of a run. All read the same slice of their places, and the next run reads the next one. */
export function verifyJobsOf({ rule, run }: VerifyPlan): readonly VerifyJob[] {
  const { name, at, depth, sample: percent, schedule, restoreTo } = rule;
  const sample = percent === undefined ? undefined : sampleOf(percent, runNumber(schedule, run.startedAtMs));
  const how = {
    ...(depth === undefined ? {} : { depth }),
    ...(sample === undefined ? {} : { sample }),
    ...(restoreTo === undefined ? {} : { restoreTo: `docker://${restoreTo}` }),
  };
  return at.map((place): VerifyJob => {
    const from = /^(?:s3|store):/.test(place) ? place : `docker://${withoutTransport(place)}`;
    const job: VerifyJob = {
      version: 1,
      kind: 'verify',
      id: jobId(run.id, 'verify', from),
      run: run.id,
      rule: name,
      at: new Date(run.startedAtMs).toISOString(),
      from,
    };
    return Object.assign(job, how);
  });
}

/** What people know the job by. */
export function verifyTitle({ from, against, depth, sample, restoreTo }: VerifyJob): string {
  const how = [...(depth === undefined ? [] : [depth]), ...(sample === undefined ? [] : [describeSample(sample)])];
  const compared = against === undefined ? '' : ` against ${against}`;
  const what = restoreTo === undefined ? `verify ${from}${compared}` : `drill ${from} in ${restoreTo}`;
  return how.length === 0 ? what : `${what} (${how.join(', ')})`;
}
