import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { jobId } from '../../worker/queue/job.ts';
import { digestOf } from '../../worker/oci/digest.ts';
import type { DestinationKey, JobEnd, Lease, Run, StateStore, SyncRecord } from '../../worker/state/state.ts';
import { spreadId } from '../../worker/state/spread-jobs.ts';
import type { ManualClock } from '../support/clock.ts';
import { findJob } from '../support/find-job.ts';

interface StateUnderTest extends AsyncDisposable {
  readonly clock: ManualClock;
  /** The same state, empty at first, as another process sees it. */
  open(): StateStore;
}

const KEY: DestinationKey = { group: 'docker://registry.example/team/app', name: 'v1' };
const DONE: JobEnd = { state: 'done' };
const FAILED: JobEnd = { state: 'failed', code: 'DENIED', reason: 'push manifest: denied' };
const NONE = { waiting: 0, running: 0, done: 0, skipped: 0, gone: 0, failed: 0 };
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

function recordOf(more: Partial<SyncRecord> = {}): SyncRecord {
  return {
    ...KEY,
    source: 'docker://source.example/app:v1',
    sourceDigest: digestOf(Buffer.from('source')),
    digest: digestOf(Buffer.from('destination')),
    choices: '{}',
    bytes: 1234,
    atMs: 1_700_000_000_000,
    run: 'run-1',
    ...more,
  };
}

