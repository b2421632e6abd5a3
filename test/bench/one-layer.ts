// One large layer where each connection is slow, as one to S3 is for a fast machine: beside crane and regctl, in turns, where they are installed.
//   npm run bench:shape -- [--mib 256] [--shape 20MB/s,10ms] [--runs 3] [--only file,s3,mirror,restore]
import { spawn } from 'node:child_process';
import { createCipheriv } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { formatTable } from '../../worker/commands/text.ts';
import { MemoryContent } from '../../worker/content/memory.ts';
import { copy } from '../../worker/copy/copy.ts';
import { openRegistry } from '../../worker/registry/registry.ts';
import { CHECKOUT, createWorkspace, isInstalled, start, type Environment } from '../support/interop-process.ts';
import { startDockerRegistry } from '../support/interop-registry.ts';
import { measure, median, type Command, type Measured } from './measure.ts';

const { values } = parseArgs({
  options: {
    mib: { type: 'string', default: '256' },
    shape: { type: 'string', default: '20MB/s,10ms' },
    runs: { type: 'string', default: '3' },
    only: { type: 'string', default: 'file,s3,mirror,restore' },
  },
});
const bytes = Number(values.mib) * 1024 * 1024;
const runs = Number(values.runs);
const only = new Set(values.only.split(','));

/** Pushes an image of one layer that does not compress. */
async function push(host: string): Promise<void> {
  const content = new MemoryContent();
  const random = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16));
  const layer = content.add('application/vnd.oci.image.layer.v1.tar', random.update(Buffer.alloc(bytes)));
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const config = content.add(
    'application/vnd.oci.image.config.v1+json',
    json({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [layer.digest] } }),
  );
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const root = content.add(mediaType, json({ schemaVersion: 2, mediaType, config, layers: [layer] }));
  await using registry = openRegistry(host, {
    side: 'target',
    credentials: async () => undefined,
    plainHttp: true,
    version: 'bench',
  });
  await copy(content, registry.repository('app'), [{ descriptor: root, tags: ['v1'] }]);
}

/** A program of this checkout that prints a line of JSON when it is ready, and runs until it is disposed. */
async function serve(
  args: readonly string[],
  env: Environment,
): Promise<{ readonly ready: unknown } & AsyncDisposable> {
  const child = spawn(process.execPath, args, { env: { ...env }, cwd: CHECKOUT, stdio: ['ignore', 'pipe', 'inherit'] });
  const gone = once(child, 'exit');
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  return {
    ready: JSON.parse(line) as unknown,
    [Symbol.asyncDispose]: async () => {
      child.kill();
      await gone;
    },
  };
}

/** A command, and what it needs until it has ended. */
interface Run extends AsyncDisposable {
  readonly command: Command;
}

interface Contender {
  readonly name: string;
  readonly prepare: () => Promise<Run>;
}

const built = await start(process.execPath, ['build.ts'], { env: { PATH: process.env['PATH'] ?? '' } }).finished;
if (built.code !== 0) throw new Error(built.stderr);
await using work = await createWorkspace();
const newRegistry = async (): ReturnType<typeof startDockerRegistry> =>
  startDockerRegistry({ folder: await mkdtemp(join(work.folder, 'registry-')), env: work.env });
await using origin = await newRegistry();
await push(origin.host);
await using stack = await serve(['local/cli.ts', 'local', '--json', '--dir', join(work.folder, 'stack')], work.env);
const local = stack.ready as Environment;
const s3Host = new URL(local['AWS_ENDPOINT_URL_S3'] ?? '').host;
await using proxies = await serve(['test/bench/shape.ts', '--shape', values.shape, origin.host, s3Host], work.env);
const [slowOrigin = '', slowS3 = ''] = proxies.ready as readonly string[];
const s3Env = { ...work.env, ...local, AWS_ENDPOINT_URL_S3: `http://${slowS3}` };
const from = `${slowOrigin}/app:v1`;

let count = 0;
const ours = (args: readonly string[], env: Environment = work.env): Command => ({
  command: process.execPath,
  args: ['dist/cli.js', ...args, '--quiet'],
  env,
});
const peer = (command: string, ...args: readonly string[]): Command => ({ command, args, env: work.env });

