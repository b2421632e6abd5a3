// Throughput and memory beside skopeo, in alternating runs on the same image and the same registries.
//   npm run bench -- [--gib 1] [--runs 3] [--only mirror|file|s3]
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { createCipheriv, createHash } from 'node:crypto';
import { measure, median, type Command, type Measured } from './measure.ts';
import { formatTable } from '../../worker/commands/text.ts';
import { CHECKOUT, createWorkspace, start, type Environment, type Workspace } from '../support/interop-process.ts';
import { startDockerRegistry, type DockerRegistry } from '../support/interop-registry.ts';

const MIB = 1024 * 1024;

interface Case {
  readonly name: string;
  /** What is aimed at: ratios to skopeo. */
  readonly aim: { readonly wall: number; readonly cpu: number };
  /** Prepares one run, and returns what is measured. */
  readonly ours: (n: number) => Promise<Run>;
  readonly skopeo: (n: number) => Promise<Run>;
}

interface Run extends Command, AsyncDisposable {}

/** Layers of a GiB: two large ones, as of a language runtime and a model, and nine of what images mostly are. */
function layersOf(gib: number): readonly number[] {
  const small = Array.from({ length: 9 }, (_, i) => (i < 8 ? 56 : 64) * MIB * gib);
  return [256 * MIB * gib, ...small, 256 * MIB * gib];
}

/** Writes an OCI layout of gzipped layers that do not compress. */
async function writeImage(folder: string, sizes: readonly number[]): Promise<void> {
  const blobs = join(folder, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const put = async (mediaType: string, bytes: Buffer) => {
    const digest = createHash('sha256').update(bytes).digest('hex');
    await writeFile(join(blobs, digest), bytes);
    return { mediaType, digest: `sha256:${digest}`, size: bytes.byteLength };
  };
  const layers = [];
  for (const [i, size] of sizes.entries()) {
    const key = createHash('sha256').update(`layer ${i}`).digest();
    const stream = createCipheriv('aes-128-ctr', key.subarray(0, 16), key.subarray(16));
    // gzip without compression: its content would not compress anyhow, and anything else skopeo would compress itself
    const layer = gzipSync(stream.update(Buffer.alloc(size)), { level: 0 });
    layers.push(await put('application/vnd.oci.image.layer.v1.tar+gzip', layer));
  }
  const config = await put(
    'application/vnd.oci.image.config.v1+json',
    Buffer.from(
      JSON.stringify({
        os: 'linux',
        architecture: 'amd64',
        rootfs: { type: 'layers', diff_ids: layers.map((l) => l.digest) },
      }),
    ),
  );
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = await put(mediaType, Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config, layers })));
  const annotations = { 'org.opencontainers.image.ref.name': 'bench' };
  await writeFile(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(
    join(folder, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }),
  );
}

async function newRegistry(work: Workspace, name: string): Promise<DockerRegistry> {
  return startDockerRegistry({ folder: await mkdtemp(join(work.folder, `${name}-`)), env: work.env });
}

