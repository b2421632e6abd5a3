// What the service needs to plan new tags and to mirror small images from one ECR to another: calls, and CPU time of planner and worker.
// The stack is a process of its own.
//   npm run bench:service -- [--images 100] [--tags 2000]
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startStack } from '../../local/stack.ts';
import { formatTable } from '../../worker/commands/table.ts';
import { copy } from '../../worker/copy/copy.ts';
import { runWorker } from '../../worker/main/run-worker.ts';
import { readSettings } from '../../worker/main/settings.ts';
import { connect, connectService } from '../../worker/main/wire.ts';
import { formatRule } from '../../worker/rules/config.ts';
import { openBackendPool } from '../../worker/service/backend-pool.ts';
import { runPass } from '../../worker/service/planner/pass.ts';
import { systemClock as clock } from '../../worker/util/clock.ts';
import { makeImage } from '../support/images.ts';
import { rule } from '../support/rules.ts';
import { seedRegistry } from '../support/seeded-registry.ts';

type Counts = Readonly<Record<'dynamodb' | 'sqs' | 'source' | 'target', number>>;
type Message = { readonly environment: Readonly<Record<string, string>>; readonly hosts: readonly string[] } | Counts;

const { values } = parseArgs({
  options: {
    images: { type: 'string', default: '100' },
    tags: { type: 'string', default: '2000' },
    serve: { type: 'string' },
    kind: { type: 'string' },
  },
});

if (values.serve === undefined) await bench(Number(values.images), Number(values.tags));
else await serve(values.serve, values.kind === 'plan' ? Number(values.tags) : 0, Number(values.images));

/**
 * Runs the stack. Answers each message with the calls since the last one. With `tags`, a repository has that many images, which can be
 * listed and not read.
 */
async function serve(folder: string, tags: number, images: number): Promise<void> {
  if (tags > 0) {
    await mkdir(join(folder, 'ecr'), { recursive: true });
    await seedRegistry(join(folder, 'ecr'), [
      { repository: 'app', tags: Array.from({ length: tags }, (_, i) => `v${i}`) },
    ]);
  }
  const stack = await startStack({ folder });
  Object.assign(process.env, stack.environment);
  await using backends = connect(readSettings(stack.environment), 'bench', { report: () => undefined });
  const target = backends.registry(stack.ecr.registryHost, 'target').repository('app');
  for (const seed of Array.from({ length: tags === 0 ? images : 0 }).keys()) {
    const image = await makeImage({ seed, tag: `v${seed}`, platforms: ['linux/amd64'], layers: [1000] });
    await copy(image.content, target, [image.root], { referrers: false });
  }
  let before = new Set<unknown>();
  const all = () => ({
    dynamodb: stack.dynamodb.calls,
    // the bench asks for counts, to see when the work is over
    sqs: stack.sqs.calls.filter(({ action }) => action !== 'GetQueueAttributes'),
    source: stack.ecr.requests,
    target: stack.otherEcr.requests,
  });
  const report = (message: Message): void => void process.send?.(message);
  process.on('message', () => {
    const { dynamodb, sqs, source, target: written } = all();
    const since = (list: readonly unknown[]): number => list.filter((one) => !before.has(one)).length;
    report({ dynamodb: since(dynamodb), sqs: since(sqs), source: since(source), target: since(written) });
    before = new Set<unknown>([...dynamodb, ...sqs, ...source, ...written]);
  });
  process.once('disconnect', () => process.exit(0));
  report({ environment: stack.environment, hosts: [stack.ecr.registryHost, stack.otherEcr.registryHost] });
  await once(process, 'disconnect');
}

async function bench(images: number, tags: number): Promise<void> {
  const planned = await measure('plan', images, tags);
  const copied = await measure('copy', images, tags);
  const row = (what: string, count: number, { cpuSeconds, counts }: Measured): readonly string[] => [
    what,
    (cpuSeconds * 1000).toFixed(0),
    ((cpuSeconds * 1000) / count).toFixed(1),
    ...[counts.dynamodb, counts.sqs, counts.source, counts.target].map((calls) => (calls / count).toFixed(2)),
  ];
  const head = ['', '>CPU ms', '>CPU ms each', '>DynamoDB each', '>SQS each', '>source each', '>target each'];
  const rows = [row(`plan ${tags} new tags`, tags, planned), row(`mirror ${images} images`, images, copied)];
  process.stdout.write(`${formatTable(head, rows)}\n`);
}

interface Measured {
  readonly cpuSeconds: number;
  readonly counts: Counts;
}

async function measure(kind: 'plan' | 'copy', images: number, tags: number): Promise<Measured> {
  const folder = await mkdtemp(join(tmpdir(), 'transship-bench-'));
  const args = ['--serve', folder, '--kind', kind, '--images', String(images), '--tags', String(tags)];
  const stack = fork(fileURLToPath(import.meta.url), args);
  const asked = async (): Promise<Message> => (await once(stack, 'message'))[0] as Message;
  try {
    const started = await asked();
    if (!('environment' in started)) throw new Error('the stack did not start');
    const { environment, hosts } = started;
    Object.assign(process.env, environment, { AWS_EC2_METADATA_DISABLED: 'true' });
    const settings = readSettings({ ...environment, TRANSSHIP_SLOTS: '8', TRANSSHIP_LOG_LEVEL: 'error', HOME: folder });
    await using service = connectService(settings);
    await using backends = openBackendPool({
      rules: service.state.rules,
      connect: (access) => connect(settings, 'bench', { access, report: () => undefined }, clock),
      clock,
    });
    const [source = '', target = ''] = hosts;
    const mirror = rule({ name: 'mirror', from: [`${source}/app`], to: [`${target}/{repository}`] });
    await service.state.rules.put({ name: 'mirror', document: formatRule(mirror) }, 0);
    const counted = async (): Promise<Counts> => {
      stack.send('count');
      return (await asked()) as Counts;
    };
    const pass = async (): Promise<unknown> => runPass(service, backends, { clock });
    const work = async (): Promise<void> => {
      const stop = new AbortController();
      const working = runWorker({ settings, version: 'bench', signal: stop.signal, write: () => undefined });
      for (let isOver = false; !isOver;) {
        await delay(500);
        const { visible, inFlight, delayed } = await service.queue.count();
        isOver = visible + inFlight + delayed === 0;
      }
      stop.abort();
      await working;
    };
    if (kind === 'copy') await pass();
    await counted();
    const begun = process.cpuUsage();
    await (kind === 'plan' ? pass() : work());
    const { user, system } = process.cpuUsage(begun);
    return { cpuSeconds: (user + system) / 1e6, counts: await counted() };
  } finally {
    stack.disconnect();
    await once(stack, 'exit');
    await rm(folder, { recursive: true, force: true });
  }
}
