import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { memoryTable } from '../../../worker/state/memory.ts';
import type { JobEnd, RuleProgress, Run, Runs, StateStore } from '../../../worker/state/state.ts';
import { stateOver } from '../../../worker/state/store.ts';
import type { Item, Table } from '../../../worker/state/table.ts';
import type { Event } from '../../../worker/util/events.ts';
import { manualClock, type ManualClock } from '../../support/clock.ts';
import { crashed } from '../../support/crash.ts';
import { crashingTable, slowTable } from '../../support/faulty-table.ts';
import { findJob } from '../../support/find-job.ts';

const RULE = 'nightly';
const DONE: JobEnd = { state: 'done' };
const FAILED: JobEnd = { state: 'failed', code: 'DENIED', reason: 'denied' };

/** A planner and two workers, restarted after a crash: each begins at the start, and finished work is not repeated. */
async function oneRun({ runs }: StateStore): Promise<void> {
  const progress = await runs.progress(RULE);
  if (progress?.current === undefined) await runs.beginScheduled({ id: 'run', rule: RULE, scheduledAtMs: 1 });
  const jobs = ['a', 'b', 'c'].map((id) => ({ id, title: id, body: id }));
  await runs.addJobs('run', jobs.slice(0, 2));
  await runs.addJobs('run', jobs.slice(1));
  await runs.planned('run');
  for (const { id } of jobs) {
    if ((await runs.startJob('run', id)) === undefined) continue;
    await runs.retryJob('run', id, { code: 'UNAVAILABLE', reason: 'later', dueAtMs: 0 });
    await runs.startJob('run', id);
    await runs.endJob('run', id, id === 'b' ? { state: 'skipped' } : DONE);
  }
}

interface End {
  readonly run: Run | undefined;
  readonly listed: readonly (readonly string[])[];
  readonly progress: RuleProgress | undefined;
  readonly jobs: readonly (readonly [string, string])[];
}

async function endOf({ runs }: StateStore): Promise<End> {
  const idsOf = (list: readonly Run[]): string[] => list.map(({ id }) => id);
  return {
    run: await runs.get('run'),
    listed: [idsOf(await runs.list()), idsOf(await runs.list({ rule: RULE }))],
    progress: await runs.progress(RULE),
    jobs: (await Array.fromAsync(runs.jobs('run'))).map(({ id, state }) => [id, state] as const),
  };
}

test('a job that is revived forgets what a list showed when it was planned', async () => {
  const { runs } = stateOver(memoryTable(), manualClock());
  await runs.begin({ id: 'run', trigger: 'request' });
  await runs.addJobs('run', [{ id: 'a', title: 'a', fingerprint: 'f', unreferenced: true }]);
  expect(await runs.takeJob('run', 'a', 'f')).toMatchObject({ attempt: 1, unreferenced: true });
  await runs.endJob('run', 'a', FAILED);
  await runs.reviveJob('run', 'a');
  expect(await runs.takeJob('run', 'a', 'f')).toEqual({ state: 'taken', attempt: 1, unreferenced: undefined });
});

