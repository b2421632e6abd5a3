// Copies of large images: to which queue planners, requests and dead letters send them, and which workers are started for them.
import { CreateQueueCommand, SQSClient } from '@aws-sdk/client-sqs';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { describeStatus } from '../../worker/commands/status.ts';
import { parseMessage } from '../../worker/queue/job.ts';
import { routingLarge } from '../../worker/queue/large-jobs.ts';
import type { Outcome, Queue } from '../../worker/queue/queue.ts';
import { enqueueImage } from '../../worker/service/admin/enqueue.ts';
import { redrive } from '../../worker/service/admin/redrive.ts';
import { work } from '../../worker/service/worker/work.ts';
import { status } from '../../worker/service/admin/status.ts';
import type { Service } from '../../worker/service/service.ts';
import type { Tasks } from '../../worker/tasks/tasks.ts';
import { makeImage } from '../support/images.ts';
import { runCommand, type Ended } from '../support/command-line.ts';
import { failureOf, openLab } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';
import { MemoryQueue } from '../support/memory-queue.ts';
import { Failure } from '../../worker/util/failure.ts';
import { planner, type PlannerBench } from '../support/planner-bench.ts';
import { rule } from '../support/rules.ts';
import { expectEnded, mirrorJob, testService } from '../support/test-service.ts';

const HOME = '111111111111.dkr.ecr.us-east-1.amazonaws.com';
const ABROAD = '222222222222.dkr.ecr.eu-west-1.amazonaws.com';
const MINUTE_MS = 60_000;

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());

interface Deployed {
  readonly bench: PlannerBench;
  readonly large: MemoryQueue;
  readonly service: Service;
  /** The services of ECS that a task was started of. */
  readonly started: readonly string[];
}

/** A deployment with large workers, and a rule that mirrors a small and a large image of ECR. */
async function deployed(): Promise<Deployed> {
  const started: string[] = [];
  const bench = planner(lab.session());
  const repository = `mixed-${++repositories}`;
  for (const [seed, bytes] of [100, 100_000].entries()) {
    const one = { platforms: ['linux/amd64'], sharedLayerBytes: 0, layers: [bytes] };
    await lab.push(await makeImage({ ...one, seed, tag: `of-${bytes}` }), lab.stack.ecr, repository);
  }
  const large = new MemoryQueue({ clock: bench.clock, name: 'large' });
  const tasks = (name: string): Tasks => ({
    name,
    count: async () => ({ desired: 0, running: 0, pending: 0, capacity: [] }),
    scale: async () => void started.push(name),
  });
  const service: Service = {
    state: bench.state,
    queue: routingLarge(bench.queue, large),
    deadLetters: bench.deadLetters,
    tasks: tasks('workers'),
    large: { queue: large, aboveBytes: 50_000, tasks: tasks('large workers') },
  };
  await bench.apply(rule({ name: 'keep', from: [`${HOME}/${repository}`], to: [`${ABROAD}/{repository}`] }));
  return { bench, large, service, started };
}
let repositories = 0;

function tagsIn(queue: MemoryQueue): readonly string[] {
  return queue.bodies.map((body) => {
    const message = parseMessage(body);
    return message.type === 'job' && message.job.kind === 'mirror' ? message.job.from.replace(/^.*:/, '') : '';
  });
}

test('a pass sends copies above the size to the queue of large workers, and starts workers of both kinds', async () => {
  const { bench, large, service, started } = await deployed();
  await bench.pass({ service });
  expect(tagsIn(bench.queue)).toEqual(['of-100']);
  expect(tagsIn(large)).toEqual(['of-100000']);
  expect(started).toEqual(['large workers', 'workers']);
});

test('without large workers all copies go to one queue', async () => {
  const { bench } = await deployed();
  await bench.pass();
  expect(tagsIn(bench.queue)).toEqual(['of-100', 'of-100000']);
  expect(bench.queue.bodies.join('')).not.toContain('"large"');
});

