import { formatLocation, type Location } from '../../oci/location.ts';
import type { DestinationKey, Lease, StateStore } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';

/** Where a job writes. */
export interface JobDestination {
  readonly key: DestinationKey;
  readonly location: Location;
}

/** One that nobody else writes to, until `signal` fires. */
export interface LeasedDestination extends JobDestination {
  readonly lease: Lease;
  readonly signal: AbortSignal;
}

/** The right to do a job. Disposing gives it back. */
export interface Leases extends AsyncDisposable {
  /** In the order in which they were asked for. */
  readonly places: readonly LeasedDestination[];
  /** Fires when the job as a whole must stop; where it has places, each of them has its own. */
  readonly signal: AbortSignal | undefined;
}

/** What a dead worker held is free after this, and after what clocks may differ by. */
export const LEASE_SECONDS = 60;

/**
 * A lease for each place, or, of a job without any, for the job. All or none: undefined when another has one of them. Taken in one order by
 * everybody, so that of two jobs with places in common one gets them all.
 */
export async function acquireLeases(
  job: string,
  destinations: readonly JobDestination[],
  state: Pick<StateStore, 'destinations' | 'lock'>,
  options: Abortable & { readonly leaseSeconds?: number | undefined },
): Promise<Leases | undefined> {
  const { leaseSeconds: ttlSeconds = LEASE_SECONDS } = options;
  await using taking = new AsyncDisposableStack();
  if (destinations.length === 0) {
    const lease = await state.lock(`job/${job}`, ttlSeconds, options);
    if (lease === undefined) return undefined;
    return { places: [], signal: lease.signal, [Symbol.asyncDispose]: async () => lease[Symbol.asyncDispose]() };
  }
  const leases = new Map<JobDestination, Lease>();
  for (const destination of destinations.toSorted(byName)) {
    const lease = await state.destinations.lock(destination.key, ttlSeconds, options);
    if (lease === undefined) return undefined;
    leases.set(destination, taking.use(lease));
  }
  const held = taking.move();
  return {
    places: destinations.flatMap((destination) => {
      const lease = leases.get(destination);
      return lease === undefined ? [] : [{ ...destination, lease, signal: lease.signal }];
    }),
    signal: undefined,
    [Symbol.asyncDispose]: async () => held.disposeAsync(),
  };
}

function byName(a: JobDestination, b: JobDestination): number {
  const [first, second] = [formatLocation(a.location), formatLocation(b.location)];
  return first < second ? -1 : Number(first > second);
}
