// A process that receives SIGTERM or SIGINT while services accept its connections and never answer. Each situation has its own stack and
// process, and all of them run at once: most of their time is waiting.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startStack, type Stack } from '../../local/stack.ts';
import { readSettings } from '../../worker/main/settings.ts';
import { connectService } from '../../worker/main/wire.ts';
import { countMessages, type Service } from '../../worker/service/service.ts';
import { enqueueImage } from '../../worker/service/admin/enqueue.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { STOP_SECONDS } from '../../worker/util/stop.ts';
import { eventually } from '../support/eventually.ts';
import { startWorker, type Line } from '../support/worker-process.ts';

const DEPENDENCIES = ['dynamodb', 'sqs', 's3', 'registry'] as const;
type Dependency = (typeof DEPENDENCIES)[number];

/** A process, what stops it, and what stops answering then. */
interface Situation {
  readonly what: string;
  readonly args: readonly string[];
  readonly signal: NodeJS.Signals;
  readonly hanging: readonly Dependency[];
  /** Jobs that the process is doing when it is stopped. */
  readonly jobs?: number;
  /** The text on stderr when it is stopped; until then every service answers. */
  readonly begun?: RegExp;
}

interface Stopped {
  readonly code: number | undefined;
  readonly seconds: number;
  readonly stderr: string;
  readonly lines: readonly Line[];
  /** Messages that another worker can take at once. */
  readonly visible: number;
}

function worker(hanging: readonly Dependency[], jobs: number): Situation {
  const what = `a worker with ${jobs} jobs while ${hanging.join(', ')} hang`;
  return { what, args: ['worker', '--slots', '8'], signal: 'SIGTERM', hanging, jobs };
}

const WORKERS = [
  worker(['dynamodb'], 1),
  worker(['dynamodb'], 8),
  worker(['sqs'], 8),
  worker(['s3'], 8),
  worker(['registry'], 8),
  worker(DEPENDENCIES, 1),
  worker(DEPENDENCIES, 8),
];
function command(signal: NodeJS.Signals, ...args: readonly string[]): Situation {
  return { what: args.join(' '), args, signal, hanging: DEPENDENCIES };
}

const COMMANDS = [
  command('SIGTERM', 'planner', '--every', '1s'),
  command('SIGINT', 'enqueue', 'host.example/app:1', 's3://transship-backups/app.tar'),
  {
    ...command('SIGINT', 'enqueue', 'host.example/app:2', 's3://transship-backups/app.tar', '--wait'),
    begun: /waiting 1/,
  },
  command('SIGINT', 'status'),
  command('SIGINT', 'redrive'),
  command('SIGINT', 'verify', 's3://transship-backups/'),
];

/** Long enough for a busy machine. */
const MAX_SECONDS = STOP_SECONDS + 60;

const stopped = new Map<Situation, Stopped>();
const over = new AsyncDisposableStack();
afterAll(async () => over.disposeAsync());
beforeAll(async () => {
  const prepared: (() => Promise<void>)[] = [];
  for (const situation of [...WORKERS, ...COMMANDS]) {
    const { stack, service } = await prepare(situation);
    prepared.push(async () => void stopped.set(situation, await stop(situation, stack, service)));
  }
  await Promise.all(prepared.map(async (run) => run()));
});

/** A stack with the jobs of the situation in its queue. Stacks start one after the other: clients read endpoints from this process's environment. */
async function prepare({
  hanging,
  jobs = 0,
}: Situation): Promise<{ readonly stack: Stack; readonly service: Service }> {
  const folder = await mkdtemp(join(tmpdir(), 'transship-stop-'));
  over.defer(async () => rm(folder, { recursive: true, force: true }));
  const stack = over.use(await startStack({ folder }));
  Object.assign(process.env, stack.environment);
  const service = over.use(connectService(readSettings(stack.environment)));
  await service.queue.count();
  for (let job = 0; job < jobs; job++) {
    const image = `docker://${stack.registry.host}/app:v${job}`;
    const archive = `s3://${stack.bucket}/v${job}.tar`;
    const request = isOfS3(hanging) ? { from: archive, to: image } : { from: image, to: archive };
    await enqueueImage(request, service, { clock: systemClock });
  }
  return { stack, service };
}

/** Whether the jobs read archives, and so wait for S3, instead of images of the registry. */
function isOfS3(hanging: readonly Dependency[]): boolean {
  return hanging.length === 1 && hanging[0] === 's3';
}

function hang(stack: Stack, dependency: Dependency): void {
  stack[dependency].faults.add({ times: Infinity }, { kind: 'delay', ms: 600_000 });
}

/** The number of hanging requests to a stack. */
function asked({ dynamodb, sqs, s3, registry }: Stack): number {
  return dynamodb.calls.length + sqs.calls.length + s3.requests.length + registry.requests.length;
}

/** Starts the process of the situation, waits until it is working, and stops it. */
async function stop(situation: Situation, stack: Stack, service: Service): Promise<Stopped> {
  const { args, signal, hanging, jobs = 0, begun } = situation;
  // jobs reach their source, and no further
  const first = isOfS3(hanging) ? ('s3' as const) : ('registry' as const);
  for (const dependency of jobs === 0 && begun === undefined ? hanging : [first]) hang(stack, dependency);
  const before = asked(stack);
  const started = over.use(startWorker(stack.environment, args));
  const isAtWork = (): void => {
    const running = started.lines.filter(({ event }) => event === 'job-started').length;
    const isSo = begun === undefined ? running >= jobs && asked(stack) > before : begun.test(started.stderr);
    if (!isSo) throw new Error(`${args[0]}: ${started.stderr}`);
  };
  await eventually(isAtWork);
  for (const dependency of hanging) hang(stack, dependency);
  const stoppedMs = systemClock.now();
  started.kill(signal);
  const late = setTimeout(() => started.kill('SIGKILL'), MAX_SECONDS * 1000);
  const code = await started.ended;
  clearTimeout(late);
  const seconds = (systemClock.now() - stoppedMs) / 1000;
  stack.sqs.faults.clear();
  const { visible } = await countMessages(service);
  return { code, seconds, stderr: started.stderr, lines: started.lines, visible };
}

test.each(WORKERS)('$what: it exits within 20 seconds of SIGTERM', (situation) => {
  const { code, seconds, stderr, lines, visible } = stopped.get(situation) ?? expect.unreachable('it never ended');
  expect(seconds, JSON.stringify(lines.slice(-20))).toBeLessThan(MAX_SECONDS);
  const isGivenBack = !situation.hanging.includes('dynamodb') && !situation.hanging.includes('sqs');
  expect({ code, stderr }).toEqual({
    code: isGivenBack ? 0 : 1,
    stderr: isGivenBack ? '' : expect.stringMatching(/^transship: stop after SIGTERM: .* within 20 seconds[^\n]*\n$/),
  });
  // a queue that answers gets its messages back, whatever the table does
  if (!situation.hanging.includes('sqs')) expect(visible).toBe(situation.jobs);
});

test.each(COMMANDS)('$what, stopped while nothing answers, exits by itself', (situation) => {
  const { code, seconds, stderr } = stopped.get(situation) ?? expect.unreachable('it never ended');
  expect(seconds).toBeLessThan(STOP_SECONDS);
  const isPlanner = situation.args[0] === 'planner';
  expect({ code, stderr }).toEqual({
    code: isPlanner ? 0 : 130,
    stderr: isPlanner ? '' : expect.stringMatching(/transship: stopped [^\n]*\n$/),
  });
});
