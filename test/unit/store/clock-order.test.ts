import { describe, expect, test } from 'vitest';
import { warnOfOrder } from '../../../worker/store/clock-order.ts';
import { openSnapshots, type Snapshots } from '../../../worker/store/snapshots.ts';
import type { Report } from '../../../worker/util/events.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';
import { makeSnapshot } from '../../support/snapshots.ts';

const NOW = Date.parse('2026-12-01T12:00:00.000Z');
const MINUTE = 60_000;

/** The warnings about a snapshot that a clock which is `offMs` ahead finishes, after those of clocks that were as far ahead. */
async function warningsOf(offMs: number, earlierMs: readonly number[] = []): Promise<readonly string[]> {
  const snapshots = openSnapshots({ store: new MemoryObjects(), prefix: '' });
  const warnings: string[] = [];
  const at = (ms: number): string => new Date(NOW + ms).toISOString();
  for (const ms of earlierMs) await snapshots.write(makeSnapshot({ finishedAt: at(ms), repositories: { app: {} } }));
  const written = await snapshots.write(makeSnapshot({ finishedAt: at(offMs), repositories: { app: {} } }));
  const report: Report = (event) => {
    if (event.type === 'warning') warnings.push(event.message);
  };
  const listed: Snapshots = {
    ...snapshots,
    list: async () => Array.from(await snapshots.list(), (name) => ({ ...name, storedAtMs: NOW })),
  };
  await warnOfOrder(listed, written, { report });
  return warnings;
}

describe('a backup', () => {
  test('is silent about right clocks, and about another backup that ended meanwhile', async () => {
    expect(await warningsOf(-1000, [-60 * MINUTE, 2000])).toEqual([]);
  });

  test('reports that its clock is an hour late, and which snapshot counts as newer', async () => {
    expect(await warningsOf(-60 * MINUTE, [-MINUTE])).toEqual([
      expect.stringMatching(
        /^the clock of this computer is 60 minutes behind that of the store, and the snapshot .* set/,
      ),
      expect.stringMatching(/^the snapshot .* is dated 2026-12-01T11:59:00.000Z, after this one .* counts as newer/),
    ]);
  });

  test('reports that its clock is an hour ahead', async () => {
    expect(await warningsOf(60 * MINUTE, [-MINUTE])).toEqual([expect.stringMatching(/60 minutes ahead of that/)]);
  });

  test('reports that an earlier backup had a clock that was ahead', async () => {
    expect(await warningsOf(0, [60 * MINUTE])).toEqual([expect.stringMatching(/is dated 2026-12-01T13:00:00.000Z/)]);
  });
});