/** A registry without a blob, as the target of one run. */
async function emptyTarget(work: Workspace): Promise<DockerRegistry & AsyncDisposable> {
  const folder = await mkdtemp(join(work.folder, 'target-'));
  const registry = await startDockerRegistry({ folder, env: work.env });
  return {
    ...registry,
    [Symbol.asyncDispose]: async () => {
      await registry[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function casesFor(work: Workspace, from: string, s3: Environment): Promise<readonly Case[]> {
  const transship = (args: readonly string[], env: Environment = work.env) => ({
    command: process.execPath,
    args: ['dist/cli.js', ...args, '--quiet'],
    env,
  });
  const skopeo = (to: string) => ({
    command: 'skopeo',
    args: ['copy', '--quiet', '--src-tls-verify=false', '--dest-tls-verify=false', `docker://${from}`, to],
    env: work.env,
  });
  const toFile = (make: (path: string) => Command) => async (n: number) => {
    const path = join(work.folder, `out-${n}.tar`);
    return { ...make(path), [Symbol.asyncDispose]: () => rm(path, { force: true }) };
  };
  const toRegistry = (make: (host: string) => Command) => async () => {
    const registry = await emptyTarget(work);
    return { ...make(registry.host), [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose]() };
  };
  const skopeoToFile = toFile((path) => skopeo(`oci-archive:${path}:bench`));
  return [
    {
      name: 'mirror',
      aim: { wall: 0.9, cpu: 1 },
      ours: toRegistry((host) => transship(['copy', from, `docker://${host}/app:bench`])),
      skopeo: toRegistry((host) => skopeo(`docker://${host}/app:bench`)),
    },
    {
      name: 'file',
      aim: { wall: 0.5, cpu: 0.5 },
      ours: toFile((path) => transship(['backup', from, `oci-archive:${path}`])),
      skopeo: skopeoToFile,
    },
    {
      name: 's3',
      aim: { wall: 0.5, cpu: 0.5 },
      ours: async (n) => ({
        ...transship(['backup', from, `s3://transship-backups/bench-${n}.tar`], { ...work.env, ...s3 }),
        [Symbol.asyncDispose]: async () => undefined,
      }),
      skopeo: skopeoToFile,
    },
  ];
}

const { values } = parseArgs({
  options: { gib: { type: 'string', default: '1' }, runs: { type: 'string', default: '3' }, only: { type: 'string' } },
});
const gib = Number(values.gib);
const runs = Number(values.runs);

// what is installed is measured, not the sources
const built = await start(process.execPath, ['build.ts'], { env: { PATH: process.env['PATH'] ?? '' } }).finished;
if (built.code !== 0) throw new Error(built.stderr);
await using work = await createWorkspace();
const layout = join(work.folder, 'image');
await writeImage(layout, layersOf(gib));
await using source = await newRegistry(work, 'source');
const from = `${source.host}/bench:bench`;
const pushed = await start(
  'skopeo',
  ['copy', '--quiet', '--dest-tls-verify=false', `oci:${layout}:bench`, `docker://${from}`],
  { env: work.env },
).finished;
if (pushed.code !== 0) throw new Error(pushed.stderr);
await rm(layout, { recursive: true });

const local = spawn(process.execPath, ['local/cli.ts', 'local', '--json', '--dir', join(work.folder, 'stack')], {
  env: { ...work.env },
  cwd: CHECKOUT,
  stdio: ['ignore', 'pipe', 'ignore'],
});
const gone = once(local, 'exit');
await using _ = {
  [Symbol.asyncDispose]: async () => {
    local.kill();
    await gone;
  },
};
const [environment] = (await once(createInterface(local.stdout), 'line')) as [string];
const s3 = JSON.parse(environment) as Environment;

const rows: string[][] = [];
for (const one of await casesFor(work, from, s3)) {
  if (values.only !== undefined && values.only !== one.name) continue;
  const ours: Measured[] = [];
  const theirs: Measured[] = [];
  // the first of each only warms caches
  for (let n = 0; n <= runs; n++) {
    await using a = await one.ours(2 * n);
    const measured = await measure(a);
    await using b = await one.skopeo(2 * n + 1);
    const other = await measure(b);
    if (n > 0) ours.push(measured);
    if (n > 0) theirs.push(other);
  }
  const of = (key: keyof Measured, list: readonly Measured[]): number => median(list.map((m) => m[key]));
  const ratio = (key: keyof Measured): number => median(ours.map((m, i) => m[key] / (theirs[i]?.[key] ?? Number.NaN)));
  for (const [who, list] of [
    ['transship', ours],
    ['skopeo', theirs],
  ] as const) {
    rows.push([
      one.name,
      who,
      of('wallSeconds', list).toFixed(2),
      of('cpuSeconds', list).toFixed(2),
      of('peakMib', list).toFixed(0),
    ]);
  }
  const [wall, cpu] = [ratio('wallSeconds'), ratio('cpuSeconds')];
  const met = (value: number, aim: number): string => `${value.toFixed(2)} (aim ${aim})`;
  rows.push([one.name, 'ratio', met(wall, one.aim.wall), met(cpu, one.aim.cpu), '(aim 256 MiB)']);
}
const text = formatTable(['case', 'who', '>wall s', '>CPU s', '>peak MiB'], rows);
process.stdout.write(
  `${gib} GiB in ${layersOf(gib).length} layers, ${runs} runs each in turn, medians, ${cpus().length} cores\n\n${text}\n`,
);