test('a large job that waits for its worker is not sent again while its message is there, however far others are', async () => {
  const { bench, large, service } = await deployed();
  await bench.pass({ service });
  await bench.work();
  await bench.clock.advance(59 * MINUTE_MS);
  expect(await bench.pass({ service })).toMatchObject({ resent: 0 });
  expect(tagsIn(large)).toEqual(['of-100000']);
  const [lost] = await large.receive(1);
  await lost?.settle({ type: 'done' });
  expect(await bench.pass({ service })).toMatchObject({ resent: 1 });
  expect(tagsIn(large)).toEqual(['of-100000']);
});

test('a large job waits its turn in the queue of all jobs where large workers were removed, and is sent there once', async () => {
  const { bench, large, service } = await deployed();
  await bench.pass({ service });
  const [removed] = await large.receive(1);
  await removed?.settle({ type: 'done' });
  await bench.clock.advance(16 * MINUTE_MS);
  expect(await bench.pass()).toMatchObject({ resent: 0 });
  await bench.work();
  expect(await bench.pass()).toMatchObject({ resent: 1 });
  expect(tagsIn(bench.queue)).toEqual(['of-100000']);
});

test('jobs that wait in a long queue are not sent again because a large worker is far ahead', async () => {
  const { bench, large, service } = await deployed();
  await bench.pass({ service });
  await bench.clock.advance(20 * MINUTE_MS);
  const later = rule({ name: 'later', from: [`${HOME}/mixed-${repositories}`], to: [`${ABROAD}/later/{repository}`] });
  await bench.apply(later);
  await bench.pass({ service });
  const begin = async (queue: MemoryQueue): Promise<void> => {
    for (const delivery of await queue.receive(10)) {
      const message = parseMessage(delivery.body);
      if (message.type === 'job' && message.job.rule === 'later')
        await service.state.runs.startJob(message.job.run, message.job.id);
      else await delivery.settle({ type: 'again', seconds: 0 });
    }
  };
  await begin(large);
  expect(await bench.pass({ service })).toMatchObject({ resent: 0 });
  // a message that was overtaken in its own queue is lost
  await begin(bench.queue);
  expect(await bench.pass({ service })).toMatchObject({ resent: 1 });
});

test('workers are started though the queue of large jobs does not answer', async () => {
  const { bench, large, service, started } = await deployed();
  large.count = async () => Promise.reject(new Failure('DENIED', 'count messages of large: the queue is gone'));
  await bench.pass({ service });
  expect(started).toEqual(['workers']);
});

test('a dead letter of a large job is redriven to the queue of large workers, and starts one of them alone', async () => {
  const { bench, large, service, started } = await deployed();
  await bench.pass({ service });
  const [failed] = await large.receive(1);
  await bench.deadLetters.send([{ body: failed?.body ?? '', reason: 'UNAVAILABLE' }]);
  await failed?.settle({ type: 'done' });
  // no time passes while it waits for dead letters
  const deadLetters: Queue = {
    name: 'dead',
    receive: async (max) => bench.deadLetters.receive(max, { waitSeconds: 0 }),
    count: async () => bench.deadLetters.count(),
    send: async (messages) => bench.deadLetters.send(messages),
  };
  const before = started.length;
  expect(await redrive({}, { ...service, deadLetters }, {})).toMatchObject({ redriven: 1 });
  expect(tagsIn(large)).toEqual(['of-100000']);
  expect(started.slice(before)).toEqual(['large workers']);
});

test('a request for large workers goes to their queue and starts one; without large workers it is refused', async () => {
  const { bench, large, service, started } = await deployed();
  const asked = { from: `docker://${HOME}/mixed:of-100`, to: `docker://${ABROAD}/asked`, large: true };
  await enqueueImage(asked, service, { clock: bench.clock });
  expect(tagsIn(large)).toEqual(['of-100']);
  expect(started).toEqual(['large workers']);
  const { message } = await failureOf(enqueueImage(asked, bench, { clock: bench.clock }), 'INVALID');
  expect(message).toMatch(/^the deployment has no large workers: set `largeJobs`/);
});

test('status counts large jobs apart from the others', async () => {
  const { bench, service } = await deployed();
  await bench.pass({ service });
  const found = await status(service, { clock: bench.clock });
  expect(found).toMatchObject({ queue: { visible: 1 }, large: { visible: 1 } });
  expect(describeStatus(found, bench.clock.now())).toContain(
    'queue: 1 waiting, 0 in flight, 0 delayed; large jobs: 1 waiting, 0 in flight, 0 delayed; dead letters: 0',
  );
});

