import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import type { ScratchPlaces } from './state.ts';
import { keyOf, numberOf, type Table } from './table.ts';

const PK = 'SCRATCH';
const PREFIX = 'PLACE#';
const DAY_SECONDS = 24 * 3600;
/** A drill counts as over after a week at the latest. */
const REMEMBERED_SECONDS = 14 * DAY_SECONDS;

export function scratchPlacesOver(table: Table, clock: Clock): ScratchPlaces {
  const isOlder = (atMs: number, seconds: number): boolean => atMs <= clock.now() - seconds * 1000;
  return {
    noteNamed: async (named, options: Abortable = {}) => {
      const noted = new Map<string, number>();
      for await (const item of table.query(PK, { ...options, prefix: PREFIX }))
        noted.set(item.sk.slice(PREFIX.length), numberOf(item, 'namedAtMs'));
      for (const place of named) {
        if (!isOlder(noted.get(place) ?? 0, DAY_SECONDS)) continue;
        const namedAtMs = clock.now();
        const ttl = Math.ceil(namedAtMs / 1000) + REMEMBERED_SECONDS;
        await table.update(keyOf(PK, PREFIX + place), { set: { namedAtMs, ttl } }, {}, options);
      }
      const recent = [...noted].filter(([, atMs]) => !isOlder(atMs, REMEMBERED_SECONDS)).map(([place]) => place);
      return [...new Set([...named, ...recent])].sort();
    },
  };
}
