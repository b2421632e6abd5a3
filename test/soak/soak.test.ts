// Five hundred jobs on four workers that are killed and stopped at random, while every service that they use fails now and then. The seed
// decides the choices: TRANSSHIP_SOAK_SEED=… npm run test:soak
import { DynamoDBClient, ScanCommand } from '@aws-sdk/client-dynamodb';
import { HeadObjectCommand, ListMultipartUploadsCommand } from '@aws-sdk/client-s3';
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, onTestFailed, test, vi } from 'vitest';
import { copy } from '../../worker/copy/copy.ts';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { enqueueImage, enqueueRule } from '../../worker/service/admin/enqueue.ts';
import { status } from '../../worker/service/admin/status.ts';
import type { Queue } from '../../worker/queue/queue.ts';
import { countMessages, type Service } from '../../worker/service/service.ts';
import { openLocation } from '../../worker/images/open-location.ts';
import { formatRule } from '../../worker/rules/config.ts';
import { parseLocation } from '../../worker/oci/location.ts';
import { readSettings } from '../../worker/main/settings.ts';
import type { Run } from '../../worker/state/state.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { forEachOf } from '../../worker/util/limit.ts';
import { retry } from '../../worker/util/retry.ts';
import { connectService } from '../../worker/main/wire.ts';
import { oneOf, startChaos, startFleet } from '../support/chaos.ts';
import { fakeClock } from '../support/clock.ts';
import { makeImage, type ImageRecipe, type MadeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { clientOf } from '../support/local-s3.ts';
import { rule } from '../support/rules.ts';
import { expectSameImage } from '../support/same-image.ts';

const seed = Number(process.env['TRANSSHIP_SOAK_SEED'] ?? Math.floor(Math.random() * 1e6));
const dice = fakeClock({ seed });
const random = (): number => dice.random();
const startedMs = systemClock.now();
const say = (text: string): void =>
  void process.stdout.write(`soak, ${((systemClock.now() - startedMs) / 1000).toFixed(0)} s: ${text}\n`);
say(`seed ${seed}`);

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, registry, bucket, s3, dynamodb, table } = lab.stack;
const environment = {
  ...lab.stack.environment,
  TRANSSHIP_VISIBILITY_SECONDS: '10',
  TRANSSHIP_CLOCK_SKEW_SECONDS: '0',
  TRANSSHIP_SLOTS: '4',
  TRANSSHIP_LOG_LEVEL: 'info',
};
const service = connectService(readSettings(environment));
afterAll(async () => service[Symbol.asyncDispose]());
const { runs, rules } = service.state;
/** A person who asks again as long as the queue is unavailable: a planner would send a recorded job only 15 minutes later. */
const stubborn: Service = {
  ...service,
  queue: persistent(service.queue),
  requests: service.requests && persistent(service.requests),
};

function persistent(queue: Queue): Queue {
  return {
    name: queue.name,
    receive: async (max, o) => queue.receive(max, o),
    count: async (o) => queue.count(o),
    send: async (messages, o) => retry('send', async () => queue.send(messages, o), { attempts: 20 }),
  };
}

const WORKERS = 4;
/** The repositories of a product, and of a base image: planning lists them one by one, and should end long before the copies. */
const TAGS = 10;
const BASE_TAGS = 20;
const BASES = 11;
const PRODUCTS = 10;
const REQUESTS = 50;
const PUSHES = 20;
/** Once a year, so that a rule is due once in this test. */
const SCHEDULE = { cron: '0 0 1 1 *', timeZone: 'UTC' };

interface Placed {
  readonly image: MadeImage;
  readonly at: LocalRegistry;
  readonly repository: string;
  readonly tag: string;
}
/** The image that each destination must hold. */
const wanted: { readonly from: Placed; readonly to: string }[] = [];

const nameOf = ({ at, repository, tag }: Omit<Placed, 'image'>): string =>
  `docker://${at.registryHost}/${repository}:${tag}`;

/** Retries as well: a person whose push fails pushes again. */
async function put(image: MadeImage, at: LocalRegistry, repository: string, tag: string): Promise<Placed> {
  const push = async (): Promise<unknown> =>
    copy(image.content, lab.view(at, repository), [{ ...image.root, tags: [tag] }]);
  await retry('push', push, { attempts: 20 });
  return { image, at, repository, tag };
}

