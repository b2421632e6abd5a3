import { expect, test } from 'vitest';
import { follow } from '../../../worker/operations/enqueue.ts';
import { memoryState } from '../../../worker/state/memory.ts';
import { fakeClock } from '../../support/clock.ts';

test('who follows a run whose planning failed for good is told so, and does not wait for ever', async () => {
  const clock = fakeClock();
  const { runs } = memoryState(clock);
  await runs.begin({ id: 'request', rule: 'rule', trigger: 'request' });
  await runs.addJobs('request', [{ id: 'plan-1', title: 'plan rule' }]);
  await runs.startJob('request', 'plan-1');
  await runs.endJob('request', 'plan-1', { state: 'failed', code: 'UNAVAILABLE', reason: 'nothing answers' });
  const signal = AbortSignal.timeout(5000);
  const { run, failed } = await follow('request', runs, { clock, signal });
  expect(failed).toMatchObject([{ id: 'plan-1', reason: 'nothing answers' }]);
  expect(run.endedAtMs).toBeUndefined();
});