describe('a crash', () => {
  test('between any two writes is repaired when the work is repeated', async () => {
    const clock = manualClock();
    const expected = stateOver(memoryTable(), clock);
    await oneRun(expected);
    const wanted = await endOf(expected);
    expect(wanted).toMatchObject({
      run: { endedAtMs: clock.now(), jobs: { waiting: 0, running: 0, done: 2, skipped: 1, gone: 0, failed: 0 } },
      listed: [['run'], ['run']],
      progress: { lastGoodRunAtMs: clock.now(), lastScheduledAtMs: 1 },
    });
    for (let at = 1; ; at++) {
      const table = memoryTable();
      const { table: crashing } = crashingTable(table, at);
      const hasCrashed = await crashed(oneRun(stateOver(crashing, clock)));
      const state = stateOver(table, clock);
      // a planner that finds a current run looks after it first
      const current = (await state.runs.progress(RULE))?.current?.run;
      if (current !== undefined) await state.runs.settle(current);
      if (current !== undefined || (await state.runs.get('run'))?.endedAtMs === undefined) await oneRun(state);
      expect(await endOf(state), `crashed at ${at}`).toEqual(wanted);
      if (hasCrashed) continue;
      expect(at).toBeGreaterThan(40);
      return;
    }
  });

  test('of the last worker between any two writes is repaired by settle alone', async () => {
    const clock = manualClock();
    const work = async ({ runs }: StateStore): Promise<void> => void (await runs.endJob('run', 'a', DONE));
    const before = async (table: Table): Promise<void> => {
      const { runs } = stateOver(table, clock);
      await runs.beginScheduled({ id: 'run', rule: RULE, scheduledAtMs: 1 });
      await runs.addJobs('run', [{ id: 'a', title: 'a' }]);
      await runs.planned('run');
      await runs.startJob('run', 'a');
    };
    const ends = new Set<string>();
    for (let at = 1; ; at++) {
      const table = memoryTable();
      await before(table);
      const { table: crashing } = crashingTable(table, at);
      const hasCrashed = await crashed(work(stateOver(crashing, clock)));
      const state = stateOver(table, clock);
      await state.runs.settle('run');
      const end = await endOf(state);
      ends.add(JSON.stringify(end));
      // its end is not known before a process has written it
      if (at > 1)
        expect(end).toMatchObject({ run: { endedAtMs: clock.now() }, progress: { lastGoodRunAtMs: clock.now() } });
      if (!hasCrashed) break;
    }
    expect(ends.size).toBe(2);
  });

  test.each([
    ['the next delivery of its message', true],
    ['another worker with the same job', false],
  ])('of the last worker is repaired by %s', async (_, isStarted) => {
    for (let at = 1; ; at++) {
      const clock = manualClock();
      const table = memoryTable();
      const state = stateOver(table, clock);
      await state.runs.begin({ id: 'run', trigger: 'request' });
      await state.runs.addJobs('run', [{ id: 'a', title: 'a' }]);
      await state.runs.planned('run');
      const { table: crashing } = crashingTable(table, at);
      const { runs } = stateOver(crashing, clock);
      const work = async (r: StateStore['runs']): Promise<void> => {
        if ((await r.startJob('run', 'a')) !== undefined) await r.endJob('run', 'a', DONE);
      };
      const hasCrashed = await crashed(work(runs));
      if (isStarted) await work(state.runs);
      else await state.runs.endJob('run', 'a', DONE);
      expect((await state.runs.get('run'))?.endedAtMs, `crashed at ${at}`).toBe(clock.now());
      if (!hasCrashed) return;
    }
  });

  test('of a worker that is not the last one is repaired by the next delivery of its message, while others still work', async () => {
    for (let at = 1; ; at++) {
      const clock = manualClock();
      const table = memoryTable();
      const { runs } = stateOver(table, clock);
      await runs.begin({ id: 'run', trigger: 'push' });
      await runs.addJobs('run', [
        { id: 'a', title: 'a' },
        { id: 'b', title: 'b' },
      ]);
      await runs.planned('run');
      await runs.startJob('run', 'b');
      const { table: crashing } = crashingTable(table, at);
      const work = async (r: Runs): Promise<void> => {
        if ((await r.startJob('run', 'a')) !== undefined) await r.endJob('run', 'a', DONE);
      };
      const hasCrashed = await crashed(work(stateOver(crashing, clock).runs));
      await work(runs);
      expect((await runs.get('run'))?.endedAtMs).toBeUndefined();
      await runs.endJob('run', 'b', DONE);
      expect((await runs.get('run'))?.endedAtMs, `crashed at ${at}`).toBe(clock.now());
      if (!hasCrashed) return;
    }
  });

  test('of the last worker: the end of the run is reported once, or not at all if the worker wrote it and then crashed', async () => {
    const ended = { type: 'run-ended', run: 'run', rule: RULE, failed: 0 };
    for (let at = 1; ; at++) {
      const clock = manualClock();
      const table = memoryTable();
      const events: Event[] = [];
      const report = (event: Event): void => void events.push(event);
      const { runs } = stateOver(table, clock, { report });
      await runs.begin({ id: 'run', rule: RULE, trigger: 'push' });
      await runs.addJobs('run', [{ id: 'a', title: 'a' }]);
      await runs.planned('run');
      const { table: crashing } = crashingTable(table, at);
      const work = async (r: Runs): Promise<void> => {
        if ((await r.startJob('run', 'a')) !== undefined) await r.endJob('run', 'a', DONE);
      };
      const hasCrashed = await crashed(work(stateOver(crashing, clock, { report }).runs));
      const isWritten = (await runs.get('run'))?.endedAtMs !== undefined;
      const isReported = events.length > 0;
      await work(runs);
      await runs.settle('run');
      expect(events, `crashed at ${at}`).toEqual(hasCrashed && isWritten && !isReported ? [] : [ended]);
      if (!hasCrashed) return;
    }
  });

  test('while a job is revived is repaired by settle or by reviving it again', async () => {
    for (const heal of ['settle', 'revive'] as const)
      for (let at = 1; ; at++) {
        const clock = manualClock();
        const table = memoryTable();
        const state = stateOver(table, clock);
        await state.runs.begin({ id: 'run', trigger: 'request' });
        await state.runs.addJobs('run', [{ id: 'a', title: 'a' }]);
        await state.runs.planned('run');
        await state.runs.endJob('run', 'a', FAILED);
        const { table: crashing } = crashingTable(table, at);
        const hasCrashed = await crashed(stateOver(crashing, clock).runs.reviveJob('run', 'a'));
        if (heal === 'settle') await state.runs.settle('run');
        else await state.runs.reviveJob('run', 'a');
        const job = await findJob(state.runs, 'run', 'a');
        const run = await state.runs.get('run');
        expect(run?.endedAtMs, `crashed at ${at}`).toBe(job?.state === 'waiting' ? undefined : clock.now());
        if (heal === 'revive') expect(job?.state).toBe('waiting');
        if (job?.state === 'waiting') await state.runs.endJob('run', 'a', DONE);
        expect((await state.runs.get('run'))?.endedAtMs).toBe(clock.now());
        if (!hasCrashed) break;
      }
  });
});

