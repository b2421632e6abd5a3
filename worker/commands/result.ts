import { InvalidArgumentError, Option, type Command } from 'commander';
import type { Backends, OperationOptions } from '../images/backends.ts';
import type { ImageCopyResult } from '../images/copy-image.ts';
import type { BatchResult, ItemResult } from '../images/copy-images.ts';
import type { UnsentBytes } from '../images/image-target.ts';
import type { PrunedRule } from '../service/admin/sync-prune.ts';
import type { Report } from '../util/events.ts';
import { describeFailure } from '../util/failure.ts';
import { printOutcome, withProgress, type CommandContext, type CommonFlags, type ConnectOptions } from './context.ts';
import { inGroup } from './help.ts';
import { connectFlags, type S3Flags, type SideFlags } from './sides.ts';
import type { Look } from './look.ts';
import { formatTable } from './table.ts';
import { counted, describeResumed, formatBytes, formatDigest, formatDuration, printable } from './text.ts';

export interface ConcurrencyFlag {
  readonly concurrency?: number;
  readonly images?: number;
}

/** May be given more than once; one value each, so that it can stand before the arguments. */
export function platformOption(): Option {
  return new Option(
    '--platform <os/arch>',
    'only this platform, or these when given more than once: the index is rewritten and has another digest',
  ).argParser((value, before: readonly string[] | undefined) => [...(before ?? []), value]);
}

/** Protects the existing archive of a tag that was moved by mistake. */
export function keepExistingOption(): Option {
  return new Option('--keep-existing', 'replace no archive, not even one of the same tag').conflicts('force');
}

/** A registry that shows an image is trusted to have all of it, unless this is given. */
export function verifyTargetOption(): Option {
  return new Option(
    '--verify-target',
    'ask the target registry for every manifest and blob, also below an image that it has already, and send what it lost',
  );
}

const AT_ONCE = 'How much at once:';

export function withConcurrency(command: Command): Command {
  return inGroup(command, AT_ONCE, (grouped) =>
    grouped.option('--concurrency <n>', 'blobs at once (default: 4)', parseAtOnce),
  );
}

/** For commands on many images. */
export function withImages(command: Command): Command {
  return inGroup(command, AT_ONCE, (grouped) =>
    grouped.option('--images <n>', 'images at once, with one budget of blobs and memory (default: 4)', parseAtOnce),
  );
}

function parseAtOnce(value: string): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1 || number > 64)
    throw new InvalidArgumentError('expected a whole number from 1 to 64.');
  return number;
}

/** The flag, else the environment. */
export function concurrencyOf(context: CommandContext, flags: ConcurrencyFlag): number | undefined {
  return flags.concurrency ?? context.concurrency;
}

export function optionsOf(context: CommandContext, flags: ConcurrencyFlag, report: Report): ReportingOptions {
  return {
    signal: context.signal,
    clock: context.clock,
    report,
    concurrency: concurrencyOf(context, flags),
    imagesAtOnce: flags.images,
  };
}

/** One copy, for programs and for people. */
export function describeCopy(
  result: ImageCopyResult,
  seconds: number,
): { readonly json: object; readonly text: string } {
  const { copied } = result;
  const tallies = copied?.tallies;
  const refused = copied?.referrers.filter((referrer) => referrer.refused !== undefined) ?? [];
  const json = {
    from: result.from,
    to: result.to,
    digest: result.digest,
    ...(result.originalDigest === undefined ? {} : { originalDigest: result.originalDigest }),
    outcome: result.outcome,
    seconds,
    ...byteCounts(result),
    ...(tallies === undefined ? {} : { tallies: countsOf(tallies) }),
    referrers: copied?.referrers.map(({ descriptor, tags, refused: why }) => ({
      digest: descriptor.digest,
      tags,
      ...(why === undefined ? {} : { refused: { code: why.code, message: describeFailure(why) } }),
    })),
    foreign: result.foreign.map((descriptor) => ({ digest: descriptor.digest, urls: descriptor.urls })),
    unchecked: result.unchecked,
    partial: refused.length > 0 || result.unchecked.length > 0,
  };
  const lines = [`${result.outcome} ${result.from} -> ${result.to}`, `digest ${result.digest}`];
  if (result.originalDigest !== undefined) lines.push(`platforms chosen from ${result.originalDigest}`);
  if (tallies !== undefined) {
    const counts = Object.entries(countsOf(tallies)).filter(([, { count }]) => count > 0);
    const list = counts.map(([outcome, { count }]) => `${outcome} ${count}`).join(', ');
    lines.push(`blobs and manifests: ${result.outcome === 'planned' ? 'would be ' : ''}${list}`);
  }
  lines.push(describeBytes(result, seconds));
  if (result.resumed !== undefined) lines.push(`resumed: ${describeResumed(result.resumed)}`);
  const referrers = copied?.referrers.length ?? 0;
  if (referrers > 0) lines.push(`referrers ${referrers - refused.length} of ${referrers}`);
  if (result.foreign.length > 0) lines.push(incomplete(result.foreign.length));
  for (const what of result.unchecked) lines.push(`note: ${printable(what)}`);
  return { json, text: lines.join('\n') };
}

