import { expect, test } from 'vitest';
import { formatJob, jobId, type CopyJob } from '../../../../worker/queue/job.ts';
import { redrive } from '../../../../worker/service/admin/redrive.ts';
import { newJob } from '../../../../worker/service/planner/run-jobs.ts';
import { memoryState } from '../../../../worker/state/memory.ts';
import { fakeClock } from '../../../support/clock.ts';
import { MemoryQueue } from '../../../support/memory-queue.ts';
import { findJob } from '../../../support/find-job.ts';

type Parts = ReturnType<typeof parts>;

function parts() {
  const clock = fakeClock();
  return {
    clock,
    state: memoryState(clock),
    queue: new MemoryQueue({ clock }),
    deadLetters: new MemoryQueue({ clock }),
  };
}

function job(run: string, tag: string): CopyJob {
  const from = `docker://a.example/app:${tag}`;
  const at = '2026-01-01T00:00:00Z';
  return {
    version: 1,
    kind: 'mirror',
    id: jobId(run, from),
    run,
    rule: 'rule',
    at,
    from,
    to: [`docker://b.example/app:${tag}`],
  };
}

/** A job that failed permanently. */
async function bury(t: Parts, run: string, tag: string): Promise<CopyJob> {
  const dead = job(run, tag);
  await t.state.runs.begin({ id: run, rule: 'rule', trigger: 'request' });
  await t.state.runs.addJobs(run, [newJob(dead, { title: tag }).record]);
  await t.state.runs.planned(run);
  await t.state.runs.endJob(run, dead.id, { state: 'failed', code: 'DENIED', reason: 'no' });
  await t.deadLetters.send([{ body: formatJob(dead), reason: 'DENIED: no' }]);
  return dead;
}

test('a job that the state does not have stays, because workers refuse it', async () => {
  const t = parts();
  const body = formatJob(job('forgotten', 'v1'));
  await t.deadLetters.send([{ body, reason: 'DENIED: no' }]);
  const known = await bury(t, 'run', 'v2');
  expect(await redrive({}, t, {})).toMatchObject({ redriven: 1, left: 1 });
  expect(await findJob(t.state.runs, 'run', known.id)).toMatchObject({ state: 'waiting' });
  expect(t.deadLetters.bodies).toEqual([body]);
});

test('a push that could not be planned is also sent back', async () => {
  const t = parts();
  const body = JSON.stringify({
    'detail-type': 'ECR Image Action',
    id: 'e1',
    account: '111111111111',
    region: 'us-east-1',
    time: '2026-01-01T00:00:00Z',
    detail: {
      'action-type': 'PUSH',
      result: 'SUCCESS',
      'repository-name': 'app',
      'image-digest': `sha256:${'0'.repeat(64)}`,
      'image-tag': 'v1',
    },
  });
  await t.deadLetters.send([{ body, reason: 'DENIED: no' }]);
  expect(await redrive({ rule: 'other' }, t, {})).toMatchObject({ redriven: 0, left: 1 });
  expect(await redrive({}, t, {})).toMatchObject({ redriven: 1, left: 0 });
  expect(t.queue.bodies).toEqual([body]);
});

test('a message that is not a job stays', async () => {
  const t = parts();
  await t.deadLetters.send([{ body: 'restart the machine', reason: 'INVALID: message is no JSON' }]);
  await bury(t, 'run', 'v1');
  expect(await redrive({}, t, {})).toMatchObject({ redriven: 1, left: 1 });
  expect(t.deadLetters.bodies).toEqual(['restart the machine']);
});

test('ends even when the messages that stay are visible again before all were seen', async () => {
  const t = parts();
  await t.deadLetters.send(Array.from({ length: 25 }, (_, i) => ({ body: `letter ${i}` })));
  const deadLetters = {
    name: 'slow',
    send: t.deadLetters.send.bind(t.deadLetters),
    count: t.deadLetters.count.bind(t.deadLetters),
    receive: async (...args: Parameters<typeof t.deadLetters.receive>) => {
      await t.clock.sleep(20_000);
      return t.deadLetters.receive(...args);
    },
  };
  const signal = AbortSignal.timeout(60_000);
  expect(await redrive({}, { ...t, deadLetters }, { signal })).toMatchObject({ redriven: 0 });
});

test('loses nothing when it is stopped in the middle, and continues the next time', async () => {
  const t = parts();
  for (const tag of ['v1', 'v2', 'v3']) await bury(t, `run-${tag}`, tag);
  const stop = new AbortController();
  let sent = 0;
  const queue = {
    name: 'stopping',
    receive: t.queue.receive.bind(t.queue),
    count: t.queue.count.bind(t.queue),
    send: async (...args: Parameters<typeof t.queue.send>) => {
      await t.queue.send(...args);
      if (++sent === 2) stop.abort();
    },
  };
  await expect(redrive({}, { ...t, queue }, { signal: stop.signal })).rejects.toMatchObject({ code: 'ABORTED' });
  await t.clock.sleep(60_000);
  await redrive({}, t, {});
  expect(new Set(t.queue.bodies).size).toBe(3);
  expect(t.deadLetters.bodies).toEqual([]);
});