describe('in any order of what planners and workers do', () => {
  /** Every way in which the calls of several processes may interleave. */
  async function interleaved(
    s: fc.Scheduler,
    processes: readonly ((state: StateStore) => Promise<void>)[],
  ): Promise<{ readonly state: StateStore; readonly table: Table; readonly clock: ManualClock }> {
    const clock = manualClock();
    const table = memoryTable();
    const slow = slowTable(table, async () => s.schedule(Promise.resolve()));
    const running = Promise.all(processes.map(async (process) => process(stateOver(slow, clock))));
    await s.waitFor(running);
    return { state: stateOver(table, clock), table, clock };
  }

  const countsOf = async ({ runs }: StateStore): Promise<Record<string, number>> => {
    const counts: Record<string, number> = { waiting: 0, running: 0, done: 0, skipped: 0, gone: 0, failed: 0 };
    for await (const { state } of runs.jobs('run')) counts[state] = (counts[state] ?? 0) + 1;
    return counts;
  };

  const ids = ['a', 'b', 'c'];
  const ends = fc.array(fc.constantFrom<JobEnd>(DONE, FAILED, { state: 'skipped' }, { state: 'gone' }), {
    minLength: 3,
    maxLength: 3,
  });

  /** A worker that receives every job once it is known, however often others received it too. */
  const worker =
    (given: readonly JobEnd[]) =>
    async ({ runs }: StateStore): Promise<void> => {
      for (const [i, id] of ids.entries()) {
        while ((await findJob(runs, 'run', id)) === undefined);
        if ((await runs.startJob('run', id)) === undefined) continue;
        await runs.endJob('run', id, given[i] ?? DONE);
      }
    };

  test('a run ends by itself, once, with every job counted once', async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), ends, ends, fc.boolean(), async (s, one, two, isSettled) => {
        const planner = async ({ runs }: StateStore): Promise<void> => {
          const run = await runs.beginScheduled({ id: 'run', rule: RULE, scheduledAtMs: 1 });
          if (run === undefined) return;
          for (const id of ids) await runs.addJobs('run', [{ id, title: id }]);
          await runs.planned('run');
        };
        const settler = async ({ runs }: StateStore): Promise<void> => {
          while ((await runs.progress(RULE)) === undefined);
          for (let i = 0; i < 3; i++) await runs.settle('run');
        };
        const { state, clock } = await interleaved(s, [
          planner,
          planner,
          worker(one),
          worker(two),
          ...(isSettled ? [settler] : []),
        ]);
        const run = await state.runs.get('run');
        const counts = await countsOf(state);
        expect(run).toMatchObject({ endedAtMs: clock.now(), jobs: counts });
        expect(Object.values(counts).reduce((sum, n) => sum + n)).toBe(3);
        const lastGoodRunAtMs = counts['failed'] === 0 ? run?.startedAtMs : undefined;
        expect(await state.runs.progress(RULE)).toMatchObject({ rule: RULE, lastScheduledAtMs: 1, lastGoodRunAtMs });
      }),
      { numRuns: 150 },
    );
  });

  test('a job that is revived while others end is waited for', async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), async (s) => {
        const begin = async ({ runs }: StateStore): Promise<void> => {
          await runs.begin({ id: 'run', trigger: 'request' });
          await runs.addJobs(
            'run',
            ids.map((id) => ({ id, title: id })),
          );
          await runs.planned('run');
          await runs.endJob('run', 'a', FAILED);
          await runs.endJob('run', 'b', DONE);
          await runs.endJob('run', 'c', DONE);
        };
        const reviver = async ({ runs }: StateStore): Promise<void> => {
          while ((await findJob(runs, 'run', 'a'))?.state !== 'failed');
          await runs.reviveJob('run', 'a');
        };
        const { state, clock } = await interleaved(s, [begin, reviver]);
        expect((await state.runs.get('run'))?.endedAtMs).toBeUndefined();
        await state.runs.endJob('run', 'a', DONE);
        const jobs = { waiting: 0, running: 0, done: 3, skipped: 0, gone: 0, failed: 0 };
        expect(await state.runs.get('run')).toMatchObject({ endedAtMs: clock.now(), jobs });
      }),
      { numRuns: 150 },
    );
  });
});

