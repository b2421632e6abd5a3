import { expect, test } from 'vitest';
import { follow } from '../../../../worker/service/admin/enqueue.ts';
import { memoryState } from '../../../../worker/state/memory.ts';
import type { RunReader } from '../../../../worker/state/state.ts';
import { fakeClock } from '../../../support/clock.ts';

test('following a run whose planning failed permanently reports the failure, and does not wait for ever', async () => {
  const clock = fakeClock();
  const { runs } = memoryState(clock);
  await runs.begin({ id: 'request', rule: 'rule', trigger: 'request' });
  await runs.addJobs('request', [{ id: 'plan-1', title: 'plan rule' }]);
  await runs.startJob('request', 'plan-1');
  await runs.endJob('request', 'plan-1', { state: 'failed', code: 'UNAVAILABLE', reason: 'nothing answers' });
  const signal = AbortSignal.timeout(60_000);
  const { run, failed } = await follow('request', runs, { clock, signal });
  expect(failed).toMatchObject([{ id: 'plan-1', reason: 'nothing answers' }]);
  expect(run.endedAtMs).toBeUndefined();
});

test('a run whose jobs take long to count is checked less often', async () => {
  const clock = fakeClock();
  const { runs } = memoryState(clock);
  await runs.begin({ id: 'request', trigger: 'request' });
  let looks = 0;
  const slow: Pick<RunReader, 'get' | 'jobs'> = {
    jobs: runs.jobs.bind(runs),
    get: async (run) => {
      await clock.sleep(1500);
      if (++looks === 3) await runs.planned(run);
      return runs.get(run);
    },
  };
  await follow('request', slow, { clock });
  expect(clock.sleeps).toEqual([1500, 15_000, 1500, 15_000, 1500]);
});
