// A whole registry into a store and back, beside `oras backup`, `oras restore` and `regsync`, in turn. Missing tools are left out.
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
import { transshipCommand } from './tools.ts';

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

/** Pushes images of five layers, four of which are the same everywhere. */
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
  /** Restores what the command backed up into repositories below `prefix` of `target`. */
  restore(target: string, prefix: string): Promise<Command>;
}

async function toolsFor(work: Workspace, host: string): Promise<readonly Tool[]> {
  const { env } = work;
  const names = Array.from({ length: repositories }, (_, number) => stockRepository(number));
  const tools: Tool[] = [];
  type Bare = Omit<Command, 'env'>;
  const add = async (
    name: string,
    backup: (folder: string) => Bare | Promise<Bare>,
    restore: (folder: string, target: string, prefix: string) => Bare | Promise<Bare>,
  ): Promise<void> => {
    const folder = join(work.folder, name);
    await mkdir(folder);
    tools.push({
      name,
      folder,
      command: { ...(await backup(folder)), env },
      restore: async (target, prefix) => ({ ...(await restore(folder, target, prefix)), env }),
    });
  };
  const eachName = (script: string): Bare => ({
    command: 'bash',
    args: ['-c', `set -e; for name in "$@"; do ${script} >/dev/null; done`, 'bash', ...names],
  });
  await add(
    'transship',
    (folder) => transshipCommand('backup', `${host}/*`, `store:${folder}`),
    (folder, target, prefix) =>
      transshipCommand('restore', `store:${folder}`, `docker://${target}`, '--map', `*=${prefix}/*`),
  );
  const hasBackup = (await start('oras', ['backup', '--help'], { env }).finished.catch(() => undefined))?.code === 0;
  if (hasBackup)
    await add(
      'oras',
      (folder) =>
        eachName(`oras backup --no-tty --plain-http --include-referrers --output "${folder}/$name" "${host}/$name"`),
      (folder, target, prefix) =>
        eachName(`oras restore --no-tty --plain-http --input "${folder}/$name" "${target}/${prefix}/$name"`),
    );
  if (isInstalled('regsync')) {
    let configs = 0;
    const sync = async (
      registry: string,
      entries: readonly { readonly source: string; readonly target: string }[],
    ): Promise<Bare> => {
      const config = join(work.folder, `regsync-${registry.replace(':', '-')}-${++configs}.json`);
      const creds = [{ registry, tls: 'disabled' }];
      const all = entries.map((entry) => ({ ...entry, type: 'repository', referrers: true }));
      await writeFile(config, JSON.stringify({ version: 1, creds, defaults: { parallel: 4 }, sync: all }));
      return { command: 'regsync', args: ['-c', config, 'once'] };
    };
    const layout = (folder: string, name: string): string => `ocidir://${folder}/${name}`;
    await add(
      'regsync',
      async (folder) =>
        sync(
          host,
          names.map((name) => ({ source: `${host}/${name}`, target: layout(folder, name) })),
        ),
      async (folder, target, prefix) =>
        sync(
          target,
          names.map((name) => ({ source: layout(folder, name), target: `${target}/${prefix}/${name}` })),
        ),
    );
  }
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
// measured runs go straight to the registry; requests are counted through a front, in a run of its own
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

let restores = 0;

/** Each tool restores into its own repositories, of a registry that did not have any of the content. */
async function restorePhase(): Promise<Phase> {
  const results = new Map<string, Measured & { readonly added: number }>();
  for (const tool of tools) {
    const folder = join(work.folder, `target-${++restores}`);
    await mkdir(folder);
    await using target = await startDockerRegistry({ folder, env: work.env });
    const measured = await measure(await tool.restore(target.host, 'restored'));
    results.set(tool.name, { ...measured, added: await bytesIn(folder) });
    await rm(folder, { recursive: true });
  }
  return { name: 'restore', results };
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
const restored: Phase[] = [];
const [loadBefore = 0] = loadavg();
for (let run = 0; run < Number(values.runs); run++) {
  await empty();
  firsts.push(await phase('first'));
  seconds.push(await phase('second, nothing changed'));
  restored.push(await restorePhase());
}
const phases = [medians(firsts), medians(seconds)];
const moved = all
  .slice(0, Number(values.changed))
  .map(({ repository, tag, seed }) => ({ repository, tag, seed: `${seed} again` }));
await push(source.host, moved);
phases.push(await phase(`${values.changed} images changed`));

phases.push(medians(restored));

const [counted] = tools;
let uploads: readonly number[] = [];
if (counted !== undefined) {
  const args = counted.command.args.map((arg) =>
    arg.replace(source.host, counter.host).replace(counted.folder, `${counted.folder}-counted`),
  );
  await measure({ ...counted.command, args });
  counter.take();
  await measure({ ...counted.command, args });
  await using target = await startDockerRegistry({ folder: join(work.folder, 'target'), env: work.env });
  await using front = await countRequests(target.host);
  await measure(await counted.restore(front.host, 'restored'));
  uploads = [...front.uploads.values()];
}
const twice = uploads.filter((times) => times > 1).length;
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
process.stdout.write(`${formatTable(['what', 'tool', '>wall s', '>CPU s', '>peak MiB', '>stored'], rows)}\n\n`);
process.stdout.write(`requests of transship for a second backup: ${JSON.stringify(counter.take())}\n`);
process.stdout.write(
  `a restore uploads ${uploads.length} blobs of repositories, ${twice === 0 ? 'each once' : `${twice} of them more than once`}\n`,
);
