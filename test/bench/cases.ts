import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isInstalled } from '../support/interop-process.ts';
import { stockImage, stockRepository } from '../support/stocked-registry.ts';
import { layersOf } from './images.ts';
import { pushMade, type BenchLab } from './lab.ts';
import type { Command } from './measure.ts';
import { installedTools, transshipCommand, type Security, type Tool } from './tools.ts';

/** A task that several tools do, each in its own way. */
export interface Case {
  readonly name: string;
  /** The highest allowed median ratio to the best rival. */
  readonly aim: { readonly wall?: number; readonly cpu?: number };
  readonly entries: readonly Entry[];
}

export interface Entry {
  readonly tool: string;
  /** Whether the aim compares with this tool. */
  readonly isRival: boolean;
  /** Prepares one run. The benchmark measures what it returns, then disposes it. */
  prepare(): Promise<Prepared>;
}

interface Prepared extends AsyncDisposable {
  readonly command: Command;
}

export const CASES = ['mirror', 'file', 's3', 'restore', 'unchanged', 'sync', 'tiny', 'shaped'] as const;
export type CaseName = (typeof CASES)[number];

interface CaseOptions {
  readonly gib: number;
  /** The limit of each connection: `20MB/s,10ms`. */
  readonly shape: string;
}

/** Cases that share what they read until it is disposed. */
interface Cases extends AsyncDisposable {
  readonly list: readonly Case[];
}

/** The cases of one name, with everything that they read in place. `unchanged`, `sync`, `tiny` and `shaped` do not have cases with TLS. */
export async function openCase(
  lab: BenchLab,
  name: CaseName,
  security: Security,
  { gib, shape }: CaseOptions,
): Promise<Cases> {
  const tools = installedTools(security);
  await using opened = new AsyncDisposableStack();
  const use = <T extends AsyncDisposable>(what: T): T => opened.use(what);
  const large = async (): Promise<string> => {
    const source = use(await lab.registry(security));
    return lab.pushLarge(source, security, layersOf(gib));
  };
  const isTls = security === 'tls';
  const list: Case[] = [];
  if (name === 'mirror') {
    const aim = isTls ? { wall: 0.9, cpu: 1 } : { wall: 1, cpu: 1.1 };
    list.push({ name: `mirror ${gib} GiB, ${security}`, aim, entries: mirrors(lab, security, tools, await large()) });
  } else if (name === 'file') {
    const aim = isTls ? { wall: 0.9, cpu: 1 } : { wall: 1, cpu: 1.05 };
    list.push({
      name: `archive ${gib} GiB to a file, ${security}`,
      aim,
      entries: await archives(lab, tools, await large()),
    });
  } else if (name === 's3') {
    const from = await large();
    const { env } = use(await lab.s3());
    // no other tool writes to S3
    const entries = [toS3({ ...lab.env, ...env }, from), ...(await rivals(lab, tools, from))];
    list.push({ name: `archive ${gib} GiB to S3 (others to a file), ${security}`, aim: {}, entries });
  } else if (name === 'restore') {
    const entries = await restores(lab, security, tools, await large());
    list.push({ name: `restore ${gib} GiB from a file, ${security}`, aim: {}, entries });
  } else if (!isTls && name === 'unchanged') {
    const [source, target] = [use(await lab.registry(security)), use(await lab.registry(security))];
    const entries = await unchanged(lab, tools, { source: source.host, target: target.host });
    list.push({ name: 'unchanged signed image of two platforms', aim: {}, entries });
  } else if (!isTls && name === 'sync') {
    const [source, target] = [use(await lab.registry(security)), use(await lab.registry(security))];
    const entries = await synced(lab, { source: source.host, target: target.host });
    list.push({ name: 'sync of 36 unchanged images', aim: { wall: 1 }, entries });
  } else if (!isTls && name === 'tiny') {
    const source = use(await lab.registry(security));
    await pushMade(source.host, 'app', tinyImage());
    const entries = mirrors(lab, security, tools, `${source.host}/app:v1`);
    list.push({ name: 'mirror of tiny blobs', aim: {}, entries });
  } else if (!isTls && name === 'shaped') {
    list.push(...(await shapedCases(lab, tools, shape, use)));
  }
  const running = opened.move();
  return { list, [Symbol.asyncDispose]: async () => running.disposeAsync() };
}

