import type { Clock } from '../util/clock.ts';
import type { Report } from '../util/events.ts';
import { destinationsOver } from './destinations.ts';
import { Leases } from './lease.ts';
import { rulesOver } from './rules.ts';
import { runsOver } from './runs.ts';
import { scratchPlacesOver } from './scratch-places.ts';
import type { StateStore } from './state.ts';
import { keyOf, type Key, type Table } from './table.ts';

export interface StateOptions {
  /** By how much the clocks of two workers may differ. The leases of a crashed worker expire later by this much. Default 60. */
  readonly skewSeconds?: number | undefined;
  /** Receives an event for each run that ends. */
  readonly report?: Report | undefined;
}

const SKEW_SECONDS = 60;

function lockKey(name: string): Key {
  return keyOf(`LOCK#${name}`, 'LOCK');
}

/** The state, as items of a table: docs/state.md. */
export function stateOver(table: Table, clock: Clock, options: StateOptions = {}): StateStore {
  const leases = new Leases(table, clock, options.skewSeconds ?? SKEW_SECONDS);
  return {
    destinations: destinationsOver(table, leases),
    rules: rulesOver(table, clock),
    runs: runsOver(table, clock, options.report),
    scratchPlaces: scratchPlacesOver(table, clock),
    lock: async (name, ttlSeconds, taskOptions) => leases.take(lockKey(name), name, ttlSeconds, taskOptions),
    findLocked: async (names, taskOptions) => {
      const items = await table.getEach(names.map(lockKey), taskOptions);
      return names.find((_, index) => leases.isHeld(items[index]));
    },
  };
}