test('a job that turns out to be large is handed to a large worker, which copies it', async () => {
  const t = testService();
  const large = new MemoryQueue({ clock: t.clock, name: 'large' });
  const { context } = t.worker(lab.session().backends);
  const service: Service = {
    ...context.service,
    queue: routingLarge(t.queue, large),
    large: { queue: large, aboveBytes: 50_000 },
  };
  const worker = async (queue: MemoryQueue): Promise<Outcome | undefined> => {
    const [delivery] = await queue.receive(1, { waitSeconds: 0 });
    if (delivery === undefined) return undefined;
    const outcome = await work(delivery, { ...context, service }, { signal: new AbortController().signal });
    await delivery.settle(outcome);
    return outcome;
  };
  const { registry } = lab.stack;
  await lab.push(await makeImage({ seed: 2, tag: 'v1', layers: [100_000] }), registry, 'unlisted');
  const run = await t.enqueue(
    mirrorJob(`docker://${registry.registryHost}/unlisted:v1`, `docker://${ABROAD}/unlisted:v1`),
  );
  expect(await worker(t.queue)).toEqual({ type: 'done' });
  expect(t.queue.bodies).toEqual([]);
  expect(t.events.filter(({ type }) => type === 'job-handed-back')).toMatchObject([
    { message: 'the image is large: a large worker copies it' },
  ]);
  expect(await t.run(run)).toMatchObject({ jobs: { waiting: 1, done: 0 } });
  const [{ body = '' } = {}] = await Array.fromAsync(service.state.runs.jobs(run));
  expect([body]).toEqual(large.bodies);
  expect(JSON.parse(body)).toMatchObject({ large: true });
  expect(await worker(large)).toEqual({ type: 'done' });
  await expectEnded(t, run, { done: 1 });
  expect(large.bodies).toEqual([]);
});

describe('the command line', () => {
  const { environment, registry, ecr } = lab.stack;
  const run = async (args: readonly string[], env = {}, stop?: AbortSignal): Promise<Ended> =>
    runCommand(args, { env: { ...environment, HOME: lab.folder, ...env }, ...(stop === undefined ? {} : { stop }) });

  test('does a request for large workers by `worker --large`, while no other worker runs', async () => {
    const client = new SQSClient({ maxAttempts: 1 });
    onTestFinished(() => client.destroy());
    const { QueueUrl = '' } = await client.send(new CreateQueueCommand({ QueueName: 'large' }));
    const env = { TRANSSHIP_LARGE_QUEUE_URL: QueueUrl };
    const image = await makeImage({ seed: 3, tag: 'v1' });
    await lab.push(image, registry, 'typed');
    const stop = new AbortController();
    const working = run(['worker', '--large'], env, stop.signal);
    const [from, to] = [`docker://${registry.registryHost}/typed:v1`, `docker://${ecr.registryHost}/typed:v1`];
    expect(await run(['enqueue', '--large', '--wait', from, to], env)).toMatchObject({ code: 0 });
    await expectSameImage(image.content, lab.view(ecr, 'typed'), image.root);
    stop.abort();
    expect(await working).toMatchObject({ code: 0, stdout: expect.stringContaining(' jobs at once of large') });
  });

  test.each([
    [['worker', '--large'], '`worker --large` needs TRANSSHIP_LARGE_QUEUE_URL'],
    [['scale', '--large'], '--large needs TRANSSHIP_LARGE_QUEUE_URL and TRANSSHIP_LARGE_SERVICE'],
    [['enqueue', '--large', 'docker://a.example/b:c', 'docker://a.example/d:c'], 'the deployment has no large workers'],
    [['enqueue', '--large', 'docker://a.example/b*', 'store:s3://archives/'], '--large is for copies'],
    [['enqueue', '--large', 'keep'], 'a rule has its own choices'],
  ])('refuses %j where the deployment has no large workers', async (args, why) => {
    const { code, stderr } = await run(args);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(why) });
  });
});