/** Images of several layers and platforms. Those of one seed share layers; some are signed; some become archives of more than one part. */
async function makeImages(): Promise<readonly MadeImage[]> {
  const variants: readonly ImageRecipe[] = [
    { layers: [2000, 40_000] },
    { layers: [2000, 40_000, 90_000], signed: true },
    { layers: [2000, 40_000], platforms: ['linux/amd64'] },
    { layers: [2000, 1000], platforms: ['linux/amd64', 'linux/arm64', 'linux/arm/v7'], signed: true },
    { layers: [2000, 40_000, 600_000], platforms: ['linux/arm64'], docker: true },
  ];
  const recipes: ImageRecipe[] = [];
  for (let i = 0; i < 8; i++) for (const variant of variants) recipes.push({ ...variant, seed: seed + i });
  const large: ImageRecipe = { layers: [5_000_000, 9_000_000], platforms: ['linux/amd64'], signed: true, seed };
  return Promise.all([...recipes, large].map(makeImage));
}

async function putAll(
  images: readonly MadeImage[],
  at: LocalRegistry,
  name: string,
  { repositories, tags }: { readonly repositories: number; readonly tags: number },
): Promise<readonly Placed[]> {
  const placed: Placed[] = [];
  for (let i = 0; i < repositories; i++)
    for (let tag = 0; tag < tags; tag++) placed.push(await put(oneOf(images, random), at, `${name}-${i}`, `v${tag}`));
  return placed;
}

/** All runs, once each of them has ended and no message is left. */
async function settled(): Promise<readonly Run[]> {
  return vi.waitFor(
    async () => {
      const { visible, inFlight, delayed } = await countMessages(service);
      const found = await runs.list({ limit: 2000 });
      const open = found.filter((run) => run.endedAtMs === undefined);
      const left = open.map(({ id, jobs }) => `${id} ${JSON.stringify(jobs)}`);
      const messages = { visible, inFlight, delayed };
      expect(left, JSON.stringify(messages)).toEqual([]);
      expect(messages).toEqual({ visible: 0, inFlight: 0, delayed: 0 });
      return found;
    },
    // longer than the longest wait between two attempts
    { timeout: 1_200_000, interval: 2000 },
  );
}

const sum = (run: Run): number => Object.values(run.jobs).reduce((a, b) => a + b, 0);