/** What every StateStore promises. `make` is called before each test. */
export function stateSuite(what: string, make: () => Promise<StateUnderTest>): void {
  describe(`${what} as a state`, () => {
    let made: StateUnderTest;
    let clock: ManualClock;
    /** Two processes. */
    let state: StateStore;
    let other: StateStore;
    const leases: Lease[] = [];

    beforeEach(async () => {
      made = await make();
      ({ clock } = made);
      state = made.open();
      other = made.open();
    });
    afterEach(async () => {
      await Promise.all(leases.splice(0).map(async (lease) => lease[Symbol.asyncDispose]()));
      expect(clock.sleeping).toBe(0);
      await made[Symbol.asyncDispose]();
    });

    const lock = async (at: StateStore, key: DestinationKey = KEY): Promise<Lease | undefined> => {
      const lease = await at.destinations.lock(key, 60);
      if (lease !== undefined) leases.push(lease);
      return lease;
    };
    const locked = async (at: StateStore = state, key: DestinationKey = KEY): Promise<Lease> => {
      const lease = await lock(at, key);
      if (lease === undefined) throw new Error(`${key.name} is locked`);
      return lease;
    };
    const release = async (lease: Lease): Promise<void> => lease[Symbol.asyncDispose]();
    const remember = async (record: SyncRecord): Promise<void> => {
      const lease = await locked(state, record);
      await state.destinations.record(record, lease);
      await release(lease);
    };
    const idsOf = (runs: readonly Run[]): string[] => runs.map((run) => run.id);
    const jobsNamed = (count: number, from = 1): { id: string; title: string }[] =>
      Array.from({ length: count }, (_, i) => ({ id: `job-${from + i}`, title: `copy ${from + i}` }));

    describe('destinations', () => {
      test('records are found again, by any process, and replaced as a whole', async () => {
        expect(await state.destinations.get(KEY)).toBeUndefined();
        const lease = await locked();
        expect(await other.destinations.get(KEY)).toBeUndefined();
        const first = recordOf({
          version: 'v-1',
          rule: 'nightly',
          manifests: ['0123456789abcdef', 'fedcba9876543210'],
        });
        await state.destinations.record(first, lease);
        expect(await other.destinations.get(KEY)).toEqual(first);
        const second = recordOf({ bytes: 0, run: 'run-2', manifests: [] });
        await state.destinations.record(second, await locked());
        expect(await other.destinations.get(KEY)).toEqual(second);
        await release(lease);
        expect(await other.destinations.get(KEY)).toEqual(second);
      });

      test('a group is listed in order of the bytes of its names, and nothing else', async () => {
        const group = 's3://bucket/folder';
        const names = ['v1.tar', 'V1.tar', 'v10.tar', 'a b.tar', 'ä.tar', '\u{1F600}.tar', '\uFF5E.tar', '@sha256:00'];
        for (const name of names) await remember(recordOf({ group, name }));
        await remember(recordOf({ group: `${group}/deeper`, name: 'x' }));
        await locked(state, { group, name: 'has no record yet' });
        const listed = await Array.fromAsync(other.destinations.list(group));
        expect(listed.map((record) => record.name)).toEqual(
          names.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))),
        );
        expect(await Array.fromAsync(other.destinations.list('s3://bucket'))).toEqual([]);
      });

      test('the time when a destination was looked at is kept with its record, and not with a later record', async () => {
        const first = recordOf({});
        await remember(first);
        await other.destinations.looked(first, first.atMs + 1000);
        const looked = { ...first, lookedAtMs: first.atMs + 1000 };
        expect(await state.destinations.get(KEY)).toEqual(looked);
        expect(await Array.fromAsync(state.destinations.list(KEY.group))).toEqual([looked]);
        const second = recordOf({ run: 'run-2' });
        await remember(second);
        expect(await state.destinations.get(KEY)).toEqual(second);
        await state.destinations.looked(first, first.atMs + 2000);
        expect(await state.destinations.get(KEY)).toEqual(second);
      });

      test('a list of manifests that is too long for an item is not kept', async () => {
        const manifests = Array.from({ length: 20_000 }, (_, i) => String(i).padStart(16, '0'));
        const record = recordOf({ manifests });
        await remember(record);
        expect(await state.destinations.get(KEY)).toEqual({ ...record, manifests: undefined });
      });

      test('remember a dead letter for each cause until they are recorded again', async () => {
        const { destinations } = state;
        const [denied, conflict] = [
          { cause: 'DENIED', job: 'job-1', atMs: 1 },
          { cause: 'CONFLICT', job: 'job-1', atMs: 2 },
        ];
        const later = { cause: 'DENIED', job: 'job-2', atMs: 3 };
        const lease = await locked();
        for (const letter of [denied, conflict, later]) await destinations.addLetter(KEY, letter, lease);
        expect(await other.destinations.letters(KEY)).toEqual([conflict, later]);
        // no record yet
        expect(await destinations.get(KEY)).toBeUndefined();
        await destinations.record(recordOf(), lease);
        expect(await destinations.letters(KEY)).toEqual([]);
        expect(await destinations.get(KEY)).toEqual(recordOf());
        const next = await locked();
        await destinations.addLetter(KEY, denied, next);
        expect(await Array.fromAsync(other.destinations.list(KEY.group))).toEqual([recordOf({ failing: true })]);
        await other.destinations.forgetLetters(KEY, 'job-2');
        expect(await destinations.letters(KEY)).toEqual([denied]);
        await other.destinations.forgetLetters(KEY, 'job-1');
        expect(await destinations.get(KEY)).toEqual(recordOf());
        await release(next);
        await expect(destinations.addLetter(KEY, denied, next)).rejects.toMatchObject({ code: 'CONFLICT' });
      });

      test('names that no table accepts are refused', async () => {
        const invalid = { code: 'INVALID' };
        await expect(state.destinations.get({ group: 'g', name: '' })).rejects.toMatchObject(invalid);
        await expect(lock(state, { group: 'g', name: 'x'.repeat(1025) })).rejects.toMatchObject(invalid);
        await expect(lock(state, { group: 'g'.repeat(2048), name: 'x' })).rejects.toMatchObject(invalid);
        expect(await locked(state, { group: 'g'.repeat(2000), name: 'ü'.repeat(512) })).toBeDefined();
      });
    });

    describe('a lease', () => {
      test('is held by one process at a time, with a greater fence each time', async () => {
        const first = await locked();
        expect(first.name).toBe('docker://registry.example/team/app:v1');
        expect(first.signal.aborted).toBe(false);
        expect(await lock(state)).toBeUndefined();
        expect(await lock(other)).toBeUndefined();
        const beside = await locked(other, { ...KEY, name: 'v2' });
        expect(beside.signal.aborted).toBe(false);
        await release(first);
        await release(first);
        const second = await locked(other);
        expect(second.fence).toBeGreaterThan(first.fence);
        expect(first.signal.aborted).toBe(false);
      });

      test('is acquired by one of many processes that ask at once', async () => {
        for (let round = 1; round <= 3; round++) {
          const asked = await Promise.all(
            Array.from({ length: 20 }, async (_, i) => lock(i % 2 === 0 ? state : other)),
          );
          const [lease, ...more] = asked.filter((it) => it !== undefined);
          expect(more).toEqual([]);
          expect(lease?.fence).toBe(round);
          await lease?.[Symbol.asyncDispose]();
        }
      });

      test('keeps the record of its destination', async () => {
        const record = recordOf();
        await remember(record);
        await locked();
        expect(await other.destinations.get(KEY)).toEqual(record);
      });

      test('shows the record that existed when it was acquired', async () => {
        const first = await locked();
        expect(state.destinations.foundBy(first, KEY)).toBeUndefined();
        await state.destinations.record(recordOf(), first);
        expect(state.destinations.foundBy(first, KEY)).toBeUndefined();
        await release(first);
        const second = await locked(other);
        expect(other.destinations.foundBy(second, KEY)).toEqual(recordOf());
        expect(() => other.destinations.foundBy(second, { ...KEY, name: 'v2' })).toThrow(
          'its lease is that of another destination',
        );
      });

      test('is released by the write that records, and records nothing afterwards', async () => {
        const first = await locked();
        await state.destinations.record(recordOf(), first);
        expect(first.signal.aborted).toBe(false);
        const second = await locked(other);
        expect(other.destinations.foundBy(second, KEY)).toEqual(recordOf());
        const later = state.destinations.record(recordOf({ run: 'run-2' }), first);
        await expect(later).rejects.toMatchObject({ code: 'CONFLICT' });
        await release(first);
        expect(await lock(state)).toBeUndefined();
      });

      test('records nothing once it is released', async () => {
        const lease = await locked();
        await release(lease);
        await expect(state.destinations.record(recordOf(), lease)).rejects.toMatchObject({ code: 'CONFLICT' });
        await locked(other);
        await expect(state.destinations.record(recordOf(), lease)).rejects.toMatchObject({ code: 'CONFLICT' });
        expect(await state.destinations.get(KEY)).toBeUndefined();
      });

      test('refuses the record of another destination as a bug', async () => {
        const lease = await locked();
        const record = recordOf({ name: 'v2' });
        await expect(state.destinations.record(record, lease)).rejects.toMatchObject({ code: 'BUG' });
      });

      test('works alike, and beside it, for a name that is not a destination', async () => {
        await using lease = await state.lock(KEY.name, 60);
        expect(lease).toMatchObject({ name: KEY.name, fence: 1 });
        expect(await other.lock(KEY.name, 60)).toBeUndefined();
        await locked();
      });

      test('is visible to others while it may be held, by its name or in its group', async () => {
        const seen = async (): Promise<readonly boolean[]> =>
          Promise.all([
            other.findLocked(['prune/b', 'prune/a']).then((name) => name === 'prune/a'),
            other.destinations.isWritten(KEY.group),
          ]);
        expect(await seen()).toEqual([false, false]);
        const named = await state.lock('prune/a', 60);
        if (named !== undefined) leases.push(named);
        const held = await lock(state);
        expect(await seen()).toEqual([true, true]);
        expect(await other.findLocked(['prune/b'])).toBeUndefined();
        expect(await other.findLocked([])).toBeUndefined();
        expect(await other.destinations.isWritten(`${KEY.group}/more`)).toBe(false);
        await named?.[Symbol.asyncDispose]();
        await held?.[Symbol.asyncDispose]();
        expect(await seen()).toEqual([false, false]);
      });

      test('is not acquired once the signal is aborted', async () => {
        const options = { signal: AbortSignal.abort() };
        await expect(state.destinations.lock(KEY, 60, options)).rejects.toMatchObject({ code: 'ABORTED' });
        await locked();
      });
    });

    describe('rules', () => {
      test('are listed in order of names, with their documents', async () => {
        expect(await state.rules.list()).toEqual([]);
        const atMs = clock.now();
        await state.rules.put({ name: 'b', document: '{"b":1}' }, 0);
        await clock.advance(1000);
        await other.rules.put({ name: 'a', document: '{"a":1}' }, 0);
        expect(await state.rules.list()).toEqual([
          { name: 'a', document: '{"a":1}', appliedAtMs: atMs + 1000, revision: 1 },
          { name: 'b', document: '{"b":1}', appliedAtMs: atMs, revision: 1 },
        ]);
      });

      test('change only with the latest revision', async () => {
        const conflict = { code: 'CONFLICT' };
        const put = async (document: string, revision: number): Promise<number> =>
          (await other.rules.put({ name: 'a', document }, revision)).revision;
        expect(await put('1', 0)).toBe(1);
        await expect(put('2', 0)).rejects.toMatchObject(conflict);
        expect(await put('2', 1)).toBe(2);
        await expect(put('3', 1)).rejects.toMatchObject(conflict);
        await expect(put('3', 3)).rejects.toMatchObject(conflict);
        await expect(state.rules.remove('a', 1)).rejects.toMatchObject(conflict);
        expect((await state.rules.list()).map((rule) => rule.document)).toEqual(['2']);
      });

      test('accept one of many changes made at once', async () => {
        await state.rules.put({ name: 'a', document: '0' }, 0);
        const changes = await Promise.allSettled(
          Array.from({ length: 10 }, async (_, i) => state.rules.put({ name: 'a', document: String(i) }, 1)),
        );
        expect(changes.filter((change) => change.status === 'fulfilled')).toHaveLength(1);
      });

      test('stay deleted, and are not restored by a change that names an older revision', async () => {
        await state.rules.put({ name: 'a', document: '1' }, 0);
        await other.rules.remove('a', 1);
        await other.rules.remove('a', 1);
        await other.rules.remove('never there', 7);
        expect(await state.rules.list()).toEqual([]);
        await expect(state.rules.put({ name: 'a', document: '2' }, 1)).rejects.toMatchObject({ code: 'CONFLICT' });
        const again = await state.rules.put({ name: 'a', document: '3' }, 0);
        expect(again.revision).toBeGreaterThan(1);
        await expect(other.rules.remove('a', 1)).rejects.toMatchObject({ code: 'CONFLICT' });
        expect(await state.rules.list()).toEqual([again]);
      });

      test('may be long, and are refused where they are too long for an item', async () => {
        const document = 'ü'.repeat(150 * 1024);
        await state.rules.put({ name: 'a', document }, 0);
        expect((await other.rules.list())[0]?.document).toBe(document);
        for (const name of ['b', 'c', 'd', 'e']) await state.rules.put({ name, document }, 0);
        expect(await other.rules.list()).toHaveLength(5);
        const long = state.rules.put({ name: 'a', document: `${document}!` }, 1);
        await expect(long).rejects.toMatchObject({ code: 'INVALID' });
      });

      test('access is kept beside them', async () => {
        expect(await state.rules.access()).toBeUndefined();
        await state.rules.putAccess('{"a":{}}', 0);
        expect(await other.rules.access()).toEqual({ document: '{"a":{}}', revision: 1 });
        await expect(other.rules.putAccess('{}', 0)).rejects.toMatchObject({ code: 'CONFLICT' });
        await other.rules.putAccess('{}', 1);
        expect(await state.rules.access()).toEqual({ document: '{}', revision: 2 });
        expect(await state.rules.list()).toEqual([]);
      });
    });

    describe('runs', () => {
      const begin = async (id = 'run-1'): Promise<Run> => state.runs.begin({ id, trigger: 'request' });
      const scheduled = async (id: string, scheduledAtMs: number, replacing?: string): Promise<Run | undefined> =>
        state.runs.beginScheduled({ id, rule: 'nightly', scheduledAtMs, replacing });
      const runOf = async (id = 'run-1'): Promise<Run> => {
        const run = await other.runs.get(id);
        if (run === undefined) throw new Error(`there is no run ${id}`);
        expect((await other.runs.list()).find((listed) => listed.id === id)).toEqual(run);
        return run;
      };
      const work = async (job: string, end: JobEnd = DONE, id = 'run-1'): Promise<void> => {
        await state.runs.startJob(id, job);
        await state.runs.endJob(id, job, end);
      };

      test('begin once', async () => {
        expect(await state.runs.get('run-1')).toBeUndefined();
        const run = await state.runs.begin({ id: 'run-1', rule: 'pushed', trigger: 'push' });
        expect(run).toEqual({
          id: 'run-1',
          rule: 'pushed',
          trigger: 'push',
          startedAtMs: clock.now(),
          unchanged: 0,
          unseen: 0,
          jobs: NONE,
        });
        await state.runs.addJobs('run-1', jobsNamed(1));
        await clock.advance(1000);
        const again = await other.runs.begin({ id: 'run-1', rule: 'pushed', trigger: 'push' });
        expect(again).toEqual({ ...run, jobs: { ...NONE, waiting: 1 } });
        expect(await runOf()).toEqual(again);
        expect(await state.runs.progress('pushed')).toBeUndefined();
      });

      test('are listed newest first, of all rules or of one', async () => {
        for (const [id, rule] of [
          ['z', 'one'],
          ['a', 'two'],
          ['m', 'one'],
          ['b', undefined],
        ] as const) {
          await state.runs.begin({ id, rule, trigger: 'request' });
          await clock.advance(1);
        }
        expect(idsOf(await other.runs.list())).toEqual(['b', 'm', 'a', 'z']);
        expect(idsOf(await other.runs.list({ limit: 2 }))).toEqual(['b', 'm']);
        expect(idsOf(await other.runs.list({ rule: 'one' }))).toEqual(['m', 'z']);
        expect(idsOf(await other.runs.list({ rule: 'one', limit: 1 }))).toEqual(['m']);
        expect(await other.runs.list({ rule: 'three' })).toEqual([]);
      });

      test('are listed while they have not ended, among those that ended, and again once revived', async () => {
        const unended = async (sinceMs = 0): Promise<readonly string[]> =>
          idsOf(await other.runs.list({ unendedSinceMs: sinceMs }));
        for (const id of ['run-1', 'run-2', 'run-3', 'run-4']) {
          await begin(id);
          await state.runs.addJobs(id, jobsNamed(1));
          if (id !== 'run-2') await state.runs.planned(id);
          await clock.advance(1000);
        }
        await work('job-1', FAILED, 'run-3');
        await state.runs.declareDead('run-4');
        expect(await unended()).toEqual(['run-2', 'run-1']);
        expect(await unended(clock.now() - 3000)).toEqual(['run-2']);
        await state.runs.reviveJob('run-3', 'job-1');
        expect(await unended()).toEqual(['run-3', 'run-2', 'run-1']);
        expect(await other.runs.list()).toHaveLength(4);
      });

      test('are found with what changed while they may have open jobs, including dead ones', async () => {
        const sinceMs = clock.now();
        for (const id of ['ended', 'dead', 'open']) await state.runs.begin({ id, trigger: 'request' });
        const job = { id: jobId('job'), title: 'a job' };
        await state.runs.addJobs('ended', [job]);
        await state.runs.endJob('ended', job.id, FAILED);
        await state.runs.planned('ended');
        await state.runs.declareDead('dead');
        const found = async (): Promise<ReadonlyMap<string, number>> =>
          new Map((await other.runs.open(sinceMs)).map(({ id, epoch }) => [id, epoch]));
        const before = await found();
        expect([...before.keys()].sort()).toEqual(['dead', 'open']);
        await state.runs.addJobs('open', [job]);
        await state.runs.reviveJob('ended', job.id);
        const after = await found();
        expect([...after.keys()].sort()).toEqual(['dead', 'ended', 'open']);
        expect(after.get('open')).toBeGreaterThan(before.get('open') ?? Infinity);
        expect(after.get('dead')).toBe(before.get('dead'));
        expect(await other.runs.open(clock.now() + 1)).toEqual([]);
      });

      test('add up what they are about to delete', async () => {
        await state.runs.begin({ id: 'run', trigger: 'request' });
        expect((await other.runs.get('run'))?.deletes).toBeUndefined();
        await state.runs.addDeletes('run', 30);
        await other.runs.addDeletes('run', -10);
        expect(await state.runs.get('run')).toMatchObject({ deletes: 20 });
      });

      test('gather pushes that many workers add at once, and none after they are closed', async () => {
        const add = async (id: string, of: StateStore = state): Promise<string> => {
          const place = 'host.example/app';
          const group = { rule: 'pushed', place, run: `run-${id}`, untilMs: clock.now() + 30_000 };
          const push = { id, registry: 'host.example', repository: 'app', tag: 'v1', digest: `sha256:${id}` };
          return (await of.runs.gatherPush(group, push)).id;
        };
        const ids = Array.from({ length: 12 }, (_, i) => `push-${i}`);
        const [run = '', ...others] = new Set(
          await Promise.all(ids.map((id, i) => add(id, i % 2 === 0 ? state : other))),
        );
        expect(others).toEqual([]);
        const gathered = await other.runs.closePushes(run);
        expect(gathered.map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
        // a push that is added again stays in its run; a new push goes to another run
        expect(await add('push-3')).toBe(run);
        const next = await add('late');
        expect(next).toBe('run-late');
        expect(await state.runs.closePushes(run)).toEqual(gathered);
        expect(await state.runs.get(next)).toMatchObject({ rule: 'pushed', trigger: 'push' });
        await clock.advance(30_000);
        expect(await add('later')).toBe('run-later');
      });

      test('are forgotten after 90 days, whether or not the table has deleted them', async () => {
        await begin();
        await clock.advance(89 * DAY_MS);
        await begin('run-2');
        expect(idsOf(await other.runs.list())).toEqual(['run-2', 'run-1']);
        await clock.advance(2 * DAY_MS);
        expect(idsOf(await other.runs.list())).toEqual(['run-2']);
        expect(await other.runs.get('run-1')).toBeUndefined();
      });

      test('count their jobs, and end when all are planned and none is left', async () => {
        await begin();
        expect(await state.runs.addJobs('run-1', jobsNamed(3))).toEqual(new Set(['job-1', 'job-2', 'job-3']));
        await state.runs.addUnchanged('run-1', { unchanged: 40, unseen: 0 });
        await other.runs.addUnchanged('run-1', { unchanged: 2, unseen: 1 });
        expect(await runOf()).toMatchObject({ unchanged: 42, unseen: 1, jobs: { ...NONE, waiting: 3 } });
        await state.runs.startJob('run-1', 'job-1');
        expect((await runOf()).jobs).toEqual({ ...NONE, waiting: 2, running: 1 });
        await state.runs.endJob('run-1', 'job-1', DONE);
        await work('job-2', { state: 'skipped' });
        expect((await runOf()).jobs).toEqual({ ...NONE, waiting: 1, done: 1, skipped: 1 });
        await state.runs.planned('run-1');
        const plannedAtMs = clock.now();
        await clock.advance(500);
        expect((await runOf()).endedAtMs).toBeUndefined();
        await work('job-3', FAILED);
        await clock.advance(500);
        const ended = { plannedAtMs, endedAtMs: plannedAtMs + 500, jobs: { ...NONE, done: 1, skipped: 1, failed: 1 } };
        expect(await runOf()).toMatchObject(ended);
        await state.runs.planned('run-1');
        expect(await state.runs.settle('run-1')).toEqual(await runOf());
        expect(await runOf()).toMatchObject(ended);
      });

      test('end when they are planned with all jobs done, or without a job', async () => {
        await begin();
        await state.runs.addJobs('run-1', jobsNamed(1));
        await work('job-1');
        expect((await runOf()).endedAtMs).toBeUndefined();
        await state.runs.planned('run-1');
        expect(await runOf()).toMatchObject({ endedAtMs: clock.now(), jobs: { ...NONE, done: 1 } });
        await begin('run-2');
        await state.runs.addJobs('run-2', []);
        await state.runs.planned('run-2');
        expect(await runOf('run-2')).toMatchObject({ endedAtMs: clock.now(), jobs: NONE });
      });

      test('cannot be changed when they do not exist', async () => {
        const missing = { code: 'NOT_FOUND' };
        const { runs } = state;
        await expect(runs.addJobs('no', jobsNamed(1))).rejects.toMatchObject(missing);
        await expect(runs.addUnchanged('no', { unchanged: 1, unseen: 0 })).rejects.toMatchObject(missing);
        await expect(runs.planned('no')).rejects.toMatchObject(missing);
        await expect(runs.settle('no')).rejects.toMatchObject(missing);
        await expect(runs.declareDead('no')).rejects.toMatchObject(missing);
        await begin();
        await expect(runs.startJob('run-1', 'no')).rejects.toMatchObject(missing);
        await expect(runs.giveBackJob('run-1', 'no')).rejects.toMatchObject(missing);
        await expect(runs.retryJob('run-1', 'no', { code: 'C', reason: 'r', dueAtMs: 0 })).rejects.toMatchObject(
          missing,
        );
        await expect(runs.endJob('run-1', 'no', DONE)).rejects.toMatchObject(missing);
        await expect(runs.reviveJob('run-1', 'no')).rejects.toMatchObject(missing);
        expect(await findJob(runs, 'run-1', 'no')).toBeUndefined();
        expect(await Array.fromAsync(runs.jobs('no'))).toEqual([]);
        expect(await runs.list()).toHaveLength(1);
      });

      describe('of a rule', () => {
        test('begins one run at a time, and one for each scheduled time', async () => {
          expect(await state.runs.progress('nightly')).toBeUndefined();
          const run = await scheduled('run-1', 1000);
          expect(run).toMatchObject({ id: 'run-1', rule: 'nightly', trigger: 'schedule', startedAtMs: clock.now() });
          const current = { run: 'run-1', startedAtMs: clock.now() };
          expect(await other.runs.progress('nightly')).toMatchObject({
            rule: 'nightly',
            current,
            lastScheduledAtMs: 1000,
          });
          expect(await scheduled('run-2', 1000)).toBeUndefined();
          expect(await scheduled('run-2', 2000)).toBeUndefined();
          await state.runs.planned('run-1');
          const lastGoodRunAtMs = current.startedAtMs;
          expect(await other.runs.progress('nightly')).toMatchObject({
            rule: 'nightly',
            lastScheduledAtMs: 1000,
            lastGoodRunAtMs,
          });
          expect(await scheduled('run-2', 1000)).toBeUndefined();
          expect(await scheduled('run-2', 2000)).toMatchObject({ id: 'run-2' });
          expect(idsOf(await state.runs.list({ rule: 'nightly' }))).toEqual(['run-2', 'run-1']);
        });

        test.each([
          ['names of their own', (i: number) => `run-${i}`],
          ['the same name', () => 'run'],
        ])('is begun by one of many planners that give it %s', async (_, idOf) => {
          const begun = await Promise.all(
            Array.from({ length: 10 }, async (__, i) =>
              (i % 2 === 0 ? state : other).runs.beginScheduled({ id: idOf(i), rule: 'nightly', scheduledAtMs: 1 }),
            ),
          );
          const [run, ...more] = begun.filter((it) => it !== undefined);
          expect(more).toEqual([]);
          expect((await state.runs.progress('nightly'))?.current?.run).toBe(run?.id);
          expect(idsOf(await state.runs.list())).toEqual([run?.id]);
        });

        test('does not count as good when a job failed', async () => {
          await scheduled('run-1', 1000);
          const lastGoodRunAtMs = clock.now();
          await state.runs.planned('run-1');
          await clock.advance(HOUR_MS);
          await scheduled('run-2', 2000);
          await state.runs.addJobs('run-2', jobsNamed(1));
          await state.runs.planned('run-2');
          await work('job-1', FAILED, 'run-2');
          expect(await state.runs.progress('nightly')).toMatchObject({
            rule: 'nightly',
            lastScheduledAtMs: 2000,
            lastGoodRunAtMs,
          });
        });

        test('is replaced when it is named, and then ends without effect', async () => {
          await scheduled('run-1', 1000);
          await state.runs.addJobs('run-1', jobsNamed(1));
          expect(await scheduled('run-2', 2000, 'run-0')).toBeUndefined();
          expect(await scheduled('run-2', 2000, 'run-1')).toMatchObject({ id: 'run-2' });
          const progress = await state.runs.progress('nightly');
          expect(progress).toMatchObject({ current: { run: 'run-2' }, lastScheduledAtMs: 2000 });
          await state.runs.planned('run-1');
          await work('job-1', FAILED);
          expect(await state.runs.progress('nightly')).toEqual({
            ...progress,
            lastFailedRunAtMs: expect.any(Number) as number,
          });
        });

        test('frees the rule when it is declared dead, and its late workers do no harm', async () => {
          await scheduled('run-1', 1000);
          await state.runs.addJobs('run-1', jobsNamed(2));
          await state.runs.planned('run-1');
          await state.runs.startJob('run-1', 'job-1');
          await clock.advance(HOUR_MS);
          await other.runs.declareDead('run-1');
          const endedAtMs = clock.now();
          expect(await runOf()).toMatchObject({ dead: true, endedAtMs, jobs: { waiting: 1, running: 1 } });
          expect(await state.runs.progress('nightly')).toMatchObject({ rule: 'nightly', lastScheduledAtMs: 1000 });
          expect(await scheduled('run-2', 2000, 'run-1')).toMatchObject({ id: 'run-2' });
          await clock.advance(HOUR_MS);
          await other.runs.declareDead('run-1');
          await state.runs.endJob('run-1', 'job-1', DONE);
          expect((await runOf()).jobs).toEqual({ ...NONE, waiting: 1, done: 1 });
          await work('job-2');
          const dead = { dead: true, endedAtMs, jobs: { ...NONE, done: 2 } };
          expect(await runOf()).toMatchObject(dead);
          expect(await state.runs.settle('run-1')).toMatchObject(dead);
          const current = { run: 'run-2', startedAtMs: endedAtMs };
          expect(await state.runs.progress('nightly')).toMatchObject({
            rule: 'nightly',
            lastScheduledAtMs: 2000,
            current,
          });
        });

        test('is not declared dead after it ended', async () => {
          await scheduled('run-1', 1000);
          await state.runs.planned('run-1');
          const ended = await runOf();
          await clock.advance(HOUR_MS);
          await state.runs.declareDead('run-1');
          expect(await runOf()).toEqual(ended);
        });
      });

      describe('jobs', () => {
        const jobOf = async (job: string): Promise<unknown> => findJob(other.runs, 'run-1', job);

        beforeEach(async () => {
          await begin();
        });

        test('are stored with their title, body and fingerprint', async () => {
          const job = { id: 'job-1', title: 'a → b', rule: 'nightly', body: '{"version":1}', fingerprint: 'f' };
          await state.runs.addJobs('run-1', [job]);
          const known = { ...job, run: 'run-1', state: 'waiting', attempts: 0, changedAtMs: clock.now() };
          expect(await jobOf('job-1')).toEqual(known);
          expect(await Array.fromAsync(other.runs.jobs('run-1'))).toEqual([known]);
          expect(await other.runs.job('run-1', 'job-1')).toEqual(known);
          expect(await other.runs.job('run-1', 'job-2')).toBeUndefined();
          await clock.advance(1);
          expect(await state.runs.startJob('run-1', 'job-1')).toBe(1);
          expect(await jobOf('job-1')).toEqual({ ...known, state: 'running', attempts: 1, changedAtMs: clock.now() });
        });

        test('stay unchanged when they are added again; those that have not ended are returned', async () => {
          await state.runs.addJobs('run-1', jobsNamed(3));
          await work('job-1');
          await state.runs.startJob('run-1', 'job-2');
          const again = jobsNamed(4).map(({ id }) => ({ id, title: 'another' }));
          expect(await other.runs.addJobs('run-1', again)).toEqual(new Set(['job-2', 'job-3', 'job-4']));
          expect(await jobOf('job-1')).toMatchObject({ state: 'done', title: 'copy 1' });
          expect(await jobOf('job-2')).toMatchObject({ state: 'running', title: 'copy 2' });
          expect((await runOf()).jobs).toEqual({ ...NONE, waiting: 2, running: 1, done: 1 });
          await state.runs.planned('run-1');
          for (const job of ['job-2', 'job-3', 'job-4']) await work(job);
          expect((await runOf()).endedAtMs).toBe(clock.now());
        });

        test('can be added as failed: a process that crashes then leaves no waiting job', async () => {
          await state.runs.addJobs('run-1', jobsNamed(1));
          const failed = { code: 'CONFLICT', reason: 'another repository' };
          const owed = { id: 'owed', title: 'settings', failed };
          expect(await state.runs.addJobs('run-1', [owed, { ...owed, id: 'job-1' }])).toEqual(new Set(['job-1']));
          expect(await jobOf('owed')).toMatchObject({ state: 'failed', ...failed });
          expect((await runOf()).jobs).toEqual({ ...NONE, waiting: 1, failed: 1 });
          expect((await other.runs.addJobs('run-1', [owed])).size).toBe(0);
          await state.runs.planned('run-1');
          await work('job-1');
          expect(await runOf()).toMatchObject({ endedAtMs: clock.now(), jobs: { ...NONE, done: 1, failed: 1 } });
        });

        test('are listed, all or by state', async () => {
          await state.runs.addJobs('run-1', jobsNamed(4));
          await work('job-1', FAILED);
          await state.runs.startJob('run-1', 'job-2');
          const listed = async (wanted?: 'waiting' | 'failed'): Promise<string[]> =>
            (await Array.fromAsync(other.runs.jobs('run-1', { state: wanted }))).map((job) => job.id);
          expect(await listed()).toEqual(['job-1', 'job-2', 'job-3', 'job-4']);
          expect(await listed('waiting')).toEqual(['job-3', 'job-4']);
          expect(await listed('failed')).toEqual(['job-1']);
        });

        test('count each attempt, except those that were given back', async () => {
          await state.runs.addJobs('run-1', jobsNamed(1));
          expect(await state.runs.startJob('run-1', 'job-1')).toBe(1);
          expect(await other.runs.startJob('run-1', 'job-1')).toBe(2);
          await other.runs.giveBackJob('run-1', 'job-1');
          expect(await jobOf('job-1')).toMatchObject({ state: 'waiting', attempts: 1 });
          await other.runs.giveBackJob('run-1', 'job-1');
          expect(await state.runs.startJob('run-1', 'job-1')).toBe(2);
          await state.runs.retryJob('run-1', 'job-1', { code: 'UNAVAILABLE', reason: 'x'.repeat(5000), dueAtMs: 7 });
          expect(await jobOf('job-1')).toMatchObject({
            state: 'waiting',
            attempts: 2,
            code: 'UNAVAILABLE',
            reason: 'x'.repeat(1000),
            dueAtMs: 7,
          });
          expect(await state.runs.startJob('run-1', 'job-1')).toBe(3);
          await state.runs.endJob('run-1', 'job-1', DONE);
          const { code, reason, state: ended } = { code: 0, reason: 0, ...Object(await jobOf('job-1')) };
          expect({ code, reason, ended }).toEqual({ code: undefined, reason: undefined, ended: 'done' });
        });

        test('are taken by one delivery of their message, and only if the message has the fingerprint that was added', async () => {
          await state.runs.addJobs('run-1', [{ id: 'job-1', title: 'copy', fingerprint: 'f' }]);
          const take = async (at: StateStore, id = 'job-1', fingerprint = 'f'): Promise<unknown> =>
            at.runs.takeJob('run-1', id, fingerprint);
          expect(await take(state, 'job-2')).toEqual({ state: 'unknown' });
          expect(await take(state, 'job-1', 'g')).toEqual({ state: 'other' });
          expect(await jobOf('job-1')).toMatchObject({ state: 'waiting', attempts: 0 });
          expect(await take(state)).toEqual({ state: 'taken', attempt: 1 });
          expect(await jobOf('job-1')).toMatchObject({ state: 'running', attempts: 1 });
          expect(await take(other)).toEqual({ state: 'open' });
          expect(await take(other, 'job-1', 'g')).toEqual({ state: 'other' });
          await state.runs.giveBackJob('run-1', 'job-1', { attempt: 1 });
          expect(await take(other)).toEqual({ state: 'taken', attempt: 1 });
          await other.runs.endJob('run-1', 'job-1', DONE);
          expect(await take(state)).toEqual({ state: 'ended' });
        });

        test('are not given back by an earlier attempt once a later one began', async () => {
          await state.runs.addJobs('run-1', [{ id: 'job-1', title: 'copy', fingerprint: 'f' }]);
          await state.runs.takeJob('run-1', 'job-1', 'f');
          expect(await other.runs.startJob('run-1', 'job-1')).toBe(2);
          await state.runs.giveBackJob('run-1', 'job-1', { attempt: 1 });
          expect(await jobOf('job-1')).toMatchObject({ state: 'running', attempts: 2 });
        });

        test('have another message once they were given back with it', async () => {
          await state.runs.addJobs('run-1', [{ id: 'job-1', title: 'copy', body: 'before' }]);
          await state.runs.startJob('run-1', 'job-1');
          await state.runs.giveBackJob('run-1', 'job-1', { body: 'after' });
          expect(await jobOf('job-1')).toMatchObject({ state: 'waiting', body: 'after', attempts: 0 });
        });

        test('are added many at once, also where some of them exist already', async () => {
          const known = [...jobsNamed(2, 50), ...jobsNamed(1, 115)];
          await state.runs.addJobs('run-1', known);
          await work('job-50');
          const open = await other.runs.addJobs('run-1', [...jobsNamed(120), ...jobsNamed(10)]);
          expect(open.size).toBe(119);
          expect(open.has('job-50')).toBe(false);
          expect((await runOf()).jobs).toEqual({ ...NONE, waiting: 119, done: 1 });
        });

        test('are counted, listed and changed alike when they are spread over partitions', async () => {
          const ids = jobsNamed(40).map(({ id }) => spreadId(jobId(id)));
          const jobs = ids.map((id) => ({ id, title: id, fingerprint: 'f' }));
          expect((await state.runs.addJobs('run-1', [...jobs, { id: 'snapshot-1', title: 'last' }])).size).toBe(41);
          expect((await other.runs.addJobs('run-1', jobs)).size).toBe(40);
          const [first = ''] = ids;
          expect(await other.runs.job('run-1', first)).toMatchObject({ id: first, run: 'run-1', state: 'waiting' });
          expect(await other.runs.takeJob('run-1', first, 'f')).toEqual({ state: 'taken', attempt: 1 });
          await state.runs.endJob('run-1', first, FAILED);
          expect((await runOf()).jobs).toEqual({ ...NONE, waiting: 40, failed: 1 });
          const listed = await Array.fromAsync(other.runs.jobs('run-1', { state: 'waiting' }));
          expect(new Set(listed.map(({ id }) => id))).toEqual(new Set([...ids.slice(1), 'snapshot-1']));
          expect(new Set(listed.map(({ run }) => run))).toEqual(new Set(['run-1']));
          const last = await Array.fromAsync(other.runs.jobs('run-1', { prefix: 'snapshot-' }));
          expect(last.map(({ id }) => id)).toEqual(['snapshot-1']);
          await state.runs.planned('run-1');
          for (const id of [...ids.slice(1), 'snapshot-1']) await work(id);
          expect(await runOf()).toMatchObject({ endedAtMs: clock.now(), jobs: { ...NONE, done: 40, failed: 1 } });
          await state.runs.reviveJob('run-1', first);
          expect((await runOf()).jobs.waiting).toBe(1);
        });

        test('are each counted once when many end at once', async () => {
          await state.runs.addJobs('run-1', jobsNamed(20));
          await state.runs.planned('run-1');
          const ids = jobsNamed(20).map(({ id }) => id);
          await Promise.all(ids.map(async (id) => state.runs.startJob('run-1', id)));
          const left = await Promise.all(ids.map(async (id) => state.runs.endJob('run-1', id, DONE)));
          expect(Math.min(...left)).toBe(0);
          expect(await runOf()).toMatchObject({ endedAtMs: clock.now(), jobs: { ...NONE, done: 20 } });
        });

        test('are sent again by one of many processes, and only while they wait', async () => {
          await state.runs.addJobs('run-1', jobsNamed(1));
          const readAtMs = clock.now();
          await clock.advance(1000);
          const runs = [state.runs, other.runs, state.runs];
          const sent = await Promise.all(runs.map(async (some) => some.resendJob('run-1', 'job-1', readAtMs)));
          expect(sent.filter(Boolean)).toHaveLength(1);
          expect(await jobOf('job-1')).toMatchObject({ state: 'waiting', attempts: 0, changedAtMs: clock.now() });
          expect(await state.runs.resendJob('run-1', 'job-1', undefined)).toBe(true);
          await state.runs.startJob('run-1', 'job-1');
          expect(await state.runs.resendJob('run-1', 'job-1', undefined)).toBe(false);
          await work('job-1');
          expect(await state.runs.resendJob('run-1', 'job-1', undefined)).toBe(false);
          expect(await state.runs.resendJob('run-1', 'unknown', undefined)).toBe(false);
        });

        test('stay ended: the first end counts', async () => {
          await state.runs.addJobs('run-1', jobsNamed(2));
          await state.runs.planned('run-1');
          await work('job-1');
          expect(await other.runs.startJob('run-1', 'job-1')).toBeUndefined();
          await other.runs.endJob('run-1', 'job-1', FAILED);
          await other.runs.retryJob('run-1', 'job-1', { code: 'C', reason: 'r', dueAtMs: 0 });
          await other.runs.giveBackJob('run-1', 'job-1');
          expect(await jobOf('job-1')).toMatchObject({ state: 'done', attempts: 1 });
          expect(await runOf()).toMatchObject({ jobs: { ...NONE, waiting: 1, done: 1 } });
          await work('job-2', FAILED);
          await work('job-2');
          expect(await runOf()).toMatchObject({ endedAtMs: clock.now(), jobs: { ...NONE, done: 1, failed: 1 } });
        });

        test('are revived after a failure, and their run with them', async () => {
          await state.runs.addJobs('run-1', jobsNamed(2));
          await state.runs.planned('run-1');
          await work('job-1');
          await work('job-2', FAILED);
          expect((await runOf()).endedAtMs).toBeDefined();
          await state.runs.reviveJob('run-1', 'job-1');
          expect((await runOf()).endedAtMs).toBeDefined();
          await state.runs.reviveJob('run-1', 'job-2');
          await state.runs.reviveJob('run-1', 'job-2');
          const revived = await runOf();
          expect(revived).toMatchObject({ jobs: { ...NONE, waiting: 1, done: 1 } });
          expect(revived.endedAtMs).toBeUndefined();
          expect(await state.runs.startJob('run-1', 'job-2')).toBe(1);
          await clock.advance(1);
          await state.runs.endJob('run-1', 'job-2', DONE);
          expect(await runOf()).toMatchObject({ endedAtMs: clock.now(), jobs: { ...NONE, done: 2 } });
        });

        test('reopen their run when they are added after all was planned and done', async () => {
          await state.runs.planned('run-1');
          expect((await runOf()).endedAtMs).toBeDefined();
          await state.runs.addJobs('run-1', jobsNamed(1));
          expect((await runOf()).endedAtMs).toBeUndefined();
          await work('job-1');
          expect((await runOf()).endedAtMs).toBeDefined();
        });

        test('are each counted once by many workers at once', async () => {
          const jobs = Array.from({ length: 200 }, (_, i) => ({ id: jobId('run-1', String(i)), title: `copy ${i}` }));
          await state.runs.addJobs('run-1', jobs);
          await state.runs.planned('run-1');
          await Promise.all(
            // some messages are delivered twice
            [...jobs, ...jobs.slice(0, 20)].map(async ({ id }, i) => {
              const { runs } = i % 2 === 0 ? state : other;
              if ((await runs.startJob('run-1', id)) !== undefined) await runs.endJob('run-1', id, DONE);
            }),
          );
          expect(await runOf()).toMatchObject({ endedAtMs: clock.now(), jobs: { ...NONE, done: 200 } });
        });

        test('are all counted and listed when they fill more than a page', async () => {
          const jobs = jobsNamed(400, 1000).map(({ id, title }) => ({ id, title, body: 'b'.repeat(3000) }));
          const open = await state.runs.addJobs('run-1', jobs);
          expect(open.size).toBe(400);
          expect((await runOf()).jobs).toEqual({ ...NONE, waiting: 400 });
          const listed = await Array.fromAsync(other.runs.jobs('run-1'));
          expect(listed.map((job) => job.id)).toEqual(jobs.map((job) => job.id));
        });

        test('are added by the next call when a call was stopped', async () => {
          const stop = new AbortController();
          const jobs = jobsNamed(50);
          const adding = state.runs.addJobs('run-1', jobs, { signal: stop.signal });
          await Promise.resolve();
          stop.abort();
          await expect(adding).rejects.toMatchObject({ code: 'ABORTED' });
          expect((await other.runs.addJobs('run-1', jobs)).size).toBe(50);
          await other.runs.planned('run-1');
          for (const { id } of jobs) await work(id);
          expect(await runOf()).toMatchObject({ endedAtMs: clock.now(), jobs: { ...NONE, done: 50 } });
        });
      });
    });
  });
}
