import { formatLocation } from '../../oci/location.ts';
import { mayPass } from '../../queue/redelivery.ts';
import { describeFailure, Failure } from '../../util/failure.ts';
import { highest } from '../../util/lists.ts';
import type { LeasedDestination } from './leases.ts';

/** A destination that a job could not make equal to its source. */
export interface FailedDestination {
  readonly destination: LeasedDestination;
  readonly failure: Failure;
}

/** One failure for all destinations that failed, of `all` that the job has. */
export function failureOfAll(failed: readonly FailedDestination[], all: number): Failure {
  const [first] = failed.toSorted((a, b) => Number(mayPass(b.failure)) - Number(mayPass(a.failure)));
  if (first === undefined) throw new Failure('BUG', 'there is no failed destination');
  const byFailure = Map.groupBy(failed, ({ failure }) => failure);
  // a failure of the job as a whole, such as that of its source
  if (byFailure.size === 1 && failed.length === all) return first.failure;
  const list = Array.from(byFailure, ([failure, some]) => {
    const locations = some.map(({ destination }) => formatLocation(destination.location));
    return `${locations.join(', ')}: ${describeFailure(failure)}`;
  });
  const retryAfterMs = highest(
    failed.map(({ failure }) => failure.context.retryAfterMs ?? 0),
    0,
  );
  return new Failure(first.failure.code, `${failed.length} of ${all} destinations failed: ${list.join('; ')}`, {
    cause: first.failure,
    // each part names its own side and image
    context: { ...first.failure.context, side: undefined, image: undefined, location: undefined, retryAfterMs },
  });
}
