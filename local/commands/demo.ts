import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { writeSampleImage } from '../sample-image.ts';
import { startStack, type Stack } from '../stack.ts';
import type { Backends, OperationOptions } from '../../worker/images/backends.ts';
import { copyImage, type ImageCopyResult } from '../../worker/images/copy-image.ts';
import { restore } from '../../worker/images/restore.ts';
import type { Service } from '../../worker/service/service.ts';
import { verify } from '../../worker/images/verify.ts';
import { parseLocation } from '../../worker/oci/location.ts';
import type { Run } from '../../worker/state/state.ts';
import { Failure } from '../../worker/util/failure.ts';
import {
  printResult,
  withCommonFlags,
  withProgress,
  type CommandContext,
  type CommonFlags,
  type StartedProgram,
} from '../../worker/commands/context.ts';
import { optionsOf } from '../../worker/commands/result.ts';
import { formatBytes, formatDigest, formatDuration, formatTable, printable } from '../../worker/commands/text.ts';

interface DemoFlags extends CommonFlags {
  readonly image?: string;
}

interface Step {
  readonly step: string;
  readonly what: string;
  readonly digest: string;
  /** Bytes that were moved. */
  readonly bytes: number;
  readonly ms: number;
}

type Told = Pick<Step, 'what'> & Partial<Pick<Step, 'digest' | 'bytes'>>;

const MIB = 1024 * 1024;
const PLATFORMS = [
  { os: 'linux', architecture: 'amd64' },
  { os: 'linux', architecture: 'arm64' },
];
/** Of the image that everything is shown with, of the others, and of the one whose worker dies. */
const LAYERS = [28 * MIB, 11 * MIB, 3 * MIB, 256 * 1024];
const SMALL_LAYERS = [2 * MIB, 64 * 1024];
const BIG_LAYERS = [160 * MIB, 40 * MIB];
/** A worker that dies is missed after that long. On AWS it is two minutes, and clocks differ. */
const ENVIRONMENT = { TRANSSHIP_VISIBILITY_SECONDS: '10', TRANSSHIP_CLOCK_SKEW_SECONDS: '0' };
const POLL_MS = 50;
/** Until something that takes seconds counts as broken. */
const PATIENCE_MS = 90_000;