async function restores(
  lab: BenchLab,
  security: Security,
  tools: readonly Tool[],
  from: string,
): Promise<readonly Entry[]> {
  const folder = await lab.folder('archives');
  const entries: Entry[] = [];
  for (const tool of tools) {
    const file = join(folder, `${tool.name}.tar`);
    const filled = tool.archive?.(from, file);
    const { restore } = tool;
    if (filled === undefined || restore === undefined) continue;
    await lab.run(filled);
    entries.push(toRegistry(lab, security, tool, (to) => restore(file, to)));
  }
  return entries;
}

/** Each tool mirrors the image once more to where it already is. */
async function unchanged(
  lab: BenchLab,
  tools: readonly Tool[],
  hosts: { readonly source: string; readonly target: string },
): Promise<readonly Entry[]> {
  await pushMade(hosts.source, 'app', signedImage());
  const entries: Entry[] = [];
  for (const { name, isRival, mirrorSigned } of tools) {
    const again = mirrorSigned?.(`${hosts.source}/app:v1`, `${hosts.target}/${name}:v1`);
    if (again === undefined) continue;
    await lab.run(again);
    const command = { ...again, env: lab.env };
    entries.push({ tool: name, isRival, prepare: async () => ({ ...nothingToDispose(), command }) });
  }
  return entries;
}

/** Each tool syncs six repositories of six images once more to where they already are. Images of every fourth repository are signed. */
async function synced(
  lab: BenchLab,
  hosts: { readonly source: string; readonly target: string },
): Promise<readonly Entry[]> {
  const repositories = Array.from({ length: 6 }, (_, i) => stockRepository(i));
  for (const [number, repository] of repositories.entries())
    for (let tag = 0; tag < 6; tag++) {
      const kind = { isIndex: number % 3 === 0, isSigned: number % 4 === 0 };
      const image = stockImage({ repositories: 6, seed: `${number}/${tag}`, ...kind, tag: `v${tag}` });
      await pushMade(hosts.source, repository, image);
    }
  const folder = await lab.folder('sync');
  const rules = join(folder, 'rules.yaml');
  const from = repositories.map((repository) => `${hosts.source}/${repository}`);
  const mirror = { from, to: `${hosts.target}/transship/{repository}` };
  await writeFile(rules, JSON.stringify({ version: 1, rules: [{ name: 'all', mirror, schedule: '0 * * * *' }] }));
  const creds = Object.values(hosts).map((registry) => ({ registry, tls: 'disabled' }));
  const regsync = async (name: string, choices: object): Promise<Omit<Command, 'env'>> => {
    const config = join(folder, `${name}.json`);
    const sync = repositories.map((repository) => {
      const [source, target] = [`${hosts.source}/${repository}`, `${hosts.target}/${name}/${repository}`];
      return { source, target, type: 'repository' };
    });
    await writeFile(config, JSON.stringify({ version: 1, creds, defaults: { parallel: 4, ...choices }, sync }));
    return { command: 'regsync', args: ['-c', config, 'once'] };
  };
  const all = { referrers: true, digestTags: true };
  const tools = [{ tool: 'transship', isRival: false, command: transshipCommand('sync', '-f', rules) }];
  if (isInstalled('regsync'))
    tools.push(
      // it copies signatures as other tags, and does not look for any other referrer
      { tool: 'regsync', isRival: true, command: await regsync('plain', {}) },
      { tool: 'regsync with referrers', isRival: false, command: await regsync('whole', all) },
    );
  for (const { command } of tools) await lab.run(command);
  return tools.map(({ tool, isRival, command }) => ({
    tool,
    isRival,
    prepare: async () => ({ ...nothingToDispose(), command: { ...command, env: lab.env } }),
  }));
}