describe('a lost answer', () => {
  test('to any write, which is then repeated, leaves no run open whose jobs have all ended', async () => {
    for (let at = 1; ; at++) {
      const clock = manualClock();
      const table = memoryTable();
      let writes = 0;
      const deaf: Table = {
        ...table,
        update: async (key, change, expected, o) => {
          writes++;
          if (writes === at) await table.update(key, change, expected, o);
          return table.update(key, change, expected, o);
        },
      };
      await oneRun(stateOver(deaf, clock));
      const { run, progress } = await endOf(stateOver(table, clock));
      expect(run, `write ${at}`).toMatchObject({ endedAtMs: clock.now(), jobs: { done: 2, skipped: 1 } });
      expect(progress).toMatchObject({ lastGoodRunAtMs: clock.now() });
      if (writes < at) return;
    }
  });
});

describe('between any two steps of one process', () => {
  const jobs = ['a', 'b', 'c'].map((id) => ({ id, title: id }));
  const step = (name: string, run: (runs: Runs, table: Table) => Promise<unknown>): Step => [name, run];
  type Step = readonly [name: string, run: (runs: Runs, table: Table) => Promise<unknown>];

  /** The progress of a run with the jobs a and b. */
  const begun: readonly Step[] = [
    step('a run with one job left', async (runs) => runs.endJob('run', 'a', FAILED)),
    step('a run with one job left, whose planner crashed', async (runs, table) => {
      // it crashes before it adds the job to the run
      const { runs: dying } = stateOver(crashingTable(table, 3).table, manualClock());
      expect(await crashed(dying.addJobs('run', [{ id: 'c', title: 'c' }]))).toBe(true);
      await runs.endJob('run', 'a', FAILED);
      await runs.endJob('run', 'c', DONE);
    }),
    step('a run that knows of too few jobs', async (_, table) => {
      const { runs: dying } = stateOver(crashingTable(table, 3).table, manualClock());
      expect(await crashed(dying.addJobs('run', [{ id: 'c', title: 'c' }]))).toBe(true);
    }),
    step('a run that ended', async (runs) => {
      await runs.endJob('run', 'a', FAILED);
      await runs.endJob('run', 'b', DONE);
    }),
  ];
  const steps: readonly Step[] = [
    step('endJob', async (runs) => runs.endJob('run', 'b', DONE)),
    step('settle', async (runs) => runs.settle('run')),
    step('planned', async (runs) => runs.planned('run')),
    step('reviveJob', async (runs) => runs.reviveJob('run', 'a')),
    step('addJobs', async (runs) => runs.addJobs('run', jobs)),
    step('addJobs, dying', async (_, table) => {
      const { runs: dying } = stateOver(crashingTable(table, 7).table, manualClock());
      await crashed(dying.addJobs('run', jobs));
    }),
    step('declareDead', async (runs) => runs.declareDead('run')),
  ];

  const openOf = async (runs: Runs): Promise<readonly string[]> =>
    (await Array.fromAsync(runs.jobs('run')))
      .filter(({ state }) => state === 'waiting' || state === 'running')
      .map(({ id }) => id);

  test.each(steps)('%s: whatever another process does, the run ends with its last job', async (name, one) => {
    for (const [setUp, prepare] of begun)
      for (const isPlannedFirst of [true, false])
        for (const [between, another] of steps)
          for (let at = 1; ; at++) {
            const clock = manualClock();
            const table = memoryTable();
            const { runs } = stateOver(table, clock);
            await runs.beginScheduled({ id: 'run', rule: RULE, scheduledAtMs: 1 });
            await runs.addJobs('run', jobs.slice(0, 2));
            if (isPlannedFirst) await runs.planned('run');
            await prepare(runs, table);
            let points = 0;
            const slow = slowTable(table, async () => {
              points++;
              if (points === at) await another(runs, table);
            });
            await one(stateOver(slow, clock).runs, slow);
            if (points < at) break;
            // where a planner crashed another finishes its work; otherwise nothing helps
            const hasDied = [setUp, name, between].some((it) => it.includes('crashed') || it.includes('dying'));
            const open = hasDied ? await runs.addJobs('run', jobs) : await openOf(runs);
            if ((await runs.get('run'))?.plannedAtMs === undefined) await runs.planned('run');
            for (const id of open) {
              expect((await runs.get('run'))?.endedAtMs === undefined || (await runs.get('run'))?.dead).toBe(true);
              await runs.endJob('run', id, DONE);
            }
            const run = await runs.get('run');
            const states = (await Array.fromAsync(runs.jobs('run'))).map(({ state }) => state);
            const { done = [], failed = [] } = Object.groupBy(states, (state) => state);
            expect(done.length + failed.length).toBe(states.length);
            const counts = { waiting: 0, running: 0, done: done.length, skipped: 0, gone: 0, failed: failed.length };
            const message = `${setUp}, ${isPlannedFirst ? 'planned, ' : ''}${between} at ${at}`;
            expect(run, message).toMatchObject({ endedAtMs: clock.now(), jobs: counts });
            expect((await table.get({ pk: 'RUN#run', sk: 'RUN' }))?.['failed'], message).toBe(failed.length);
            const lastGoodRunAtMs = failed.length === 0 && run?.dead !== true ? clock.now() : undefined;
            expect(await runs.progress(RULE), message).toMatchObject({
              rule: RULE,
              lastScheduledAtMs: 1,
              lastGoodRunAtMs,
            });
          }
  });
});

