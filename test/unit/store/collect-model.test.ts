import { expect, test } from 'vitest';
import { assert, asyncProperty, integer } from 'fast-check';
import { StoreSimulation } from '../../support/store-simulation.ts';

/** For a longer run with random seeds: `TRANSSHIP_SEED=random STORE_RUNS=2000 npx vitest run test/unit/store/collect-model.test.ts`. */
const runs = process.env['STORE_RUNS'];

test(
  'keeps every blob of every snapshot, whatever is killed or suspended, and deletes what is left over',
  { timeout: 3_600_000 },
  async () => {
    const totals = { backups: 0, collections: 0, blobsDeleted: 0, snapshotsDeleted: 0, relisted: 0 };
    await assert(
      asyncProperty(integer(), async (seed) => {
        const seen = await new StoreSimulation(seed).run();
        for (const name of Object.keys(totals) as (keyof typeof totals)[]) totals[name] += seen[name];
      }),
      runs === undefined ? { numRuns: 40 } : { numRuns: Number(runs) },
    );
    // the simulation reaches what it is about
    for (const count of Object.values(totals)) expect(count).toBeGreaterThan(10);
  },
);