/** One large layer, over connections that are each as slow as one of S3 is to a fast machine. */
async function shapedCases(
  lab: BenchLab,
  tools: readonly Tool[],
  shape: string,
  use: <T extends AsyncDisposable>(what: T) => T,
): Promise<readonly Case[]> {
  const registry = use(await lab.registry('plain'));
  const whole = await lab.pushLarge(registry, 'plain', [256 * 1024 * 1024]);
  const source = use(await lab.shaped(registry.host, shape));
  const from = whole.replace(registry.host, source.host);
  const s3 = use(await lab.s3());
  const { host } = new URL(s3.env['AWS_ENDPOINT_URL_S3'] ?? s3.env['AWS_ENDPOINT_URL'] ?? '');
  const front = use(await lab.shaped(host, shape));
  const env = Object.fromEntries(
    Object.entries({ ...lab.env, ...s3.env }).map(([name, value]) => [name, value.replace(host, front.host)]),
  );
  const name = 'one layer of 256 MiB, each connection shaped';
  const theirs = await rivals(lab, tools, from);
  return [
    { name: `${name}, to a file`, aim: { wall: 0.3 }, entries: await archives(lab, tools, from) },
    { name: `${name}, to S3 (others to a file)`, aim: { wall: 0.3 }, entries: [toS3(env, from), ...theirs] },
    {
      name: `${name}, restored from S3`,
      aim: {},
      entries: [await restoredFromS3(lab, { from: whole, env: { ...lab.env, ...s3.env }, slow: env })],
    },
    { name: `${name}, mirror`, aim: { wall: 1 }, entries: mirrors(lab, 'plain', tools, from, shape) },
  ];
}

function mirrors(
  lab: BenchLab,
  security: Security,
  tools: readonly Tool[],
  from: string,
  shape?: string,
): readonly Entry[] {
  return tools.flatMap((tool) => {
    const { mirror } = tool;
    return mirror === undefined ? [] : [toRegistry(lab, security, tool, (to) => mirror(from, to), { shape })];
  });
}

async function rivals(lab: BenchLab, tools: readonly Tool[], from: string): Promise<readonly Entry[]> {
  return archives(
    lab,
    tools.filter(({ isRival }) => isRival),
    from,
  );
}

async function archives(lab: BenchLab, tools: readonly Tool[], from: string): Promise<readonly Entry[]> {
  const folder = await lab.folder('out');
  return tools.flatMap(({ name, isRival, archive }) => {
    if (archive === undefined) return [];
    const file = join(folder, `${name}.tar`);
    const command = { ...archive(from, file), env: lab.env };
    const gone = async (): Promise<void> => rm(file, { force: true });
    return [{ tool: name, isRival, prepare: async () => ({ command, [Symbol.asyncDispose]: gone }) }];
  });
}

function toS3(env: Command['env'], from: string): Entry {
  let run = 0;
  return {
    tool: 'transship',
    isRival: false,
    prepare: async () => {
      const to = `s3://transship-backups/bench-${++run}.tar`;
      return { ...nothingToDispose(), command: { ...transshipCommand('backup', from, to), env } };
    },
  };
}

/** From slow connections into a registry without a limit. */
async function restoredFromS3(
  lab: BenchLab,
  { from, env, slow }: { readonly from: string; readonly env: Command['env']; readonly slow: Command['env'] },
): Promise<Entry> {
  const archive = 's3://transship-backups/restore.tar';
  await lab.run(transshipCommand('backup', from, archive), env);
  const tool = { name: 'transship', isRival: false };
  return toRegistry(lab, 'plain', tool, (to) => transshipCommand('restore', archive, `docker://${to}`), { env: slow });
}

/** Each run has an empty registry. */
function toRegistry(
  lab: BenchLab,
  security: Security,
  { name, isRival }: Tool,
  make: (to: string) => Omit<Command, 'env'>,
  { shape, env = lab.env }: { readonly shape?: string | undefined; readonly env?: Command['env'] } = {},
): Entry {
  return {
    tool: name,
    isRival,
    prepare: async () => {
      await using opened = new AsyncDisposableStack();
      const target = opened.use(await lab.registry(security));
      const front = shape === undefined ? target : opened.use(await lab.shaped(target.host, shape));
      const running = opened.move();
      return {
        command: { ...make(`${front.host}/app:bench`), env },
        [Symbol.asyncDispose]: async () => running.disposeAsync(),
      };
    },
  };
}

function nothingToDispose(): AsyncDisposable {
  return { [Symbol.asyncDispose]: async () => undefined };
}

function signedImage() {
  return stockImage({ repositories: 1, seed: 'signed', isIndex: true, isSigned: true, tag: 'v1' });
}

/** A config and a few layers of some bytes. */
function tinyImage() {
  return stockImage({
    repositories: 1,
    seed: 'tiny',
    isIndex: false,
    isSigned: false,
    tag: 'v1',
    baseBytes: 100,
    ownBytes: 100,
  });
}
