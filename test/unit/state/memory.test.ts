import { memoryTable } from '../../../worker/state/memory.ts';
import { stateOver } from '../../../worker/state/store.ts';
import { manualClock } from '../../support/clock.ts';
import { stateSuite } from '../../contracts/state.ts';

stateSuite('memory', async () => {
  const clock = manualClock();
  const table = memoryTable();
  return { clock, open: () => stateOver(table, clock), [Symbol.asyncDispose]: async () => undefined };
});
