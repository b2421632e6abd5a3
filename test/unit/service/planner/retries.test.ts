import { expect, test } from 'vitest';
import { formatJob, type CopyJob } from '../../../../worker/queue/job.ts';
import { Retries } from '../../../../worker/service/planner/retries.ts';
import { memoryTable } from '../../../../worker/state/memory.ts';
import { stateOver } from '../../../../worker/state/store.ts';
import { manualClock } from '../../../support/clock.ts';

test('a job under retry that stores no settings does not count as one that stores them', async () => {
  const clock = manualClock();
  const { runs } = stateOver(memoryTable(), clock);
  const { startedAtMs } = await runs.begin({ id: 'first', rule: 'bk', trigger: 'schedule' });
  const at = new Date(startedAtMs).toISOString();
  const job: CopyJob = {
    version: 1,
    kind: 'backup',
    id: 'job-1',
    run: 'first',
    rule: 'bk',
    at,
    from: 'docker://registry.test/app:v1',
    to: ['s3://bucket/app/v1.tar'],
    settings: false,
  };
  await runs.addJobs('first', [{ id: job.id, title: 'v1', rule: 'bk', body: formatJob(job) }]);
  await runs.startJob('first', job.id);
  await runs.retryJob('first', job.id, { code: 'UNAVAILABLE', reason: 'later', dueAtMs: clock.now() });
  const retries = new Retries('bk', { id: 'second', startedAtMs }, runs);
  expect(await retries.find({ ...job, run: 'second', settings: undefined }, {})).toBeUndefined();
  expect(await retries.find({ ...job, run: 'second' }, {})).toMatchObject({ id: job.id });
});
