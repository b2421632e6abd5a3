import { join } from 'node:path';
import { writeSampleImage } from '../sample-image.ts';
import type { Stack } from '../stack.ts';
import { DemoDocuments } from './demo-documents.ts';
import { DemoRegistry } from './demo-registry.ts';
import type { CommandContext, CommonFlags, StartedProgram } from '../../worker/commands/context.ts';
import { rulesOf } from './demo-rules.ts';
import { COPIES, described, parseWorkerLine } from './demo-work.ts';
import { Story, type Step } from './demo-story.ts';
import { formatBytes, formatDuration } from '../../worker/commands/text.ts';
import type { Backends, OperationOptions } from '../../worker/images/backends.ts';
import { copyImage, type ImageCopyResult } from '../../worker/images/copy-image.ts';
import { restore } from '../../worker/images/restore.ts';
import { verify } from '../../worker/images/verify.ts';
import { parseLocation } from '../../worker/oci/location.ts';
import { countMessages, type Service } from '../../worker/service/service.ts';
import type { Run } from '../../worker/state/state.ts';
import { Failure } from '../../worker/util/failure.ts';

export interface DemoFlags extends CommonFlags {
  readonly image?: string;
}

type StepResult = Pick<Step, 'what'> & Partial<Pick<Step, 'digest' | 'bytes'>>;

const MIB = 1024 * 1024;
const PLATFORMS = [
  { os: 'linux', architecture: 'amd64' },
  { os: 'linux', architecture: 'arm64' },
];
/** Layer sizes in bytes: of the image that the demo follows, of the others, and of the one whose worker is killed. */
const LAYERS = [8 * MIB, 3 * MIB, MIB, 256 * 1024];
const SMALL_LAYERS = [MIB, 64 * 1024];
const BIG_LAYERS = [40 * MIB, 10 * MIB];
/** The parts of the large backup that S3 takes at once. Those after them wait, so that there is a middle to kill the worker in. */
const QUICK_PARTS = 4;
const SLOW_MS = 60_000;
/** The archive of the large image. */
const BIG_KEY = 'us-east-1/product/big/1.0.tar';
const POLL_MS = 50;
/** A step takes two minutes at most. After this time it counts as broken. */
const PATIENCE_MINUTES = 10;

/** What the demo runs on. */
interface DemoParts {
  readonly stack: Stack;
  readonly folder: string;
  readonly flags: DemoFlags;
  readonly context: CommandContext;
  readonly backends: Backends;
  readonly service: Service;
  readonly options: OperationOptions;
}

/** The steps of the demo, and the workers that it starts. */
export class Demo implements AsyncDisposable {
  readonly #stack: Stack;
  readonly #folder: string;
  readonly #flags: DemoFlags;
  readonly #context: CommandContext;
  readonly #backends: Backends;
  readonly #service: Service;
  readonly #options: OperationOptions;
  readonly #story: Story;
  readonly #steps: Step[] = [];
  readonly #workers = new Map<string, StartedProgram>();
  /** The worker that began each image last. */
  readonly #began = new Map<string, string>();
  readonly #documents: DemoDocuments;
  readonly #registry: DemoRegistry;
  readonly #product: string;
  /** The image that the demo follows. */
  readonly #app: string;
  /** What the other worker has to go on with after one was killed. */
  #interrupted = { worker: '', digest: '', bytes: 0 };
  /** The digest that was pushed, by location. */
  readonly #pushed = new Map<string, string>();

  constructor(parts: DemoParts) {
    this.#stack = parts.stack;
    this.#folder = parts.folder;
    this.#flags = parts.flags;
    this.#context = parts.context;
    this.#backends = parts.backends;
    this.#service = parts.service;
    this.#options = parts.options;
    const isShown = parts.flags.quiet !== true && parts.flags.json !== true;
    this.#story = new Story(parts.context.stderr, { isShown });
    this.#documents = new DemoDocuments(parts);
    this.#registry = new DemoRegistry(parts);
    this.#product = `docker://${parts.stack.ecr.registryHost}/product`;
    this.#app = `${this.#product}/app:1.0`;
  }

