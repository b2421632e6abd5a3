import { destinationKey } from '../../rules/destinations.ts';
import type { CopyJob } from '../../queue/job.ts';
import type { DestinationKey, SyncRecord } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';
import type { Failure } from '../../util/failure.ts';
import type { DestinationOwners } from '../destination-owner.ts';

/**
 * Takes the destinations that belong to another rule, or to another source of the same rule, out of jobs, and drops jobs that have no other.
 * A worker looks again under its lease; here the refusal costs nothing, and leaves no dead letter.
 */
export async function withoutRefused(
  jobs: readonly CopyJob[],
  record: (key: DestinationKey) => SyncRecord | undefined,
  owners: DestinationOwners,
  options: Abortable,
): Promise<{
  readonly jobs: readonly CopyJob[];
  readonly refused: readonly { readonly title: string; readonly failure: Failure }[];
}> {
  const left: CopyJob[] = [];
  const refused: { title: string; failure: Failure }[] = [];
  for (const job of jobs) {
    const to: string[] = [];
    for (const location of job.to) {
      const remembered = { location, record: record(destinationKey(location)) };
      const failure = await owners.refusal(remembered, job, { ...options, dateMs: Date.parse(job.at) });
      if (failure === undefined) to.push(location);
      else refused.push({ title: `${job.from} → ${location}`, failure });
    }
    if (to.length > 0) left.push(to.length === job.to.length ? job : { ...job, to });
  }
  return { jobs: left, refused };
}
