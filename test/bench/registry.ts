// A whole registry into a store, beside `oras backup` and `regsync`, in turn over the same source. A tool that is not installed is left out.
//   npm run bench:registry -- [--repositories 40] [--tags 10] [--changed 10] [--own-kib 256] [--runs 3]
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { copy } from '../../worker/copy/copy.ts';
import { formatTable } from '../../worker/commands/table.ts';
import { formatBytes } from '../../worker/commands/text.ts';
import { createWorkspace, isInstalled, start, type Workspace } from '../support/interop-process.ts';
import { startDockerRegistry } from '../support/interop-registry.ts';
import { stockImage, stockRepository } from '../support/stocked-registry.ts';
import { countRequests } from './count-requests.ts';
import { openTarget } from './lab.ts';
import { measure, median, type Command, type Measured } from './measure.ts';

const { values } = parseArgs({
  options: {
    repositories: { type: 'string', default: '40' },
    tags: { type: 'string', default: '10' },
    changed: { type: 'string', default: '10' },
    'own-kib': { type: 'string', default: '256' },
    runs: { type: 'string', default: '3' },
  },
});
const repositories = Number(values.repositories);
const tags = Number(values.tags);
const ownBytes = Number(values['own-kib']) * 1024;

/** Pushes images of five layers, of which four are the same everywhere. */
async function push(
  host: string,
  images: readonly { readonly repository: string; readonly tag: string; readonly seed: string }[],
): Promise<void> {
  await using registry = openTarget(host);
  for (const { repository, tag, seed } of images) {
    const image = stockImage({
      repositories,
      seed,
      isIndex: false,
      isSigned: false,
      tag,
      baseBytes: ownBytes,
      ownBytes,
    });
    const mountFrom = repository === stockRepository(0) ? [] : [stockRepository(0)];
    await copy(image.content, registry.repository(repository), [image.root], { mountFrom });
  }
}

async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  return bytes;
}

interface Tool {
  readonly name: string;
  readonly folder: string;
  readonly command: Command;
}

async function toolsFor(work: Workspace, host: string): Promise<readonly Tool[]> {
  const { env } = work;
  const names = Array.from({ length: repositories }, (_, number) => stockRepository(number));
  const tools: Tool[] = [];
  const add = async (name: string, make: (folder: string) => Promise<Omit<Command, 'env'>>): Promise<void> => {
    const folder = join(work.folder, name);
    await mkdir(folder);
    tools.push({ name, folder, command: { ...(await make(folder)), env } });
  };
  await add('transship', async (folder) => ({
    command: process.execPath,
    args: ['dist/cli.js', 'backup', `${host}/*`, `store:${folder}`, '--quiet'],
  }));
  const hasBackup = (await start('oras', ['backup', '--help'], { env }).finished.catch(() => undefined))?.code === 0;
  if (hasBackup)
    await add('oras', async (folder) => ({
      command: 'bash',
      args: [
        '-c',
        `set -e; for name in "$@"; do oras backup --no-tty --plain-http --include-referrers --output "${folder}/$name" "${host}/$name" >/dev/null; done`,
        'bash',
        ...names,
      ],
    }));
  if (isInstalled('regsync'))
    await add('regsync', async (folder) => {
      const config = join(work.folder, 'regsync.json');
      const sync = names.map((name) => ({
        source: `${host}/${name}`,
        target: `ocidir://${folder}/${name}`,
        type: 'repository',
        referrers: true,
      }));
      const creds = [{ registry: host, tls: 'disabled' }];
      await writeFile(config, JSON.stringify({ version: 1, creds, defaults: { parallel: 4 }, sync }));
      return { command: 'regsync', args: ['-c', config, 'once'] };
    });
  return tools;
}

const built = await start(process.execPath, ['build.ts'], { env: { PATH: process.env['PATH'] ?? '' } }).finished;
if (built.code !== 0) throw new Error(built.stderr);
await using work = await createWorkspace();
const sourceFolder = join(work.folder, 'source');
await mkdir(sourceFolder);
await using source = await startDockerRegistry({ folder: sourceFolder, env: work.env });
const all = Array.from({ length: repositories * tags }, (_, at) => ({
  repository: stockRepository(Math.floor(at / tags)),
  tag: `v${at % tags}`,
  seed: `image ${at}`,
}));
await push(source.host, all);
const sourceBytes = await bytesIn(sourceFolder);
await using counter = await countRequests(source.host);
// what is measured goes straight to the registry; what is counted through a front, in a run of its own
const tools = await toolsFor(work, source.host);

interface Phase {
  readonly name: string;
  readonly results: ReadonlyMap<string, Measured & { readonly added: number }>;
}

async function phase(name: string): Promise<Phase> {
  const results = new Map<string, Measured & { readonly added: number }>();
  for (const tool of tools) {
    const before = await bytesIn(tool.folder);
    const measured = await measure(tool.command);
    results.set(tool.name, { ...measured, added: (await bytesIn(tool.folder)) - before });
  }
  return { name, results };
}

async function empty(): Promise<void> {
  for (const { folder } of tools) {
    await rm(folder, { recursive: true });
    await mkdir(folder);
  }
}

/** The medians of several runs of one phase. */
function medians(runs: readonly Phase[]): Phase {
  const results = new Map<string, Measured & { readonly added: number }>();
  for (const { name } of tools) {
    const own = runs.flatMap((run) => run.results.get(name) ?? []);
    const of = (key: 'wallSeconds' | 'cpuSeconds' | 'peakMib' | 'added'): number => median(own.map((one) => one[key]));
    results.set(name, {
      wallSeconds: of('wallSeconds'),
      cpuSeconds: of('cpuSeconds'),
      peakMib: of('peakMib'),
      added: of('added'),
    });
  }
  return { name: runs[0]?.name ?? '', results };
}

// a run that only warms the caches of the source
for (const tool of tools) await measure(tool.command);
const firsts: Phase[] = [];
const seconds: Phase[] = [];
const [loadBefore = 0] = loadavg();
for (let run = 0; run < Number(values.runs); run++) {
  await empty();
  firsts.push(await phase('first'));
  seconds.push(await phase('second, nothing changed'));
}
const phases = [medians(firsts), medians(seconds)];
const moved = all
  .slice(0, Number(values.changed))
  .map(({ repository, tag, seed }) => ({ repository, tag, seed: `${seed} again` }));
await push(source.host, moved);
phases.push(await phase(`${values.changed} images changed`));

const [counted] = tools;
if (counted !== undefined) {
  const args = counted.command.args.map((arg) =>
    arg.replace(source.host, counter.host).replace(counted.folder, `${counted.folder}-counted`),
  );
  await measure({ ...counted.command, args });
  counter.take();
  await measure({ ...counted.command, args });
}
const rows = phases.flatMap(({ name, results }) =>
  Array.from(results, ([tool, { wallSeconds, cpuSeconds, peakMib, added }]) => [
    name,
    tool,
    wallSeconds.toFixed(2),
    cpuSeconds.toFixed(2),
    peakMib.toFixed(0),
    formatBytes(added),
  ]),
);
process.stdout.write(
  `${repositories * tags} images in ${repositories} repositories, ${formatBytes(sourceBytes)} of distinct blobs, ${cpus().length} cores, medians of ${values.runs} runs, load ${loadBefore.toFixed(0)} before\n\n`,
);
process.stdout.write(`${formatTable(['backup', 'tool', '>wall s', '>CPU s', '>peak MiB', '>stored'], rows)}\n\n`);
process.stdout.write(`requests of transship for a second backup: ${JSON.stringify(counter.take())}\n`);