  async run(): Promise<readonly Step[]> {
    const { ecr, otherEcr, registry } = this.#stack;
    this.#story.tell('This process runs a small cloud: S3, SQS, DynamoDB and three registries.');
    this.#story.introduce(
      new Map([
        [ecr.registryHost, 'ecr'],
        [otherEcr.registryHost, 'other-ecr'],
        [registry.host, 'registry'],
      ]),
    );
    await this.#step('Push images, each for two platforms, with a signature and an SBOM', async () =>
      this.#pushImages(),
    );
    await this.#step('Put objects into S3', async () => this.#putObjects());
    await this.#step('Write rules, and apply them', async () => this.#applyRules());
    await this.#step('Let the planner look for what is due', async () => this.#plan());
    await this.#step('Start two workers', async () => this.#work());
    await this.#step('Plan again', async () => this.#planAgain());
    // from now on pushes to ECR and changes in S3 send events, as EventBridge does on AWS
    this.#stack.pushEvents = true;
    await this.#step('Push app:1.1, and wait for its event', async () => this.#pushOneMore());
    await this.#step('Put one more object into S3', async () => this.#putOneMore());
    await this.#step('Push a large image, and kill the worker in the middle of its backup', async () =>
      this.#killWorker(),
    );
    await this.#step('Meanwhile, ask for one copy by hand', async () => this.#askByHand());
    await this.#step('Plan what a prune would delete', async () => this.#planPrune());
    await this.#step('Back up the whole registry into a store', async () =>
      this.#registry.backUp(`transship ${this.#context.version}`),
    );
    await this.#step('Wait until the other worker takes over', async () => this.#goOn());
    await this.#step('Lose a repository: delete product/app, images and all', async () => this.#loseIt());
    await this.#step('Restore it from its archives', async () => this.#restore());
    await this.#step('Extract the objects from the registry', async () => this.#extract());
    for (const app of [this.#app, `${this.#product}/app:1.1`]) await this.#verify(app, this.#pushed.get(app));
    await this.#verify(
      `docker://${otherEcr.registryHost}/hub/base/node:24.1.0`,
      this.#pushed.get(`docker://${registry.host}/base/node:24.1.0`),
    );
    await this.#step('Lose the whole registry', async () => this.#loseAll());
    await this.#step('Bring it back from its snapshot', async () => this.#bringBack());
    await this.#step('Ask for the status', async () => this.#checkStatus());
    await this.#step('Stop the workers', async () => this.#stop());
    return this.#steps;
  }

  async #push(from: string, to: string): Promise<ImageCopyResult> {
    const result = await copyImage({ from: parseLocation(from), to: parseLocation(to) }, this.#backends, this.#options);
    this.#pushed.set(to, result.digest);
    return result;
  }

  async #pushImages(): Promise<StepResult> {
    const results = [
      await this.#push(this.#flags.image ?? (await this.#sample('app', '1', LAYERS)), this.#app),
      await this.#push(await this.#sample('api', '1', SMALL_LAYERS), `${this.#product}/api:2.0`),
      await this.#push(await this.#sample('web', '1', SMALL_LAYERS), `${this.#product}/web:3.0`),
      await this.#push(
        await this.#sample('node', '1', SMALL_LAYERS),
        `docker://${this.#stack.registry.host}/base/node:24.1.0`,
      ),
    ];
    const bytes = results.reduce((sum, result) => sum + result.bytesSent, 0);
    return { what: 'three are in ecr, one is in registry', bytes };
  }

  async #putObjects(): Promise<StepResult> {
    return { what: 'four, of which two are equal and one is empty', bytes: await this.#documents.putFirst() };
  }

  async #applyRules(): Promise<StepResult> {
    const [{ parseConfig }, { apply }] = await Promise.all([
      import('../../worker/rules/config.ts'),
      import('../../worker/service/admin/apply.ts'),
    ]);
    const rules = rulesOf(this.#stack) + this.#documents.rule;
    this.#story.tell(rules.trimEnd());
    const plan = await apply(parseConfig(rules), this.#service.state, this.#options);
    await plan.execute(this.#options);
    return { what: `${plan.rules.length} rules are in the table` };
  }

  async #plan(): Promise<StepResult> {
    await this.#runPass();
    const { visible } = await countMessages(this.#service, this.#options);
    return { what: `${visible} jobs are in the queue` };
  }

  async #work(): Promise<StepResult> {
    const before = this.#received();
    this.#start('A');
    this.#start('B');
    const runs = await this.#ended((await this.#service.state.runs.list(this.#options)).map((run) => run.id));
    return { what: described(runs), bytes: this.#received() - before };
  }

  async #planAgain(): Promise<StepResult> {
    const begun = await this.#runPass();
    const runs = await this.#ended(begun);
    return { what: `nothing changed, and the run ends with a new snapshot: ${described(runs)}` };
  }

  async #pushOneMore(): Promise<StepResult> {
    const to = `${this.#product}/app:1.1`;
    const from = this.#flags.image === undefined ? await this.#sample('app', '2', LAYERS) : this.#app;
    const result = await this.#push(from, to);
    const before = this.#received();
    await this.#archived('us-east-1/product/app', '1.1.tar', result.digest);
    return { what: 'a worker backed it up at once', digest: result.digest, bytes: this.#received() - before };
  }

  async #putOneMore(): Promise<StepResult> {
    const bytes = await this.#documents.putLater();
    await this.#until('the object in a snapshot', async () => {
      const { destinations } = this.#service.state;
      return this.#documents.isPublished(await destinations.get(this.#documents.destination, this.#options));
    });
    return { what: 'a worker published it to ecr at once', bytes };
  }

  async #killWorker(): Promise<StepResult> {
    const to = `${this.#product}/big:1.0`;
    const big = await this.#sample('big', '1', BIG_LAYERS, 0);
    const key = BIG_KEY;
    const slow = { operation: 'UploadPart', key, skip: QUICK_PARTS, times: Infinity } as const;
    const quicken = this.#stack.s3.faults.add(slow, { kind: 'delay', ms: SLOW_MS });
    const result = await this.#push(big, to);
    await this.#until('the first parts of the large backup', () => this.#partsOf(key) >= QUICK_PARTS);
    const victim = this.#began.get('/product/big:1.0') ?? 'A';
    this.#workers.get(victim)?.kill('SIGKILL');
    quicken();
    const bytes = this.#receivedOf(key);
    this.#interrupted = { worker: victim, digest: result.digest, bytes: result.bytesSent };
    const what = `worker ${victim} is dead; ${formatBytes(bytes)} of ${formatBytes(result.bytesSent)} are in S3`;
    return { what, digest: result.digest, bytes };
  }

  /** How many parts of an archive S3 has begun to take. */
  #partsOf(key: string): number {
    const parts = this.#stack.s3.requests.filter((one) => one.operation === 'UploadPart' && one.key === key);
    return parts.filter(({ receivedBytes }) => receivedBytes > 0).length;
  }

  /** Bytes of one object that S3 took so far. */
  #receivedOf(key: string): number {
    return this.#stack.s3.requests.reduce((sum, one) => sum + (one.key === key ? one.receivedBytes : 0), 0);
  }

  async #goOn(): Promise<StepResult> {
    const { worker, digest, bytes } = this.#interrupted;
    this.#story.tell("SQS redelivers the dead worker's message when its visibility timeout ends.");
    const before = this.#receivedOf(BIG_KEY);
    await this.#archived('us-east-1/product/big', '1.0.tar', digest);
    const twice = Math.max(0, this.#receivedOf(BIG_KEY) - bytes);
    return {
      what: `it went on where ${worker} was killed; ${formatBytes(twice)} were sent twice`,
      digest,
      bytes: this.#receivedOf(BIG_KEY) - before,
    };
  }

  async #askByHand(): Promise<StepResult> {
    const { enqueueImage, follow } = await import('../../worker/service/admin/enqueue.ts');
    const to = `docker://${this.#stack.registry.host}/team/app:1.0`;
    const asked = await enqueueImage({ from: this.#app, to }, this.#service, this.#options);
    const { run, failed } = await follow(asked.id, this.#service.state.runs, this.#options);
    if (failed[0] !== undefined) throw new Failure('UNAVAILABLE', `${failed[0].title}: ${failed[0].reason}`);
    return { what: `transship enqueue SRC DST --wait: ${described([run])}`, digest: this.#pushed.get(this.#app) ?? '' };
  }

  async #checkStatus(): Promise<StepResult> {
    await this.#emptyQueue();
    const { status } = await import('../../worker/service/admin/status.ts');
    const found = await status(this.#service, { ...this.#options, runs: 5 });
    const { describeStatus } = await import('../../worker/commands/status.ts');
    this.#story.tell(describeStatus(found, this.#context.clock.now(), this.#story.look));
    if (found.faulty || found.unanswered.length > 0)
      throw new Failure('UNAVAILABLE', 'look at the status: the system is late, has dead letters, or does not answer');
    return { what: `${found.rules.length} rules, nothing late, no dead letters: transship status exits with 0` };
  }

  async #planPrune(): Promise<StepResult> {
    const { planDemoPrune } = await import('./demo-prune.ts');
    const { table, what } = await planDemoPrune(this.#stack, this.#backends, this.#options, this.#story.look);
    this.#story.tell(table);
    return { what };
  }

  async #stop(): Promise<StepResult> {
    const codes: (number | undefined)[] = [];
    for (const worker of this.#workers.values()) {
      worker.kill('SIGTERM');
      codes.push(await worker.ended);
    }
    this.#workers.clear();
    if (!codes.includes(0)) throw new Failure('UNAVAILABLE', `stop the workers: they ended with ${codes.join(', ')}`);
    return { what: 'they had nothing in hand' };
  }

  async #loseIt(): Promise<StepResult> {
    await this.#stack.deleteRepository('product/app');
    return { what: 'product/app is gone' };
  }

  async #restore(): Promise<StepResult> {
    const archives = `s3://${this.#stack.bucket}/us-east-1/product/app/`;
    const run = await restore(
      { from: archives, to: `docker://${this.#stack.ecr.registryHost}` },
      this.#backends,
      this.#options,
    );
    const failed = run.items.find((item) => item.failure !== undefined)?.failure;
    if (failed !== undefined) throw failed;
    const bytes = run.items.reduce((sum, item) => sum + item.bytesSent, 0);
    return { what: `${run.items.length} images are back, from S3 alone`, bytes };
  }

  async #loseAll(): Promise<StepResult> {
    // restored images send events: a worker that takes one now would find the registry gone
    await this.#emptyQueue();
    return this.#registry.lose();
  }

  async #bringBack(): Promise<StepResult> {
    const { table, ...result } = await this.#registry.bringBack(this.#story.look);
    if (table !== undefined) this.#story.tell(table);
    return result;
  }

  async #emptyQueue(): Promise<void> {
    await this.#until('an empty queue', async () => {
      const { visible, inFlight, delayed } = await countMessages(this.#service, this.#options);
      return visible + inFlight + delayed === 0;
    });
  }

  async #extract(): Promise<StepResult> {
    const { files, bytes, digest } = await this.#documents.extract(join(this.#folder, 'documents'));
    return { what: `${files} files, each as it was put into S3`, digest, bytes };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const worker of this.#workers.values()) worker.kill('SIGKILL');
    await Promise.all([...this.#workers.values()].map(async (worker) => worker.ended));
  }

  async #step(name: string, work: () => Promise<StepResult>): Promise<void> {
    const { clock } = this.#context;
    const startedMs = clock.now();
    this.#story.begin(name);
    const result = await work();
    const step = { step: name, digest: '', bytes: 0, ...result, ms: clock.now() - startedMs };
    this.#steps.push(step);
    this.#story.end(step);
  }

  async #verify(location: string, digest: string | undefined): Promise<void> {
    const name = location.slice(location.lastIndexOf('/') + 1);
    await this.#step(`Verify ${name}, byte by byte`, async () => {
      const [found] = await verify({ at: location, depth: 'bytes' }, this.#backends, this.#options);
      const isOther = found?.digest !== digest;
      const fault = found?.faults[0] ?? (isOther ? `it is ${found?.digest}, ${digest} was pushed` : undefined);
      if (found === undefined || fault !== undefined)
        throw new Failure('CORRUPT', `${location} is not what was pushed: ${fault}`);
      const { manifests, blobs, hashedBytes: bytes } = found;
      const what = `${manifests} manifests and ${blobs} blobs have the digests that were pushed`;
      return { what, digest: found.digest ?? '', bytes };
    });
  }

  /** Returns the runs that it began. */
  async #runPass(): Promise<readonly string[]> {
    const { runPass } = await import('../../worker/service/planner/pass.ts');
    const { runs } = this.#service.state;
    const before = new Set((await runs.list(this.#options)).map((run) => run.id));
    // the schedules of the rules name every second
    await this.#until('the next second', async () => {
      const { begun } = await runPass(this.#service, { use: async (work) => work(this.#backends) }, this.#options);
      return begun > 0;
    });
    return (await runs.list(this.#options)).map((run) => run.id).filter((id) => !before.has(id));
  }

  #start(name: string): void {
    const worker = this.#context.start(['worker'], { onLine: (line) => this.#heard(name, line) });
    this.#workers.set(name, worker);
  }

  /** Prints the lines of a worker's log that concern a person. */
  #heard(worker: string, line: string): void {
    const { event, kind, reference, durationMs, message } = parseWorkerLine(line);
    if (event === 'job-started') {
      const [, image] = /^docker:\/\/[^/]*(\S*)/.exec(reference) ?? [];
      if (image !== undefined) this.#began.set(image, worker);
    } else if (event === 'job-done' && COPIES.has(kind))
      this.#story.heard(worker, reference, formatDuration(durationMs));
    else if (event === 'job-failed') this.#story.heard(worker, `${reference}: ${message}`, 'failed');
  }

  async #ended(ids: readonly string[]): Promise<readonly Run[]> {
    const runs = new Map<string, Run>();
    await this.#until('the end of the runs', async () => {
      for (const id of ids) {
        const run = await this.#service.state.runs.get(id, this.#options);
        if (run !== undefined) runs.set(id, run);
      }
      return [...runs.values()].every((run) => run.endedAtMs !== undefined);
    });
    const failed = [...runs.values()].find((run) => run.jobs.failed > 0);
    if (failed !== undefined)
      throw new Failure('UNAVAILABLE', `wait for the run ${failed.id}: ${failed.jobs.failed} of its jobs failed`);
    return [...runs.values()];
  }

  async #archived(folder: string, name: string, digest: string): Promise<void> {
    const group = `s3://${this.#stack.bucket}/${folder}`;
    await this.#until(`the archive ${folder}/${name}`, async () => {
      const record = await this.#service.state.destinations.get({ group, name }, this.#options);
      return record?.digest === digest;
    });
  }

  async #until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
    const { clock } = this.#context;
    const untilMs = clock.now() + PATIENCE_MINUTES * 60_000;
    while (!(await isSo())) {
      if (clock.now() > untilMs) {
        const why = `nothing after ${PATIENCE_MINUTES} minutes: run the demo again when this machine is less busy`;
        throw new Failure('UNAVAILABLE', `wait for ${what}: ${why}`);
      }
      await clock.sleep(POLL_MS, this.#options);
    }
  }

  /** Bytes that S3 took so far. */
  #received(): number {
    return this.#stack.s3.requests.reduce((sum, request) => sum + request.receivedBytes, 0);
  }

  async #sample(name: string, version: string, layerBytes: readonly number[], compression?: number): Promise<string> {
    const made = join(this.#folder, `${name}-${version}`);
    await writeSampleImage(made, {
      tag: '1',
      platforms: PLATFORMS,
      layerBytes,
      version: `${name} ${version}`,
      ...(compression === undefined ? {} : { compression }),
    });
    return `oci:${made}:1`;
  }
}
