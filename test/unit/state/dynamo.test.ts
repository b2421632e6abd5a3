import { DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { startDynamoDb, type LocalDynamoDb } from '../../../local/dynamodb/dynamodb.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import { openDynamo, type DynamoOptions } from '../../../worker/state/dynamo.ts';
import type { StateStore } from '../../../worker/state/state.ts';
import type { Event } from '../../../worker/util/events.ts';
import { fakeClock, manualClock, type FakeClock } from '../../support/clock.ts';
import { stateSuite } from '../../contracts/state.ts';

const TABLE = { name: 'transship', hashKey: 'pk', rangeKey: 'sk', ttlAttribute: 'ttl' };
const KEY = { group: 'docker://registry.example/app', name: 'v1' };

function clientOf(endpoint: string): DynamoDBClient {
  const credentials = { accessKeyId: 'local', secretAccessKey: 'local-secret' };
  return new DynamoDBClient({ endpoint, region: 'eu-west-1', credentials, maxAttempts: 1 });
}

stateSuite('DynamoDB', async () => {
  const clock = manualClock();
  const server = await startDynamoDb({ tables: [TABLE] });
  const client = clientOf(server.endpoint);
  return {
    clock,
    open: () => openDynamo({ table: TABLE.name, clock, client }),
    [Symbol.asyncDispose]: async () => {
      client.destroy();
      await server.close();
    },
  };
});

describe('a table that fails', () => {
  let server: LocalDynamoDb;
  let client: DynamoDBClient;
  let clock: FakeClock;
  let events: Event[];
  let state: StateStore;

  beforeEach(async () => {
    server = await startDynamoDb({ tables: [TABLE] });
    client = clientOf(server.endpoint);
    clock = fakeClock();
    events = [];
    state = open();
  });
  afterEach(async () => {
    client.destroy();
    await server.close();
  });

  const open = (o: Partial<DynamoOptions> = {}): StateStore =>
    openDynamo({ table: TABLE.name, clock, client, report: (event) => events.push(event), ...o });

  test('is asked again, later and later, when it throttles', async () => {
    server.faults.add({ times: 4 }, { kind: 'answer' });
    await state.runs.begin({ id: 'run', trigger: 'request' });
    expect(clock.sleeps).toHaveLength(4);
    expect(clock.sleeps.toSorted((a, b) => a - b)).toEqual(clock.sleeps);
    expect(events.map((event) => event.type === 'retry' && event.code)).toEqual(Array(4).fill('THROTTLED'));
    expect(events[0]).toMatchObject({ what: 'write RUN#run, RUN of table transship', attempt: 1 });
    server.faults.add({ times: 100 }, { kind: 'answer' });
    await expect(state.runs.get('run')).rejects.toMatchObject({ code: 'THROTTLED' });
  });

  test.each(['reset', 'unavailable'] as const)(
    'is asked again, and then UNAVAILABLE, when it is unavailable (%s)',
    async (how) => {
      server.faults.goAway(how);
      await expect(state.rules.list()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      expect(clock.sleeps).toHaveLength(7);
      const longest = clock.sleeps.reduce((sum, ms) => sum + ms);
      expect(longest).toBeGreaterThan(7_000);
      expect(longest).toBeLessThan(16_000);
      server.faults.comeBack();
      expect(await state.rules.list()).toEqual([]);
    },
  );

  test('is not waited for after an abort', async () => {
    const stop = new AbortController();
    clock = fakeClock({ onSleep: () => stop.abort() });
    server.faults.goAway('unavailable');
    const asked = open({ clock }).rules.list({ signal: stop.signal });
    await expect(asked).rejects.toMatchObject({ code: 'ABORTED' });
    expect(clock.sleeps).toHaveLength(1);
  });

  test('is NOT_FOUND with its name when it does not exist', async () => {
    const nowhere = open({ table: 'another' });
    const missing = { code: 'NOT_FOUND', message: expect.stringMatching(/table another: there is no such table/) };
    await expect(nowhere.rules.list()).rejects.toMatchObject(missing);
    await expect(nowhere.runs.get('run')).rejects.toMatchObject(missing);
    await expect(nowhere.runs.begin({ id: 'run', trigger: 'push' })).rejects.toMatchObject(missing);
    expect(clock.sleeps).toEqual([]);
  });

  test.each([
    ['GetItem', async () => state.runs.get('run')],
    ['UpdateItem', async () => state.runs.begin({ id: 'run', trigger: 'push' })],
    ['Query', async () => state.rules.list()],
  ] as const)('is DENIED with the missing permission: %s', async (action, call) => {
    server.faults.add({ operation: action }, { kind: 'answer', code: 'AccessDeniedException' });
    const denied = { code: 'DENIED', message: expect.stringContaining(`the caller needs dynamodb:${action}`) };
    await expect(call()).rejects.toMatchObject(denied);
    expect(clock.sleeps).toEqual([]);
  });

  test('is UNAUTHENTICATED with wrong credentials', async () => {
    server.faults.add({}, { kind: 'answer', code: 'UnrecognizedClientException' });
    await expect(state.rules.list()).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
  });

  test('is INVALID for an item that is too large', async () => {
    await state.runs.begin({ id: 'run', trigger: 'push' });
    const job = { id: 'job', title: 'large', body: 'x'.repeat(500_000) };
    await expect(state.runs.addJobs('run', [job])).rejects.toMatchObject({ code: 'INVALID' });
  });

  test('returns the item that a condition failed on when the SDK does not', async () => {
    client.middlewareStack.add(
      (next) => async (args) => {
        if ('ReturnValuesOnConditionCheckFailure' in args.input) delete args.input.ReturnValuesOnConditionCheckFailure;
        return next(args);
      },
      { step: 'initialize' },
    );
    await state.runs.begin({ id: 'run', trigger: 'push' });
    const jobs = ['a', 'b'].map((id) => ({ id, title: id }));
    await state.runs.addJobs('run', jobs);
    await state.runs.endJob('run', 'a', { state: 'done' });
    expect(await state.runs.addJobs('run', jobs)).toEqual(new Set(['b']));
    expect(await state.runs.startJob('run', 'a')).toBeUndefined();
    await expect(state.runs.startJob('run', 'c')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await state.runs.begin({ id: 'run', trigger: 'push' })).toMatchObject({ jobs: { waiting: 1, done: 1 } });
  });

  describe('by losing its answers', () => {
    const lose = (times = 1, operation = 'UpdateItem', skip = 0): void =>
      void server.faults.add({ operation, times, skip }, { kind: 'lose-answer' });

    test('keeps what was stored, of rules', async () => {
      lose();
      expect(await state.rules.put({ name: 'a', document: '1' }, 0)).toMatchObject({ revision: 1 });
      lose();
      expect(await state.rules.put({ name: 'a', document: '2' }, 1)).toMatchObject({ revision: 2 });
      lose();
      await state.rules.putAccess('{}', 0);
      expect(await state.rules.access()).toEqual({ document: '{}', revision: 1 });
      lose();
      await state.rules.remove('a', 2);
      expect(await state.rules.list()).toEqual([]);
      expect(server.faults.pending).toBe(0);
    });

    test('begins a run of a rule once, and returns undefined to the second caller', async () => {
      lose(2);
      const run = { id: 'run', rule: 'nightly', scheduledAtMs: 1 };
      expect(await state.runs.beginScheduled(run)).toMatchObject({ id: 'run' });
      lose(100);
      const again = open().runs.beginScheduled({ ...run, id: 'another' });
      expect(await again).toBeUndefined();
      server.faults.clear();
      expect(await state.runs.list()).toHaveLength(1);
    });

    test('adds many jobs, and takes each of them, once', async () => {
      const jobs = Array.from({ length: 150 }, (_, i) => ({ id: `job-${i}`, title: 'copy', fingerprint: 'f' }));
      await state.runs.begin({ id: 'run', trigger: 'push' });
      for (const skip of [0, 1]) lose(1, 'TransactWriteItems', skip);
      expect((await state.runs.addJobs('run', jobs)).size).toBe(150);
      lose();
      expect(await state.runs.takeJob('run', 'job-149', 'f')).toEqual({ state: 'taken', attempt: 1 });
      expect(server.faults.pending).toBe(0);
      expect(server.calls.filter(({ action }) => action === 'UpdateItem').length).toBeLessThan(10);
      expect(await state.runs.get('run')).toMatchObject({ jobs: { waiting: 149, running: 1 } });
    });

    test('counts every job once', async () => {
      const jobs = ['a', 'b', 'c'].map((id) => ({ id, title: id }));
      // every other answer
      const losing = async <T>(call: () => Promise<T>): Promise<T> => {
        for (let skip = 0; skip < 20; skip += 2)
          server.faults.add({ operation: 'UpdateItem', skip }, { kind: 'lose-answer' });
        try {
          return await call();
        } finally {
          server.faults.clear();
        }
      };
      await losing(async () => state.runs.beginScheduled({ id: 'run', rule: 'nightly', scheduledAtMs: 1 }));
      expect(await losing(async () => state.runs.addJobs('run', jobs))).toEqual(new Set(['a', 'b', 'c']));
      await losing(async () => state.runs.planned('run'));
      for (const { id } of jobs) {
        expect((await state.runs.get('run'))?.endedAtMs).toBeUndefined();
        await losing(async () => state.runs.startJob('run', id));
        await losing(async () => state.runs.endJob('run', id, { state: 'failed', code: 'DENIED', reason: 'denied' }));
      }
      expect(await state.runs.get('run')).toMatchObject({ endedAtMs: expect.any(Number), jobs: { failed: 3 } });
      expect((await state.runs.progress('nightly'))?.current).toBeUndefined();
      await losing(async () => state.runs.reviveJob('run', 'a'));
      expect((await state.runs.get('run'))?.endedAtMs).toBeUndefined();
      await losing(async () => state.runs.endJob('run', 'a', { state: 'done' }));
      expect(await state.runs.get('run')).toMatchObject({
        endedAtMs: expect.any(Number),
        jobs: { failed: 2, done: 1 },
      });
      expect(clock.sleeps.length).toBeGreaterThan(10);
    });
  });
});

test('takes, uses and releases a lease over lost answers', async () => {
  await using server = await startDynamoDb({ tables: [TABLE] });
  const client = clientOf(server.endpoint);
  const waiting = manualClock();
  // retries wait for nothing, the lease for its time
  const clock = {
    now: () => waiting.now(),
    random: () => 0.5,
    sleep: async (ms: number, o?: { readonly signal?: AbortSignal | undefined }) =>
      ms < 5000 ? undefined : waiting.sleep(ms, o),
  };
  const { destinations } = openDynamo({ table: TABLE.name, clock, client });
  const digest = digestOf(Buffer.from('image'));
  const record = { ...KEY, source: 's', sourceDigest: digest, digest, choices: '', bytes: 1, atMs: 1, run: 'run' };
  const lose = (): void => void server.faults.add({ operation: 'UpdateItem' }, { kind: 'lose-answer' });
  lose();
  const lease = await destinations.lock(KEY, 60);
  if (lease === undefined) throw new Error('it is locked');
  expect(lease.fence).toBe(1);
  lose();
  await destinations.record(record, lease);
  expect(server.faults.pending).toBe(0);
  expect(await destinations.get(KEY)).toEqual(record);
  await using again = await destinations.lock(KEY, 60);
  expect(again?.fence).toBe(2);
  lose();
  await again?.[Symbol.asyncDispose]();
  await using free = await destinations.lock(KEY, 60);
  expect(free?.fence).toBe(3);
  await free?.[Symbol.asyncDispose]();
  expect(waiting.sleeping).toBe(0);
  client.destroy();
});

test('uses endpoint, region and credentials of the environment, and the SDK retries nothing by itself', async () => {
  await using server = await startDynamoDb({ tables: [TABLE] });
  const around = {
    AWS_ENDPOINT_URL_DYNAMODB: server.endpoint,
    AWS_REGION: 'eu-west-1',
    AWS_ACCESS_KEY_ID: 'local',
    AWS_SECRET_ACCESS_KEY: 'local-secret',
  };
  for (const [name, value] of Object.entries(around)) vi.stubEnv(name, value);
  onTestFinished(() => void vi.unstubAllEnvs());
  const clock = fakeClock();
  await using state = openDynamo({ table: TABLE.name, clock });
  server.faults.add({ times: 2 }, { kind: 'answer' });
  await state.rules.put({ name: 'a', document: '{}' }, 0);
  expect(clock.sleeps).toHaveLength(2);
  expect(await state.rules.list()).toHaveLength(1);
});
