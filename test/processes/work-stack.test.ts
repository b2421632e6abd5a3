// Workers over SQS and DynamoDB, by the AWS SDK, with every allowed behaviour of those services.
import { afterAll, expect, test } from 'vitest';
import type { Source, Target } from '../../worker/content/content.ts';
import { consume } from '../../worker/queue/consume.ts';
import { formatJob, jobId, type Job } from '../../worker/queue/job.ts';
import { openBackendPool } from '../../worker/service/backend-pool.ts';
import type { Backends } from '../../worker/images/backends.ts';
import type { Service } from '../../worker/service/service.ts';
import { newJob } from '../../worker/service/planner/run-jobs.ts';
import { work } from '../../worker/service/worker/work.ts';
import { destinationKey } from '../../worker/rules/destinations.ts';
import { readSettings } from '../../worker/main/settings.ts';
import { systemClock } from '../../worker/util/clock.ts';
import type { Side } from '../../worker/util/failure.ts';
import type { Event } from '../../worker/util/events.ts';
import { connectService } from '../../worker/main/wire.ts';
import { replaceBackends } from '../support/backends.ts';
import { eventually } from '../support/eventually.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry, sqs, dynamodb, environment } = lab.stack;

const JOBS = 12;
/** Divides the waits between attempts. */
const HASTE = 30;

interface Worker {
  readonly events: readonly Event[];
  stop(): Promise<void>;
}

function startWorker(service: Service, backends: Backends): Worker {
  const stopping = new AbortController();
  const events: Event[] = [];
  const report = (event: Event): void => void events.push(event);
  const current = openBackendPool({
    rules: service.state.rules,
    connect: () => ({ ...backends, [Symbol.asyncDispose]: async () => undefined }),
    clock: systemClock,
  });
  const context = { service, backends: current, clock: systemClock, reportOf: () => report, leaseSeconds: 5 };
  const consuming = consume(
    service.queue,
    async (d, o) => {
      const outcome = await work(d, context, o);
      return outcome.type === 'done' ? outcome : { ...outcome, seconds: outcome.seconds / HASTE };
    },
    {
      slots: JOBS,
      visibilitySeconds: 10,
      stopping: stopping.signal,
      signal: stopping.signal,
      clock: systemClock,
      report,
    },
  );
  return {
    events,
    stop: async () => {
      stopping.abort();
      await consuming;
    },
  };
}

/** Backends that record when two workers write to one repository at once. */
function watched(backends: Backends, worker: string, writing: Map<string, Set<string>>, clashes: string[]): Backends {
  const repository = (end: Source & Target, side: Side, name: string): Source & Target => {
    if (side === 'source') return end;
    const write = async (effect: () => Promise<void>): Promise<void> => {
      const writers = writing.get(name) ?? new Set();
      writing.set(name, writers.add(worker));
      if (writers.size > 1) clashes.push(`${[...writers].join(' and ')} write to ${name}`);
      try {
        await effect();
      } finally {
        writers.delete(worker);
      }
    };
    return {
      resolve: async (text, o) => end.resolve(text, o),
      open: async (d, o) => end.open(d, o),
      referrers: (d, o) => end.referrers(d, o),
      tags: (o) => end.tags(o),
      has: async (d, o) => end.has(d, o),
      put: async (d, open, o) => write(async () => end.put(d, open, o)),
      tag: async (text, d, open, o) => write(async () => end.tag(text, d, open, o)),
    };
  };
  return replaceBackends(backends, { repository });
}

test('two workers do every job once and never write at once, whatever the queue and the table do', async () => {
  const service = connectService(readSettings(environment), { clock: systemClock });
  const image = await makeImage({ platforms: ['linux/amd64'], layers: [20_000] });
  await lab.push(image, registry, 'stack/app');
  const run = 'stack-run';
  const places = Array.from({ length: JOBS }, (_, i) => `docker://${ecr.registryHost}/stack/app-${i}:v1`);
  const from = `docker://${registry.registryHost}/stack/app:v1`;
  const at = new Date().toISOString();
  const jobs = places.map((to): Job => ({
    version: 1,
    kind: 'mirror',
    id: jobId(run, to),
    run,
    rule: 'stack',
    at,
    from,
    to: [to],
  }));
  await service.state.runs.begin({ id: run, rule: 'stack', trigger: 'schedule' });
  await service.state.runs.addJobs(
    run,
    jobs.map((job) => newJob(job, { title: job.kind }).record),
  );
  await service.state.runs.planned(run);

  sqs.deliveryFaults.add({ times: 4, share: 0.5 }, { kind: 'duplicate' });
  sqs.deliveryFaults.add({ times: 4, share: 0.5 }, { kind: 'reorder' });
  // visible again while the first worker has it, whose deletion has no effect
  sqs.deliveryFaults.add({ times: 4, share: 0.5 }, { kind: 'reappear' });
  sqs.faults.add({ times: 5, share: 0.2 }, { kind: 'answer' });
  sqs.faults.add({ times: 5, share: 0.2 }, { kind: 'lose-answer' });
  dynamodb.faults.add({ times: 20, share: 0.2 }, { kind: 'answer' });
  dynamodb.faults.add({ times: 20, share: 0.1 }, { kind: 'lose-answer' });
  ecr.faults.add({ operation: 'upload-put', times: 2 * JOBS }, { kind: 'delay', ms: 200 });
  await service.queue.send(jobs.map((job) => ({ body: formatJob(job) })));

  const writing = new Map<string, Set<string>>();
  const clashes: string[] = [];
  const workers = ['ann', 'bob'].map((name) =>
    startWorker(service, watched(lab.session().backends, name, writing, clashes)),
  );
  // each call may take a fault that is meant for a worker
  await eventually(
    async () => {
      const { visible, inFlight, delayed } = await service.queue.count();
      expect([(await service.state.runs.get(run))?.endedAtMs, visible + inFlight + delayed]).toEqual([
        expect.anything(),
        0,
      ]);
    },
    { intervalMs: 200 },
  );
  for (const faults of [sqs.faults, sqs.deliveryFaults, dynamodb.faults]) faults.clear();
  await Promise.all(workers.map(async (worker) => worker.stop()));

  expect(clashes).toEqual([]);
  const { jobs: counts } = (await service.state.runs.get(run)) ?? {};
  expect(counts?.failed).toBe(0);
  expect((counts?.done ?? 0) + (counts?.skipped ?? 0)).toBe(JOBS);
  expect(await service.deadLetters.count()).toMatchObject({ visible: 0 });
  for (const [i, place] of places.entries()) {
    await expectSameImage(image.content, lab.view(ecr, `stack/app-${i}`), image.root);
    expect(await service.state.destinations.get(destinationKey(place))).toMatchObject({ run, source: from });
    const lease = await service.state.destinations.lock(destinationKey(place), 5);
    expect(lease, `${place} is held`).toBeDefined();
    await lease?.[Symbol.asyncDispose]();
  }
  const busy = workers.flatMap(({ events }) => events).filter((event) => event.type === 'job-handed-back');
  expect(busy.length, 'nothing was delivered while it was done').toBeGreaterThan(0);
  await service[Symbol.asyncDispose]();
});