/** How many blobs and manifests there are of each outcome. */
function countsOf(
  tallies: NonNullable<ImageCopyResult['copied']>['tallies'],
): Readonly<Record<string, { readonly count: number }>> {
  return Object.fromEntries(Object.entries(tallies).map(([outcome, { count }]) => [outcome, { count }]));
}

type ByteCounts = Pick<ImageCopyResult, 'bytesSent' | keyof UnsentBytes>;

/** The counts as members of a JSON document. */
function byteCounts({ bytesSent, bytesReused, bytesSkipped, bytesToSend, resumed }: ByteCounts): object {
  return {
    bytesSent,
    bytesReused,
    bytesSkipped,
    ...(bytesToSend === undefined ? {} : { bytesToSend }),
    ...(resumed === undefined ? {} : { resumed: { parts: resumed.parts, total: resumed.total } }),
  };
}

function describeBytes({ bytesSent, bytesReused, bytesSkipped, bytesToSend }: ByteCounts, seconds: number): string {
  const parts = [
    bytesToSend === undefined ? `${formatBytes(bytesSent)} sent` : `would send up to ${formatBytes(bytesToSend)}`,
  ];
  if (bytesReused > 0) parts.push(`${formatBytes(bytesReused)} reused`);
  if (bytesSkipped > 0) parts.push(`${formatBytes(bytesSkipped)} skipped`);
  return `${parts.join(', ')} in ${formatDuration(seconds * 1000)}`;
}

/** The counts of several images together. A dry run of one makes it one of all. */
function sumOf(items: readonly ItemResult[]): ByteCounts {
  const sum = (count: (item: ItemResult) => number | undefined): number =>
    items.reduce((total, item) => total + (count(item) ?? 0), 0);
  return {
    bytesSent: sum((item) => item.bytesSent),
    bytesReused: sum(({ result }) => result?.bytesReused),
    bytesSkipped: sum(({ result }) => result?.bytesSkipped),
    ...(items.some(isPlanned) ? { bytesToSend: sum(toSend) } : {}),
  };
}

function isPlanned(item: ItemResult): boolean {
  return toSend(item) !== undefined;
}

function toSend({ result, bytesToSend }: ItemResult): number | undefined {
  return result?.bytesToSend ?? bytesToSend;
}

/** `31 copied, 5 unchanged, 0 failed`, and the faults that are of no single image. */
function describeOutcomes({ items, faults }: WithPruned): string {
  const count = (outcome: ItemResult['outcome']): number => items.filter((item) => item.outcome === outcome).length;
  const planned = count('planned');
  return [
    ...(planned > 0 ? [`${planned} planned`] : [`${count('copied')} copied`]),
    `${count('unchanged')} unchanged`,
    `${count('failed')} failed`,
    ...(faults.length > 0 ? [counted(faults.length, 'fault')] : []),
  ].join(', ');
}

/** The line for an image whose foreign layers are kept elsewhere. */
export function incomplete(foreign: number): string {
  return `incomplete: ${foreign} foreign ${foreign === 1 ? 'layer' : 'layers'} elsewhere`;
}

