import { join } from 'node:path';
import { writeSampleImage } from '../sample-image.ts';
import type { Stack } from '../stack.ts';
import { DemoDocuments } from './demo-documents.ts';
import { DemoRegistry } from './demo-registry.ts';
import type { CommandContext, CommonFlags, StartedProgram } from '../../worker/commands/context.ts';
import { formatBytes, formatDuration, printable } from '../../worker/commands/text.ts';
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

/** A step that was done, as the result of the demo shows it. */
export interface Step {
  readonly step: string;
  readonly what: string;
  readonly digest: string;
  /** Bytes that were moved. */
  readonly bytes: number;
  readonly ms: number;
}

type StepResult = Pick<Step, 'what'> & Partial<Pick<Step, 'digest' | 'bytes'>>;

const MIB = 1024 * 1024;
const PLATFORMS = [
  { os: 'linux', architecture: 'amd64' },
  { os: 'linux', architecture: 'arm64' },
];
/** Layer sizes in bytes: of the image that the demo follows, of the others, and of the one whose worker is killed. */
const LAYERS = [28 * MIB, 11 * MIB, 3 * MIB, 256 * 1024];
const SMALL_LAYERS = [2 * MIB, 64 * 1024];
const BIG_LAYERS = [160 * MIB, 40 * MIB];
const POLL_MS = 50;
/** After this time something that takes two minutes at most counts as broken. */
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

