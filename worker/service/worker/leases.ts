import { formatLocation, type Location } from '../../oci/location.ts';
import type { DestinationKey, Lease, StateStore } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';

/** Where a job writes. */
export interface Place {
  readonly key: DestinationKey;
  readonly location: Location;
}

/** One that nobody else writes to, until `signal` fires. */
export interface HeldPlace extends Place {
  readonly lease: Lease;
  readonly signal: AbortSignal;
}

/** The right to do a job. Disposing gives it back. */
export interface Holding extends AsyncDisposable {
  /** In the order in which they were asked for. */
  readonly places: readonly HeldPlace[];
  /** Fires when the job as a whole must stop; where it has places, each of them has its own. */
  readonly signal: AbortSignal | undefined;
}

/** What a dead worker held is free after this, and after what clocks may differ by. */
export const LEASE_SECONDS = 60;

/**
 * A lease for each place, or, of a job without any, for the job. All or none: undefined when another has one of them. Taken in one order by
 * everybody, so that of two jobs with places in common one gets them all.
 */
export async function hold(
  job: string,
  places: readonly Place[],
  state: Pick<StateStore, 'destinations' | 'lock'>,
  o: Abortable & { readonly leaseSeconds?: number | undefined },
): Promise<Holding | undefined> {
  const { leaseSeconds: ttlSeconds = LEASE_SECONDS } = o;
  await using taking = new AsyncDisposableStack();
  if (places.length === 0) {
    const lease = await state.lock(`job/${job}`, ttlSeconds, o);
    if (lease === undefined) return undefined;
    return { places: [], signal: lease.signal, [Symbol.asyncDispose]: async () => lease[Symbol.asyncDispose]() };
  }
  const leases = new Map<Place, Lease>();
  for (const place of places.toSorted(byName)) {
    const lease = await state.destinations.lock(place.key, ttlSeconds, o);
    if (lease === undefined) return undefined;
    leases.set(place, taking.use(lease));
  }
  const held = taking.move();
  return {
    places: places.flatMap((place) => {
      const lease = leases.get(place);
      return lease === undefined ? [] : [{ ...place, lease, signal: lease.signal }];
    }),
    signal: undefined,
    [Symbol.asyncDispose]: async () => held.disposeAsync(),
  };
}

function byName(a: Place, b: Place): number {
  const [first, second] = [formatLocation(a.location), formatLocation(b.location)];
  return first < second ? -1 : Number(first > second);
}
