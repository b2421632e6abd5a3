// `transship scale`, and the start of a worker by `enqueue` and by the planner, against an ECS on loopback.
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { enqueueImage } from '../../worker/service/admin/enqueue.ts';
import { redrive } from '../../worker/service/admin/redrive.ts';
import { runPass } from '../../worker/service/planner/pass.ts';
import { startTask } from '../../worker/service/start-task.ts';
import type { Queue } from '../../worker/queue/queue.ts';
import { openEcs } from '../../worker/tasks/ecs.ts';
import type { Clock } from '../../worker/util/clock.ts';
import type { Event } from '../../worker/util/events.ts';
import { runCommand, type Ended } from '../support/command-line.ts';
import { startEcs, type EcsServer } from '../support/ecs-server.ts';
import { failureOf } from '../support/lab.ts';
import { testService } from '../support/test-service.ts';

let ecs: EcsServer;
let events: Event[];
beforeEach(async () => {
  ecs = await startEcs();
  events = [];
  vi.stubEnv('AWS_ENDPOINT_URL_ECS', ecs.url);
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'local');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'local-secret');
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await ecs[Symbol.asyncDispose]();
});

const SPOT = { capacityProvider: 'FARGATE_SPOT', weight: 1, base: 0 };
const IMAGE = { from: 'docker://registry.example/app:v1', to: 's3://backups/' };
const messages = (type: Event['type']): readonly string[] =>
  events.flatMap((event) => (event.type === type && 'message' in event ? [event.message] : []));

function tested(): {
  readonly service: Parameters<typeof enqueueImage>[1];
  readonly options: { readonly clock: Clock; readonly report: (event: Event) => void };
} {
  const { state, queue, deadLetters, clock } = testService();
  const service = { state, queue, deadLetters, tasks: openEcs({ service: ecs.serviceArn }) };
  return { service, options: { clock, report: (event) => void events.push(event) } };
}

describe('a request for a copy', () => {
  test('starts a worker at once when none runs', async () => {
    const { service, options } = tested();
    await enqueueImage(IMAGE, service, options);
    expect(ecs.service).toEqual({ desiredCount: 1, capacityProviderStrategy: [SPOT] });
    expect(messages('note')).toEqual(['no worker was running: ECS starts a task of workers now']);
  });

  test('leaves the number of tasks alone while some run', async () => {
    ecs.service.desiredCount = 3;
    const { service, options } = tested();
    await enqueueImage(IMAGE, service, options);
    expect(ecs.calls()).toEqual(['DescribeServices']);
    expect(ecs.service.desiredCount).toBe(3);
  });

  test('is queued even when ECS refuses: scaling starts a worker later', async () => {
    ecs.faults.add({ operation: 'UpdateService' }, { kind: 'answer', status: 400, code: 'AccessDeniedException' });
    const { service, options } = tested();
    const run = await enqueueImage(IMAGE, service, options);
    expect(await service.state.runs.get(run.id)).toMatchObject({ jobs: { waiting: 1 } });
    expect(messages('warning')).toEqual([
      expect.stringMatching(
        /^start a worker: set the tasks of workers to 1: AccessDeniedException: .*; the caller needs ecs:UpdateService; scaling starts one within three to five minutes$/,
      ),
    ]);
  });
});

test('redrive starts a worker when none runs and a dead letter is in the queue again, and does not call ECS without one', async () => {
  const { service: waiting, options } = tested();
  // a receive that waits would wait for the clock of the test
  const receive: Queue['receive'] = async (most, o) => waiting.deadLetters.receive(most, { ...o, waitSeconds: 0 });
  const { name } = waiting.deadLetters;
  const send: Queue['send'] = async (sent, o) => waiting.deadLetters.send(sent, o);
  const count: Queue['count'] = async (o) => waiting.deadLetters.count(o);
  const service = { ...waiting, deadLetters: { name, receive, send, count } };
  expect(await redrive({}, service, options)).toMatchObject({ redriven: 0 });
  expect(ecs.calls()).toEqual([]);
  await enqueueImage(IMAGE, { ...service, tasks: undefined, queue: service.deadLetters }, options);
  expect(await redrive({}, service, options)).toMatchObject({ redriven: 1 });
  expect(ecs.service.desiredCount).toBe(1);
});

describe('a pass of the planner', () => {
  const backends = { use: async (): Promise<never> => Promise.reject(new Error('no rule needs one')) };

  test('starts a worker when jobs wait and none runs, and does not call ECS when no job waits', async () => {
    const { service, options } = tested();
    await runPass(service, backends, options);
    expect(ecs.calls()).toEqual([]);
    await service.queue.send([{ body: '{}' }]);
    await runPass(service, backends, options);
    expect(ecs.service.desiredCount).toBe(1);
  });
});

