import { formatLocation } from '../../oci/location.ts';
import type { CopyJob, PublishJob, RestoreJob } from '../../queue/job.ts';
import type { Destinations, Rules } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import type { Failure } from '../../util/failure.ts';
import { DestinationOwners } from '../destination-owner.ts';
import type { LeasedDestination } from './leases.ts';

/**
 * Which destinations of a job belong to another rule, or to another source of its rule, and why. Read under the leases, so that of two rules
 * that write one destination for the first time the second is refused. The records are those that the leases were taken with; the rules are read
 * only where another rule wrote a destination.
 */
export async function refusedDestinations(
  job: CopyJob | RestoreJob | PublishJob,
  destinations: readonly LeasedDestination[],
  options: Abortable & {
    readonly clock: Clock;
    readonly destinations: Pick<Destinations, 'foundBy'>;
    readonly rules: Pick<Rules, 'list'>;
  },
): Promise<ReadonlyMap<LeasedDestination, Failure>> {
  const refused = new Map<LeasedDestination, Failure>();
  if (job.rule === undefined) return refused;
  const owners = new DestinationOwners(options.rules, options.clock);
  for (const destination of destinations) {
    const record = options.destinations.foundBy(destination.lease, destination.key);
    const remembered = { location: formatLocation(destination.location), record };
    const failure = await owners.refusal(remembered, job, { ...options, dateMs: Date.parse(job.at) });
    if (failure !== undefined) refused.set(destination, failure);
  }
  return refused;
}