test('whatever happens, makes every destination equal to its source, and leaves nothing unfinished', async () => {
  const images = await makeImages();
  const products = await putAll(images, ecr, 'product/app', { repositories: PRODUCTS, tags: TAGS });
  const bases = await putAll(images, registry, 'base/app', { repositories: BASES, tags: BASE_TAGS });
  const backups = rule({
    name: 'backups',
    from: [`${ecr.registryHost}/product/*`],
    to: [`s3://${bucket}/{repository}/{tag}.tar`],
    schedule: SCHEDULE,
    onPush: true,
  });
  const both = rule({
    name: 'both',
    from: [`${ecr.registryHost}/product/*`],
    to: [`${otherEcr.registryHost}/copy/{repository}`, `${registry.registryHost}/copy/{repository}`],
    schedule: SCHEDULE,
    onPush: true,
  });
  const hub = rule({
    name: 'hub',
    from: bases
      .map(({ repository }) => `${registry.registryHost}/${repository}`)
      .filter((from, i, all) => all.indexOf(from) === i),
    to: [`${ecr.registryHost}/hub/{repository}`],
    schedule: SCHEDULE,
  });
  for (const one of [backups, both, hub]) await rules.put({ name: one.name, document: formatRule(one) }, 0);
  const want = (from: Placed, ...to: readonly string[]): void =>
    void wanted.push(...to.map((one) => ({ from, to: one })));
  const wantProduct = (from: Placed): void => {
    want(
      from,
      `s3://${bucket}/${from.repository}/${from.tag}.tar`,
      nameOf({ ...from, at: otherEcr, repository: `copy/${from.repository}` }),
      nameOf({ ...from, at: registry, repository: `copy/${from.repository}` }),
    );
  };
  for (const from of products) wantProduct(from);
  for (const from of bases) want(from, nameOf({ ...from, at: ecr, repository: `hub/${from.repository}` }));
  say(`${products.length + bases.length} images are there`);

  await using planners = startFleet({ ...environment, TRANSSHIP_LOG_LEVEL: 'info' }, [['planner', '--every', '2s']]);
  await using workers = startFleet(
    environment,
    Array.from({ length: WORKERS }, () => ['worker']),
  );
  onTestFailed(() => {
    const lines = [...planners.all, ...workers.all].flatMap((one, i) =>
      one.lines.map((line) => ({ process: i, ...line })),
    );
    const file = join(tmpdir(), `transship-soak-${seed}.jsonl`);
    writeFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    say(`the output of the processes is in ${file}`);
  });
  const chaos = startChaos(lab.stack, { ...workers, one: (by) => (by() < 0.03 ? planners : workers).one(by) }, random);
  const scheduled = await vi.waitFor(
    async () => {
      const found = await Promise.all(
        ['backups', 'both', 'hub'].map(async (name) => (await runs.list({ rule: name }))[0]),
      );
      expect(found.map((run) => run?.plannedAtMs)).toEqual(found.map(() => expect.any(Number)));
      return found.flatMap((run) => run ?? []);
    },
    { timeout: 300_000, interval: 1000 },
  );
  say('the rules are planned');
  lab.stack.pushEvents = true;
  for (let i = 0; i < Math.max(PUSHES, REQUESTS); i++) {
    if (i < PUSHES) wantProduct(await put(oneOf(images, random), ecr, `product/pushed-${i % 5}`, `p${i}`));
    const from = oneOf([...products, ...bases], random);
    const to =
      i % 2 === 0
        ? `s3://${bucket}/asked/${i}.tar`
        : nameOf({ at: otherEcr, repository: `asked/app-${i % 7}`, tag: `r${i}` });
    await enqueueImage({ from: nameOf(from), to }, stubborn, { clock: systemClock });
    want(from, to);
    await systemClock.sleep(250);
  }
  say('everything is pushed and asked for');
  // until most of the work is done
  await vi.waitFor(
    async () => {
      const { visible } = await countMessages(service);
      expect(visible).toBeLessThan(100);
    },
    { timeout: 300_000, interval: 1000 },
  );
  await chaos.stop();
  lab.stack.pushEvents = false;
  say(`${chaos.killed} killed, ${chaos.stopped} stopped, ${chaos.faults} faults; now in peace`);
  const first = await settled();
  say(`${first.length} runs have ended`);

  // an event that the queue did not accept is lost: the next pass of the rule makes up for it
  for (const name of ['backups', 'both', 'hub']) await enqueueRule(name, service, { clock: systemClock });
  await settled();
  const looked = await Promise.all(
    ['backups', 'both', 'hub'].map(async (name) => enqueueRule(name, service, { clock: systemClock })),
  );
  const all = await settled();
  const again = all.filter(({ id }) => looked.some((run) => run.id === id));
  expect(
    again
      .map(({ rule: name, jobs, unchanged }) => [name, jobs.done, sum({ jobs } as Run), unchanged])
      .sort(([a], [b]) => String(a).localeCompare(String(b))),
  ).toEqual([
    ['backups', 1, 1, PRODUCTS * TAGS + PUSHES],
    ['both', 1, 1, PRODUCTS * TAGS + PUSHES],
    ['hub', 1, 1, BASES * BASE_TAGS],
  ]);

  const codes = [...(await workers.stop()), ...(await planners.stop())];
  expect(codes).toEqual(Array.from({ length: WORKERS + 1 }, () => 0));
  // a worker that is stopped while the table hangs reports that it exits without waiting
  const said = [...workers.all, ...planners.all].map(({ stderr }) => stderr);
  expect(said.filter((text) => !/^(?:transship: stop after SIGTERM: .* within 20 seconds.*\n)?$/.test(text))).toEqual(
    [],
  );

  // counts
  for (const { id } of scheduled) {
    const run = all.find((one) => one.id === id);
    expect(run && sum(run), id).toBe(id.startsWith('hub') ? BASES * BASE_TAGS : PRODUCTS * TAGS);
  }
  for (const run of all) {
    const records = await Array.fromAsync(runs.jobs(run.id));
    const states = Object.groupBy(records, ({ state }) => state);
    const counted = Object.entries(run.jobs).map(([state, count]) => [
      state,
      count,
      states[state as keyof typeof states]?.length ?? 0,
    ]);
    for (const [state, count, there] of counted) expect(count, `${run.id}: ${state}`).toBe(there);
    expect(run.jobs.failed, `${run.id}: ${records.map(({ reason }) => reason).join()}`).toBe(0);
  }
  const jobs = all.reduce((total, run) => total + sum(run), 0);
  expect(jobs).toBeGreaterThan(500);
  const lines = [...workers.all, ...planners.all].flatMap((process) => process.lines);
  const endings = lines.filter(({ event }) => event === 'run-ended').map((line) => line['run']);
  expect(new Set(endings).size, 'a run ended twice').toBe(endings.length);

  // `transship status` exits with 0
  const { faulty, unanswered, rules: found } = await status(service, { clock: systemClock });
  expect({ faulty, unanswered, faults: found.flatMap(({ faults }) => faults) }).toEqual({
    faulty: false,
    unanswered: [],
    faults: [],
  });

  // queues, leases, uploads
  expect(await service.deadLetters.count()).toMatchObject({ visible: 0, inFlight: 0 });
  expect(await leasesHeld()).toEqual([]);
  using client = disposable(clientOf(s3));
  const { Uploads = [] } = await client.client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
  // a worker whose clean-up was refused too often reports what it left
  const reported = lines.flatMap(({ event, message }) =>
    event === 'warning' && String(message).startsWith('unfinished uploads may remain') ? [String(message)] : [],
  );
  const left = await Promise.all(
    Uploads.map(async ({ Key, Initiated }) => {
      const { LastModified } = await client.client.send(new HeadObjectCommand({ Bucket: bucket, Key }));
      const isReported = reported.some((message) => message.includes(`/${Key}:`));
      return { key: Key, isExpected: isReported || Number(Initiated) > Number(LastModified) };
    }),
  );
  // a request that hung until its worker was gone begins an upload after the object is complete: a lifecycle rule ends it
  expect(left.filter(({ isExpected }) => !isExpected)).toEqual([]);

  say(`${jobs} jobs in ${all.length} runs; ${wanted.length} destinations are compared`);
  const { backends, options } = lab.session();
  const views = new Map<string, ReturnType<typeof lab.view>>();
  // one for each repository: every view keeps its own connections
  const viewOf = (at: LocalRegistry, repository: string): ReturnType<typeof lab.view> => {
    const name = `${at.registryHost}/${repository}`;
    const view = views.get(name) ?? lab.view(at, repository);
    views.set(name, view);
    return view;
  };
  await forEachOf(wanted, 4, async ({ from, to }) => {
    const root = { ...from.image.root, tags: [from.tag] };
    const source = viewOf(from.at, from.repository);
    const location = parseLocation(to);
    if (location.transport === 'docker') {
      const { registry: host, repository, tag = '' } = location.reference;
      const at = [ecr, otherEcr, registry].find((one) => one.registryHost === host);
      expect(at).toBeDefined();
      const view = viewOf(at ?? ecr, repository);
      expect((await view.resolve(tag)).digest, to).toBe(root.descriptor.digest);
      await expectSameImage(source, view, { ...root, tags: [] });
    } else {
      await using image = await openLocation(backends, location, 'source', options);
      expect(image.root.descriptor.digest, to).toBe(root.descriptor.digest);
      await expectSameImage(source, image.source, { ...root, tags: [] });
    }
  });
  say(`all are equal; ${workers.all.length + planners.all.length} processes in all`);
});

/** The leases in the table that are held at this moment. */
async function leasesHeld(): Promise<readonly string[]> {
  const client = new DynamoDBClient({
    endpoint: dynamodb.endpoint,
    region: 'us-east-1',
    credentials: { accessKeyId: 'local', secretAccessKey: 'local-secret' },
  });
  try {
    const held: string[] = [];
    let after: ScanCommand['input']['ExclusiveStartKey'];
    do {
      const page = await client.send(new ScanCommand({ TableName: table, ExclusiveStartKey: after }));
      for (const { pk, sk, owner, leaseUntilMs } of page.Items ?? [])
        if (owner !== undefined && Number(leaseUntilMs?.N) > systemClock.now()) held.push(`${pk?.S} ${sk?.S}`);
      after = page.LastEvaluatedKey;
    } while (after !== undefined);
    return held;
  } finally {
    client.destroy();
  }
}

function disposable<T extends { destroy(): void }>(client: T): Disposable & { readonly client: T } {
  return { client, [Symbol.dispose]: () => client.destroy() };
}
