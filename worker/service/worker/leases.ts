import type { Location } from '../../oci/location.ts';
import type { DestinationKey, Lease, StateStore } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';
import { compareStrings } from '../../util/text.ts';

/** A destination that a job writes. */
export interface JobDestination {
  readonly key: DestinationKey;
  readonly location: Location;
}

/** A destination that no other worker writes, until `signal` fires. */
export interface LeasedDestination extends JobDestination {
  readonly lease: Lease;
  readonly signal: AbortSignal;
}

/** The right to do a job. Disposing returns it. */
export interface JobLeases extends AsyncDisposable {
  /** In the order in which they were asked for. */
  readonly destinations: readonly LeasedDestination[];
  /** Fires when the job as a whole must stop. Undefined for a job with destinations: each of them has its own. */
  readonly signal: AbortSignal | undefined;
}

/** The leases of a crashed worker expire after this, and after the difference that clocks may have. */
export const LEASE_SECONDS = 60;

/**
 * A lease for each destination, or for the job if it does not have destinations. All or nothing: undefined when another worker holds one of them. All
 * workers take leases in the same order, so that one of two jobs with common destinations gets them all.
 */
export async function acquireLeases(
  job: string,
  destinations: readonly JobDestination[],
  state: Pick<StateStore, 'destinations' | 'lock'>,
  options: Abortable & { readonly leaseSeconds?: number | undefined },
): Promise<JobLeases | undefined> {
  const { leaseSeconds: ttlSeconds = LEASE_SECONDS } = options;
  await using taking = new AsyncDisposableStack();
  if (destinations.length === 0) {
    const lease = await state.lock(`job/${job}`, ttlSeconds, options);
    if (lease === undefined) return undefined;
    return { destinations: [], signal: lease.signal, [Symbol.asyncDispose]: async () => lease[Symbol.asyncDispose]() };
  }
  const leases = new Map<JobDestination, Lease>();
  for (const destination of destinations.toSorted(byName)) {
    const lease = await state.destinations.lock(destination.key, ttlSeconds, options);
    if (lease === undefined) return undefined;
    leases.set(destination, taking.use(lease));
  }
  const all = taking.move();
  return {
    destinations: destinations.flatMap((destination) => {
      const lease = leases.get(destination);
      return lease === undefined ? [] : [{ ...destination, lease, signal: lease.signal }];
    }),
    signal: undefined,
    [Symbol.asyncDispose]: async () => all.disposeAsync(),
  };
}

function byName({ key: a }: JobDestination, { key: b }: JobDestination): number {
  return compareStrings(a.group, b.group) || compareStrings(a.name, b.name);
}