/** Into a file that is new each time. */
function toFile(make: (path: string) => Command): Contender['prepare'] {
  return async () => {
    const path = join(work.folder, `out-${++count}.tar`);
    return { command: make(path), [Symbol.asyncDispose]: () => rm(path, { force: true }) };
  };
}

function toS3(make: (url: string) => Command): Contender['prepare'] {
  return async () => ({
    command: make(`s3://transship-backups/one-layer-${++count}.tar`),
    [Symbol.asyncDispose]: async () => undefined,
  });
}

/** Into a registry that is empty each time, and slow where `isShaped`. */
function toRegistry(make: (host: string) => Command, isShaped: boolean): Contender['prepare'] {
  return async () => {
    const registry = await newRegistry();
    const proxy = isShaped
      ? await serve(['test/bench/shape.ts', '--shape', values.shape, registry.host], work.env)
      : undefined;
    const [host = registry.host] = (proxy?.ready ?? []) as readonly string[];
    return {
      command: make(host),
      [Symbol.asyncDispose]: async () => {
        await proxy?.[Symbol.asyncDispose]();
        await registry[Symbol.asyncDispose]();
      },
    };
  };
}

const cases: Readonly<Record<string, readonly Contender[]>> = {
  file: [
    { name: 'transship', prepare: toFile((path) => ours(['backup', from, `oci-archive:${path}`])) },
    { name: 'crane', prepare: toFile((path) => peer('crane', 'pull', '--insecure', from, path)) },
  ],
  s3: [{ name: 'transship', prepare: toS3((url) => ours(['backup', from, url], s3Env)) }],
  mirror: [
    { name: 'transship', prepare: toRegistry((host) => ours(['copy', from, `docker://${host}/app:v1`]), true) },
    { name: 'crane', prepare: toRegistry((host) => peer('crane', 'copy', '--insecure', from, `${host}/app:v1`), true) },
    {
      name: 'regctl',
      prepare: toRegistry(
        (host) =>
          peer(
            'regctl',
            ...[slowOrigin, host].flatMap((name) => ['--host', `reg=${name},tls=disabled`]),
            'image',
            'copy',
            from,
            `${host}/app:v1`,
          ),
        true,
      ),
    },
  ],
  restore: [
    {
      name: 'transship',
      prepare: toRegistry(
        (host) => ours(['restore', 's3://transship-backups/restore.tar', `docker://${host}/app:v1`], s3Env),
        false,
      ),
    },
  ],
};

if (only.has('restore'))
  await measure(
    ours(['backup', `${origin.host}/app:v1`, 's3://transship-backups/restore.tar'], { ...work.env, ...local }),
  );
const rows: string[][] = [];
for (const [name, contenders] of Object.entries(cases)) {
  if (!only.has(name)) continue;
  const there = contenders.filter((one) => one.name === 'transship' || isInstalled(one.name));
  const measured = new Map<string, Measured[]>(there.map((one) => [one.name, []]));
  // the first of each only warms caches
  for (let n = 0; n <= runs; n++)
    for (const one of there) {
      await using run = await one.prepare();
      const result = await measure(run.command);
      if (n > 0) measured.get(one.name)?.push(result);
    }
  const wall = (who: string): number => median((measured.get(who) ?? []).map((it) => it.wallSeconds));
  const best = Math.min(...there.filter((one) => one.name !== 'transship').map((one) => wall(one.name)));
  for (const [who, list] of measured)
    rows.push([
      name,
      who,
      wall(who).toFixed(2),
      median(list.map((it) => it.cpuSeconds)).toFixed(2),
      median(list.map((it) => it.peakMib)).toFixed(0),
      who === 'transship' && Number.isFinite(best) ? (wall(who) / best).toFixed(2) : '',
    ]);
}
process.stdout.write(
  `one layer of ${values.mib} MiB, ${values.shape} each connection, ${runs} runs each in turn, medians, ${cpus().length} cores, ` +
    `load ${loadavg()[0]?.toFixed(1)}\n\n${formatTable(['case', 'who', '>wall s', '>CPU s', '>peak MiB', '>to the best peer'], rows)}\n`,
);