/** Runs `work` over many images with progress shown, prints what became of them, and exits 1 when one failed. */
export async function runImages(
  context: CommandContext,
  flags: CommonFlags & SideFlags & S3Flags & ConcurrencyFlag & { readonly dryRun?: boolean },
  work: (backends: Backends, options: ReportingOptions) => Promise<WithPruned>,
  connect: Pick<ConnectOptions, 'access'> = {},
): Promise<void> {
  const startedMs = context.clock.now();
  const run = await withProgress(context, flags, async ({ report }) => {
    const concurrency = concurrencyOf(context, flags);
    await using backends = context.connect({ ...connectFlags(flags), ...connect, concurrency, report });
    return await work(backends, optionsOf(context, flags, report));
  });
  const { json, text, failed } = describeBatch(run, (context.clock.now() - startedMs) / 1000);
  printOutcome(context, flags, json, text);
  if (failed > 0 || run.faults.length > 0) context.exit(1);
}

type WithPruned = BatchResult & {
  readonly pruned?: readonly PrunedRule[] | undefined;
  readonly snapshot?: { readonly id: string; readonly key: string } | undefined;
};
type ReportingOptions = OperationOptions & { readonly report: Report };

function describePruned({ rule, plan, result }: PrunedRule): string {
  const { delete: going, untag, keep, left, bytes } = plan.totals;
  if (result !== undefined)
    return `rule ${rule}: deleted ${result.deleted} items of ${formatBytes(result.bytes)}, removed ${result.untagged} tags, kept ${keep}${left === 0 ? '' : `, ${left} left for the next run`}`;
  return `rule ${rule}: would delete ${going} items of ${formatBytes(bytes)}, untag ${untag}, keep ${keep}: nothing was deleted (\`transship prune -f FILE --rule ${rule}\` prints the plan)`;
}

/** Several copies, for programs and for people. */
function describeBatch(
  run: WithPruned,
  seconds: number,
): { readonly json: object; readonly text: (look: Look) => string; readonly failed: number } {
  const failed = run.items.filter((item) => item.outcome === 'failed');
  const json = {
    seconds,
    items: run.items.map((item) => ({
      from: item.from,
      to: item.to,
      outcome: item.outcome,
      digest: item.digest,
      ...byteCounts(item.result ?? sumOf([item])),
      foreign: item.result?.foreign.map(({ digest, urls }) => ({ digest, urls })),
      unchecked: item.result?.unchecked,
      ...(item.failure === undefined
        ? {}
        : { failure: { code: item.failure.code, message: describeFailure(item.failure) } }),
    })),
    faults: run.faults,
    ...(run.snapshot === undefined ? {} : { snapshot: { id: run.snapshot.id, key: run.snapshot.key } }),
    ...(run.pruned === undefined || run.pruned.length === 0 ? {} : { pruned: run.pruned }),
  };
  const rows = run.items.map((item) => [
    item.outcome,
    item.digest === undefined ? '' : formatDigest(item.digest),
    formatBytes(toSend(item) ?? item.bytesSent),
    item.from,
    item.to,
  ]);
  const heads = ['outcome', 'digest', run.items.some(isPlanned) ? '>would send' : '>sent', 'from', 'to'];
  const linesFor = (look: Look): readonly string[] => [
    formatTable(heads, rows, look, { shorten: ['from', 'to'], drop: ['digest'] }),
    '',
    `${describeOutcomes(run)}, ${describeBytes(sumOf(run.items), seconds)}`,
    ...(run.snapshot === undefined ? [] : [`snapshot ${run.snapshot.id}`]),
    ...run.items.flatMap(({ from, result }) =>
      result === undefined || result.foreign.length === 0 ? [] : [`${incomplete(result.foreign.length)}: ${from}`],
    ),
    ...run.items.flatMap(({ from, result }) =>
      result?.resumed === undefined ? [] : [`resumed: ${describeResumed(result.resumed)}: ${from}`],
    ),
    ...run.items.flatMap(({ from, result }) =>
      (result?.unchecked ?? []).map((what) => `note: ${from}: ${printable(what)}`),
    ),
    ...(run.pruned ?? []).map(describePruned),
    ...run.faults.map((fault) => `fault: ${printable(fault)}`),
    ...failed.map(
      (item) => `failed: ${item.from}: ${printable(item.failure === undefined ? '' : describeFailure(item.failure))}`,
    ),
  ];
  return { json, text: (look) => linesFor(look).join('\n'), failed: failed.length };
}