/** The members of a line of a worker's log that the demo uses. */
interface WorkerLine {
  readonly event?: string;
  readonly reference?: string;
  readonly durationMs?: number;
  readonly message?: string;
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
  readonly #steps: Step[] = [];
  readonly #workers = new Map<string, StartedProgram>();
  /** Which worker began which image last. */
  readonly #began = new Map<string, string>();
  readonly #documents: DemoDocuments;
  readonly #registry: DemoRegistry;
  readonly #product: string;
  /** The image that the demo follows. */
  readonly #app: string;
  /** What the other worker has to go on with after one was killed. */
  #interrupted = { worker: '', digest: '', bytes: 0, receivedBefore: 0 };
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
    this.#documents = new DemoDocuments(parts);
    this.#registry = new DemoRegistry(parts);
    this.#product = `docker://${parts.stack.ecr.registryHost}/product`;
    this.#app = `${this.#product}/app:1.0`;
  }

  async run(): Promise<readonly Step[]> {
    const { otherEcr, registry } = this.#stack;
    await this.#step('push images', async () => this.#pushImages());
    await this.#step('put objects', async () => this.#putObjects());
    await this.#step('apply rules', async () => this.#applyRules());
    await this.#step('plan', async () => this.#plan());
    await this.#step('work', async () => this.#work());
    await this.#step('plan again', async () => this.#planAgain());
    // from now on pushes to ECR and changes in S3 send events, as EventBridge does on AWS
    this.#stack.pushEvents = true;
    await this.#step('push 1.1', async () => this.#pushOneMore());
    await this.#step('put one more', async () => this.#putOneMore());
    await this.#step('kill a worker', async () => this.#killWorker());
    await this.#step('ask by hand', async () => this.#askByHand());
    await this.#step('go on', async () => this.#goOn());
    await this.#step('status', async () => this.#checkStatus());
    await this.#step('plan a prune', async () => this.#planPrune());
    await this.#step('stop', async () => this.#stop());
    await this.#step('lose it', async () => this.#loseIt());
    await this.#step('restore', async () => this.#restore());
    await this.#step('extract', async () => this.#extract());
    for (const app of [this.#app, `${this.#product}/app:1.1`]) await this.#verify(app, this.#pushed.get(app));
    await this.#verify(
      `docker://${otherEcr.registryHost}/hub/base/node:24.1.0`,
      this.#pushed.get(`docker://${registry.host}/base/node:24.1.0`),
    );
    await this.#step('back up all', async () => this.#registry.backUp(`transship ${this.#context.version}`));
    await this.#step('lose all', async () => this.#registry.lose());
    await this.#step('bring all back', async () => this.#bringBack());
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
    return { what: `three into ECR, one into another registry, each of two platforms`, bytes };
  }

  async #putObjects(): Promise<StepResult> {
    return { what: 'into S3: four, two of them equal, one empty', bytes: await this.#documents.putFirst() };
  }

  async #applyRules(): Promise<StepResult> {
    const [{ parseConfig }, { apply }] = await Promise.all([
      import('../../worker/rules/config.ts'),
      import('../../worker/service/admin/apply.ts'),
    ]);
    const rules = rulesOf(this.#stack) + this.#documents.rule;
    this.#print(rules.trimEnd());
    const plan = await apply(parseConfig(rules), this.#service.state, this.#options);
    await plan.execute(this.#options);
    return { what: `${plan.rules.length} rules in the table` };
  }

  async #plan(): Promise<StepResult> {
    await this.#runPass();
    const { visible } = await countMessages(this.#service, this.#options);
    return { what: `one pass of the planner: ${visible} jobs in the queue` };
  }

  async #work(): Promise<StepResult> {
    const before = this.#received();
    this.#start('A');
    this.#start('B');
    const runs = await this.#ended((await this.#service.state.runs.list(this.#options)).map((run) => run.id));
    return { what: `two worker processes: ${described(runs)}`, bytes: this.#received() - before };
  }

  async #planAgain(): Promise<StepResult> {
    const begun = await this.#runPass();
    const runs = await this.#ended(begun);
    return { what: `nothing has changed: ${described(runs)}` };
  }

  async #pushOneMore(): Promise<StepResult> {
    const to = `${this.#product}/app:1.1`;
    const from = this.#flags.image === undefined ? await this.#sample('app', '2', LAYERS) : this.#app;
    const result = await this.#push(from, to);
    const before = this.#received();
    await this.#archived('us-east-1/product/app', '1.1.tar', result.digest);
    return { what: 'its event started a backup at once', digest: result.digest, bytes: this.#received() - before };
  }

  async #putOneMore(): Promise<StepResult> {
    const bytes = await this.#documents.putLater();
    await this.#until('the object in a snapshot', async () => {
      const { destinations } = this.#service.state;
      return this.#documents.isPublished(await destinations.get(this.#documents.destination, this.#options));
    });
    return { what: 'into S3: its event published it to ECR at once', bytes };
  }

  async #killWorker(): Promise<StepResult> {
    const to = `${this.#product}/big:1.0`;
    const big = await this.#sample('big', '1', BIG_LAYERS, 0);
    const before = this.#received();
    const result = await this.#push(big, to);
    await this.#until('a third of the large backup', () => this.#received() - before > result.bytesSent / 3);
    const victim = this.#began.get('/product/big:1.0') ?? 'A';
    this.#workers.get(victim)?.kill('SIGKILL');
    const bytes = this.#received() - before;
    this.#interrupted = { worker: victim, digest: result.digest, bytes: result.bytesSent, receivedBefore: before };
    const what = `worker ${victim} is dead, ${formatBytes(bytes)} of ${formatBytes(result.bytesSent)} are in S3`;
    return { what, digest: result.digest, bytes };
  }

  async #goOn(): Promise<StepResult> {
    const { worker, digest, bytes, receivedBefore } = this.#interrupted;
    this.#print('  as on AWS, its message is redelivered two minutes after it was last extended');
    const before = this.#received();
    await this.#archived('us-east-1/product/big', '1.0.tar', digest);
    const twice = Math.max(0, this.#received() - receivedBefore - bytes);
    return {
      what: `the other one went on where ${worker} was killed: ${formatBytes(twice)} were sent twice`,
      digest,
      bytes: this.#received() - before,
    };
  }

  async #askByHand(): Promise<StepResult> {
    const { enqueueImage, follow } = await import('../../worker/service/admin/enqueue.ts');
    const to = `docker://${this.#stack.registry.host}/team/app:1.0`;
    const asked = await enqueueImage({ from: this.#app, to }, this.#service, this.#options);
    const { run, failed } = await follow(asked.id, this.#service.state.runs, this.#options);
    if (failed[0] !== undefined) throw new Failure('UNAVAILABLE', `${failed[0].title}: ${failed[0].reason}`);
    return { what: `enqueue SRC DST --wait: ${described([run])}`, digest: this.#pushed.get(this.#app) ?? '' };
  }

  async #checkStatus(): Promise<StepResult> {
    // the events of signatures and SBOMs look once more at what is done
    await this.#until('an empty queue', async () => {
      const { visible, inFlight, delayed } = await countMessages(this.#service, this.#options);
      return visible + inFlight + delayed === 0;
    });
    const { status } = await import('../../worker/service/admin/status.ts');
    const found = await status(this.#service, { ...this.#options, runs: 5 });
    const { describeStatus } = await import('../../worker/commands/status.ts');
    this.#print(describeStatus(found, this.#context.clock.now()));
    if (found.faulty || found.unanswered.length > 0)
      throw new Failure('UNAVAILABLE', 'look at the status: the system is late, has dead letters, or does not answer');
    return { what: `${found.rules.length} rules, nothing late, no dead letters` };
  }

  async #planPrune(): Promise<StepResult> {
    const { planDemoPrune } = await import('./demo-prune.ts');
    const { table, what } = await planDemoPrune(this.#stack, this.#backends, this.#options);
    this.#print(table);
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
    return { what: 'SIGTERM: nothing was in hand' };
  }

  async #loseIt(): Promise<StepResult> {
    await this.#stack.deleteRepository('product/app');
    return { what: 'the repository product/app is deleted, images and all' };
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
    return { what: `${run.items.length} images, from S3 alone`, bytes };
  }

  async #bringBack(): Promise<StepResult> {
    const { table, ...result } = await this.#registry.bringBack();
    if (table !== undefined) this.#print(table);
    return result;
  }

  async #extract(): Promise<StepResult> {
    const { files, bytes, digest } = await this.#documents.extract(join(this.#folder, 'documents'));
    return { what: `${files} objects as files from the snapshot in ECR, each as it was put`, digest, bytes };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const worker of this.#workers.values()) worker.kill('SIGKILL');
    await Promise.all([...this.#workers.values()].map(async (worker) => worker.ended));
  }

  async #step(name: string, work: () => Promise<StepResult>): Promise<void> {
    const { clock } = this.#context;
    const startedMs = clock.now();
    this.#print(`${name} …`);
    const result = await work();
    this.#steps.push({ step: name, digest: '', bytes: 0, ...result, ms: clock.now() - startedMs });
  }

  async #verify(location: string, digest: string | undefined): Promise<void> {
    const name = location.slice(location.lastIndexOf('/') + 1);
    await this.#step(`verify ${name}`, async () => {
      const [found] = await verify({ at: location, depth: 'bytes' }, this.#backends, this.#options);
      const isOther = found?.digest !== digest;
      const fault = found?.faults[0] ?? (isOther ? `it is ${found?.digest}, ${digest} was pushed` : undefined);
      if (found === undefined || fault !== undefined)
        throw new Failure('CORRUPT', `${location} is not what was pushed: ${fault}`);
      const { manifests, blobs, hashedBytes: bytes } = found;
      const what = `${manifests} manifests and ${blobs} blobs hashed, the digest that was pushed`;
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
    const { event, reference = '', durationMs = 0, message = '' } = JSON.parse(line) as WorkerLine;
    const job = printable(reference);
    if (event === 'job-started') {
      const [, image] = /^docker:\/\/[^/]*(\S*)/.exec(job) ?? [];
      if (image !== undefined) this.#began.set(image, worker);
    } else if (event === 'job-done') this.#print(`  ${worker}: ${job} in ${formatDuration(durationMs)}`);
    else if (event === 'job-failed') this.#print(`  ${worker}: ${job}: ${printable(message)}`);
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

  #print(text: string): void {
    if (this.#flags.quiet !== true && this.#flags.json !== true) this.#context.stderr.write(`${text}\n`);
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

function rulesOf({ ecr, otherEcr, registry, bucket }: Stack): string {
  return `version: 1
rules:
  - name: products
    backup:
      from: ${ecr.registryHost}/product/*
      to: s3://${bucket}/{regionName}/{repository}/{tag}.tar
    on: push
    schedule: "* * * * * *"   # every second, so that nobody has to wait
  - name: base-images
    mirror:
      from: ${registry.host}/base/node
      to: ${otherEcr.registryHost}/hub/{repository}
      tags: { semver: ">=24" }
    schedule: "* * * * * *"
`;
}

function described(runs: readonly Run[]): string {
  const sum = (count: (run: Run) => number): number => runs.reduce((all, run) => all + count(run), 0);
  const done = sum((run) => run.jobs.done);
  return `${done} copied, ${sum((run) => run.unchanged + run.jobs.skipped)} unchanged, ${sum((run) => run.jobs.failed)} failed`;
}