export function addDemo(program: Command, context: CommandContext): void {
  const command = program
    .command('demo')
    .summary('the whole system on this machine alone: rules, queue, workers, a loss and a restore')
    .description(
      'Starts the embedded stack, puts images of two platforms with signatures and SBOMs into its ECR, applies rules, plans them, lets two worker processes back up and mirror, kills one in the middle of a large backup, deletes a repository, restores it and verifies every digest. Needs no AWS and no docker.',
    )
    .option('--image <ref>', 'use this image too: any place that copy takes as its source');
  withCommonFlags(command).action(async (flags: DemoFlags) => {
    const folder = await mkdtemp(join(tmpdir(), 'transship-demo-'));
    try {
      await using stack = await startStack({ folder: join(folder, 'stack') });
      context.setEnvironment({ ...stack.environment, ...ENVIRONMENT });
      // a pipe gets the steps; what moves for each is for a terminal to show
      const shown = { ...flags, quiet: flags.quiet === true || (!context.stderr.terminal && flags.verbose !== true) };
      const steps = await withProgress(context, shown, async ({ report }) => {
        await using backends = context.connect({ report });
        await using service = context.connectService({ report });
        await using demo = new Demo(stack, folder, flags, context, backends, service, optionsOf(context, {}, report));
        return await demo.run();
      });
      printResult(context, flags, steps, () => describe(steps));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}

/** What is wanted of a line of a worker's log. */
interface WorkerLine {
  readonly event?: string;
  readonly reference?: string;
  readonly durationMs?: number;
  readonly message?: string;
}

class Demo implements AsyncDisposable {
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
  readonly #product: string;

  constructor(
    stack: Stack,
    folder: string,
    flags: DemoFlags,
    context: CommandContext,
    backends: Backends,
    service: Service,
    options: OperationOptions,
  ) {
    this.#stack = stack;
    this.#folder = folder;
    this.#flags = flags;
    this.#context = context;
    this.#backends = backends;
    this.#service = service;
    this.#options = options;
    this.#product = `docker://${stack.ecr.registryHost}/product`;
  }

  async run(): Promise<readonly Step[]> {
    const { ecr, otherEcr, registry, bucket } = this.#stack;
    const { state } = this.#service;
    const pushed = new Map<string, string>();
    const push = async (from: string, to: string): Promise<ImageCopyResult> => {
      const result = await copyImage(
        { from: parseLocation(from), to: parseLocation(to) },
        this.#backends,
        this.#options,
      );
      pushed.set(to, result.digest);
      return result;
    };
    const one = `${this.#product}/app:1.0`;

    await this.#step('push images', async () => {
      const results = [
        await push(this.#flags.image ?? (await this.#sample('app', '1', LAYERS)), one),
        await push(await this.#sample('api', '1', SMALL_LAYERS), `${this.#product}/api:2.0`),
        await push(await this.#sample('web', '1', SMALL_LAYERS), `${this.#product}/web:3.0`),
        await push(await this.#sample('node', '1', SMALL_LAYERS), `docker://${registry.host}/base/node:24.1.0`),
      ];
      const bytes = results.reduce((sum, result) => sum + moved(result), 0);
      return { what: `three into ECR, one into another registry, each of two platforms`, bytes };
    });
    await this.#step('apply rules', async () => {
      const [{ parseConfig }, { apply }] = await Promise.all([
        import('../../worker/rules/config.ts'),
        import('../../worker/service/admin/apply.ts'),
      ]);
      const rules = rulesOf(this.#stack);
      this.#tell(rules.trimEnd());
      const plan = await apply(parseConfig(rules), state, this.#options);
      await plan.execute(this.#options);
      return { what: `${plan.rules.length} rules in the table` };
    });
    await this.#step('plan', async () => {
      await this.#runPass();
      const { visible } = await this.#service.queue.count(this.#options);
      return { what: `one tick of the planner: ${visible} jobs in the queue` };
    });
    await this.#step('work', async () => {
      const before = this.#received();
      this.#start('A');
      this.#start('B');
      const runs = await this.#ended((await state.runs.list(this.#options)).map((run) => run.id));
      return { what: `two worker processes: ${described(runs)}`, bytes: this.#received() - before };
    });
    await this.#step('plan again', async () => {
      const begun = await this.#runPass();
      const runs = await this.#ended(begun);
      return { what: `nothing has changed: ${described(runs)}` };
    });
    // from now on ECR tells of pushes, as EventBridge does on AWS
    this.#stack.pushEvents = true;
    await this.#step('push 1.1', async () => {
      const to = `${this.#product}/app:1.1`;
      const from = this.#flags.image === undefined ? await this.#sample('app', '2', LAYERS) : one;
      const result = await push(from, to);
      const before = this.#received();
      await this.#archived('us-east-1/product/app', '1.1.tar', result.digest);
      return { what: 'its event started a backup at once', digest: result.digest, bytes: this.#received() - before };
    });
    await this.#step('kill a worker', async () => {
      const to = `${this.#product}/big:1.0`;
      const big = await this.#sample('big', '1', BIG_LAYERS, 0);
      const before = this.#received();
      const result = await push(big, to);
      await this.#until('a third of the large backup', () => this.#received() - before > moved(result) / 3);
      const victim = this.#began.get('/product/big:1.0') ?? 'A';
      this.#workers.get(victim)?.kill('SIGKILL');
      const sent = this.#received() - before;
      this.#tell(`worker ${victim} is dead, ${formatBytes(sent)} of ${formatBytes(moved(result))} were in S3`);
      await this.#archived('us-east-1/product/big', '1.0.tar', result.digest);
      const bytes = this.#received() - before;
      const twice = Math.max(0, bytes - moved(result));
      return {
        what: `the other one went on where ${victim} died: ${formatBytes(twice)} were sent twice`,
        digest: result.digest,
        bytes,
      };
    });
    await this.#step('ask by hand', async () => {
      const { enqueueImage, follow } = await import('../../worker/service/admin/enqueue.ts');
      const to = `docker://${registry.host}/team/app:1.0`;
      const asked = await enqueueImage({ from: one, to }, this.#service, this.#options);
      const { run, failed } = await follow(asked.id, this.#service.state.runs, this.#options);
      if (failed[0] !== undefined) throw new Failure('UNAVAILABLE', `${failed[0].title}: ${failed[0].reason}`);
      return { what: `enqueue SRC DST --wait: ${described([run])}`, digest: pushed.get(one) ?? '' };
    });
    await this.#step('status', async () => {
      // the events of signatures and SBOMs look once more at what is done
      await this.#until('an empty queue', async () => {
        const { visible, inFlight, delayed } = await this.#service.queue.count(this.#options);
        return visible + inFlight + delayed === 0;
      });
      const { status } = await import('../../worker/service/admin/status.ts');
      const found = await status(this.#service, { ...this.#options, runs: 5 });
      const { describeStatus } = await import('../../worker/commands/status.ts');
      this.#tell(describeStatus(found, this.#context.clock.now()));
      if (found.faulty) throw new Failure('BUG', 'the system is late, or has dead letters');
      return { what: `${found.rules.length} rules, nothing late, no dead letters` };
    });
    await this.#step('stop', async () => {
      const codes: (number | undefined)[] = [];
      for (const worker of this.#workers.values()) {
        worker.kill('SIGTERM');
        codes.push(await worker.ended);
      }
      this.#workers.clear();
      if (!codes.includes(0)) throw new Failure('BUG', `the workers ended with ${codes.join(', ')}`);
      return { what: 'SIGTERM: nothing was in hand' };
    });
    await this.#step('lose it', async () => {
      await this.#stack.deleteRepository('product/app');
      return { what: 'the repository product/app is deleted, images and all' };
    });
    await this.#step('restore', async () => {
      const archives = `s3://${bucket}/us-east-1/product/app/`;
      const run = await restore({ from: archives, to: `docker://${ecr.registryHost}` }, this.#backends, this.#options);
      const failed = run.items.find((item) => item.failure !== undefined)?.failure;
      if (failed !== undefined) throw failed;
      const bytes = run.items.reduce((sum, item) => sum + moved(item.result), 0);
      return { what: `${run.items.length} images, from S3 alone`, bytes };
    });
    for (const tag of ['1.0', '1.1']) {
      await this.#verify(`${this.#product}/app:${tag}`, pushed.get(`${this.#product}/app:${tag}`));
    }
    await this.#verify(
      `docker://${otherEcr.registryHost}/hub/base/node:24.1.0`,
      pushed.get(`docker://${registry.host}/base/node:24.1.0`),
    );
    return this.#steps;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const worker of this.#workers.values()) worker.kill('SIGKILL');
    await Promise.all([...this.#workers.values()].map(async (worker) => worker.ended));
  }

  async #step(name: string, work: () => Promise<Told>): Promise<void> {
    const { clock } = this.#context;
    const startedMs = clock.now();
    this.#tell(`${name} …`);
    const told = await work();
    this.#steps.push({ step: name, digest: '', bytes: 0, ...told, ms: clock.now() - startedMs });
  }

  async #verify(at: string, digest: string | undefined): Promise<void> {
    const name = at.slice(at.lastIndexOf('/') + 1);
    await this.#step(`verify ${name}`, async () => {
      const [found] = await verify({ at, deep: true }, this.#backends, this.#options);
      const isOther = found?.digest !== digest;
      const fault = found?.faults[0] ?? (isOther ? `it is ${found?.digest}, ${digest} was pushed` : undefined);
      if (found === undefined || fault !== undefined)
        throw new Failure('CORRUPT', `${at} is not what was pushed: ${fault}`);
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
    // the schedules of the rules have a tick every second
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

  /** Logs of workers are for programs; what a person wants of them is told. */
  #heard(worker: string, line: string): void {
    const { event, reference = '', durationMs = 0, message = '' } = JSON.parse(line) as WorkerLine;
    const job = printable(reference);
    if (event === 'job-started') {
      const [, image] = /^docker:\/\/[^/]*(\S*)/.exec(job) ?? [];
      if (image !== undefined) this.#began.set(image, worker);
    } else if (event === 'job-done') this.#tell(`  ${worker}: ${job} in ${formatDuration(durationMs)}`);
    else if (event === 'job-failed') this.#tell(`  ${worker}: ${job}: ${printable(message)}`);
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
    if (failed !== undefined) throw new Failure('BUG', `the run ${failed.id} has failed jobs`);
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
    const untilMs = clock.now() + PATIENCE_MS;
    while (!(await isSo())) {
      if (clock.now() > untilMs) throw new Failure('BUG', `the demo waited in vain for ${what}`);
      await clock.sleep(POLL_MS, this.#options);
    }
  }

  /** Bytes that S3 took so far. */
  #received(): number {
    return this.#stack.s3.requests.reduce((sum, request) => sum + request.receivedBytes, 0);
  }

  #tell(text: string): void {
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

function moved(result: ImageCopyResult | undefined): number {
  return result?.copied?.tallies.copied.bytes ?? 0;
}

function described(runs: readonly Run[]): string {
  const sum = (count: (run: Run) => number): number => runs.reduce((all, run) => all + count(run), 0);
  const done = sum((run) => run.jobs.done);
  return `${done} copied, ${sum((run) => run.unchanged + run.jobs.skipped)} unchanged, ${sum((run) => run.jobs.failed)} failed`;
}

function describe(steps: readonly Step[]): string {
  return [
    formatTable(
      ['step', '>moved', '>time', 'digest', ''],
      steps.map(({ step, what, digest, bytes, ms }) => [
        step,
        bytes === 0 ? '-' : formatBytes(bytes),
        formatDuration(ms),
        digest === '' ? '' : formatDigest(digest),
        what,
      ]),
    ),
    '',
    'Every restored byte hashes to the digest that was pushed; signatures and SBOMs are back too.',
  ].join('\n');
}