test('a start that is aborted ends with the reason, without a warning', async () => {
  const { service, options } = tested();
  const signal = AbortSignal.abort(new Error('stopped'));
  await expect(startTask(service, { ...options, signal })).rejects.toThrow('stopped');
  expect(events).toEqual([]);
});

describe('scale', () => {
  const run = async (...args: readonly string[]): Promise<Ended> =>
    runCommand(['scale', ...args], {
      env: {
        TRANSSHIP_SERVICE: ecs.serviceArn,
        TRANSSHIP_QUEUE_URL: 'https://sqs/1/jobs',
        TRANSSHIP_DEAD_LETTER_QUEUE_URL: 'https://sqs/1/dead',
        TRANSSHIP_TABLE: 'table',
      },
    });

  test('shows how many workers run, and changes nothing', async () => {
    ecs.service.desiredCount = 2;
    expect(await run()).toEqual({
      code: 0,
      stdout: 'workers: 2 wanted, 2 running, 0 starting; capacity FARGATE_SPOT=1\n',
      stderr: '',
    });
    expect(ecs.calls()).toEqual(['DescribeServices']);
  });

  test('starts tasks on demand, and returns to the deployed capacity', async () => {
    expect(await run('4', '--on-demand')).toMatchObject({
      code: 0,
      stdout:
        'workers: 4 wanted, 0 running, 0 starting; capacity FARGATE=1; a task takes one to two minutes to start\n',
    });
    expect(ecs.service).toEqual({
      desiredCount: 4,
      capacityProviderStrategy: [{ capacityProvider: 'FARGATE', weight: 1, base: 0 }],
    });
    const { code, stdout } = await run('--capacity', 'FARGATE_SPOT=1,FARGATE=0+1', '--json');
    expect({ code, ...JSON.parse(stdout) }).toMatchObject({ code: 0, desired: 4 });
    expect(ecs.service).toEqual({
      desiredCount: 4,
      capacityProviderStrategy: [SPOT, { capacityProvider: 'FARGATE', weight: 0, base: 1 }],
    });
  });

  test.each([
    ['0', 'expected a whole number from 1 to 500'],
    ['501', 'expected a whole number from 1 to 500'],
    ['--capacity=EC2=1', 'expected such as FARGATE_SPOT=1,FARGATE=0+1'],
    ['--capacity=FARGATE=0', 'expected a weight above 0'],
    ['--capacity=FARGATE=1+1,FARGATE_SPOT=1+1', 'one base at the most'],
    ['--capacity=FARGATE=1,FARGATE=1', 'expected each provider once'],
  ])('refuses %s', async (arg, why) => {
    const { code, stderr } = await run(arg);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(why) });
    expect(ecs.calls()).toEqual([]);
  });

  test('counts and starts large workers with --large', async () => {
    const env = {
      TRANSSHIP_QUEUE_URL: 'https://sqs/1/jobs',
      TRANSSHIP_LARGE_QUEUE_URL: 'https://sqs/1/large',
      TRANSSHIP_LARGE_SERVICE: ecs.serviceArn,
      TRANSSHIP_DEAD_LETTER_QUEUE_URL: 'https://sqs/1/dead',
      TRANSSHIP_TABLE: 'table',
    };
    expect(await runCommand(['scale', '2', '--large'], { env })).toMatchObject({ code: 0, stderr: '' });
    expect(ecs.service.desiredCount).toBe(2);
    const wrong = { ...env, TRANSSHIP_LARGE_SERVICE: 'workers' };
    expect((await runCommand(['scale', '--large'], { env: wrong })).stderr).toContain(
      'TRANSSHIP_LARGE_SERVICE: "workers" is not the ARN of an ECS service',
    );
  });

  test('names the missing variable where workers run outside of ECS', async () => {
    const env = {
      TRANSSHIP_QUEUE_URL: 'https://sqs/1/jobs',
      TRANSSHIP_DEAD_LETTER_QUEUE_URL: 'https://sqs/1/dead',
      TRANSSHIP_TABLE: 'table',
    };
    expect(await runCommand(['scale'], { env })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('this command needs TRANSSHIP_SERVICE'),
    });
  });
});

describe('the service of the workers', () => {
  test('is named by the ARN of a service with its cluster', async () => {
    for (const service of ['workers', 'arn:aws:ecs:eu-west-1:111111111111:service/workers'])
      expect(() => openEcs({ service })).toThrow(/^TRANSSHIP_SERVICE: ".*" is not the ARN of an ECS service/);
  });

  test('is NOT_FOUND when it was deleted', async () => {
    const gone = openEcs({ service: 'arn:aws:ecs:eu-west-1:111111111111:service/transship/other' });
    const { message } = await failureOf(gone.count(), 'NOT_FOUND');
    expect(message).toBe('count the tasks of other: the cluster transship has no such service');
  });
});