describe('a large run', () => {
  test('of 10,000 jobs is planned, done and counted with few writes each', async () => {
    const clock = manualClock();
    const table = memoryTable();
    let updates = 0;
    let read = 0;
    const counting: Table = {
      ...table,
      updateAll: async (changes, o) => {
        updates++;
        return table.updateAll(changes, o);
      },
      update: async (key, change, expected, o) => {
        updates++;
        return table.update(key, change, expected, o);
      },
      query: async function* (pk, o) {
        for await (const item of table.query(pk, o)) {
          read++;
          yield item;
        }
      },
    };
    const { runs } = stateOver(counting, clock);
    const ids = Array.from({ length: 10_000 }, (_, i) => `job-${i}`);
    await runs.begin({ id: 'run', trigger: 'request' });
    for (let at = 0; at < ids.length; at += 1000) {
      const some = ids.slice(at, at + 1000).map((id) => ({ id, title: id }));
      expect((await runs.addJobs('run', some)).size).toBe(1000);
    }
    await runs.planned('run');
    for (const id of ids) {
      await runs.startJob('run', id);
      await runs.endJob('run', id, DONE);
    }
    expect(updates).toBeLessThan(3 * ids.length + 150);
    expect(read).toBe(ids.length);
    expect(await runs.get('run')).toMatchObject({ endedAtMs: clock.now(), jobs: { done: 10_000 } });
    expect(read).toBe(ids.length);
  });
});

describe('items', () => {
  test('of runs, of their jobs and of lists expire together, 90 days on; rules and their progress never', async () => {
    const clock = manualClock();
    const table = memoryTable();
    const state = stateOver(table, clock);
    await oneRun(state);
    await state.rules.put({ name: RULE, document: '{}' }, 0);
    const all: Item[] = [];
    for (const pk of ['RUN#run', 'RUNS', `RULE#${RULE}`, 'RULES'])
      all.push(...(await Array.fromAsync(table.query(pk))));
    const expiring = all.filter((item) => item['ttl'] === clock.now() / 1000 + 90 * 24 * 3600);
    expect(expiring).toHaveLength(1 + 3 + 2);
    const staying = all.filter((item) => item['ttl'] === undefined).map(({ pk, sk }) => `${pk} ${sk}`);
    expect(staying).toEqual([`RULE#${RULE} PROGRESS`, `RULES RULE#${RULE}`]);
  });
});
