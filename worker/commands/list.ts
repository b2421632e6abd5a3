import type { Command } from 'commander';
import type { PlaceEntry } from '../images/place-entry.ts';
import { matchesNothing, parseImageFilter, type ImageFilter } from '../oci/image-filter.ts';
import { parsePlace } from '../oci/place.ts';
import { jsonText, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { parseTime, withSnapshotFlags, type SnapshotFlags } from './places.ts';
import { concurrencyOf, optionsOf, withConcurrency, type ConcurrencyFlag } from './result.ts';
import { connectFlags, withS3Flags, withSideFlags, type S3Flags, type SideFlags } from './sides.ts';
import { lookOf, type Look } from './look.ts';
import { formatRow, isTooWide, layOut, widthsOf } from './table.ts';
import { counted, countedRepositories, formatBytes, formatDigest, printable } from './text.ts';

interface ListFlags extends CommonFlags, SnapshotFlags, SideFlags, S3Flags, ConcurrencyFlag {
  readonly digests?: boolean;
  readonly untagged?: boolean;
  readonly referrers?: boolean;
}

/** Rows whose columns are made equally wide; further ones are as wide as those, or wider. */
const ROWS = 500;

const HEADS = ['image', 'digest', 'pushed', '>size', ''];
const FIT = { shorten: ['image'], drop: ['', 'pushed', 'digest'] };

export function addList(program: Command, context: CommandContext): void {
  const command = program
    .command('list')
    .alias('ls')
    .summary('list the images of a registry or of a backup')
    .description(
      'Lists repositories, tags, digests, dates and sizes of a registry (HOST, HOST/team/*), of archives (s3://bucket/prefix/, ./folder/) or of a store (store:s3://bucket/prefix/, store:folder); a store as it is now, or as it was at a snapshot or a time. Reads no image. A size is what the place states: for a store and for snapshots everything that an image and its referrers name, for archives the archive, for ECR the layers.',
    )
    .argument('<place>', 'a registry, archives or a store')
    .option('--digests', 'whole digests, not only their beginning')
    .option('--untagged', 'also images without tags, where the place lists them')
    .option('--referrers', 'also signatures and SBOMs, where the place lists them');
  withS3Flags(withSnapshotFlags(withSideFlags(withConcurrency(withCommonFlags(command)), ['src'])), {
    writes: false,
  }).action(async (text: string, flags: ListFlags) => {
    const place = parsePlace(text);
    const only = flags.only?.map(parseImageFilter);
    const asOfMs = flags.asOf === undefined ? undefined : parseTime(flags.asOf, context.clock.now());
    const { listPlace } = await import('../images/list-place.ts');
    await withProgress(context, flags, async ({ report }) => {
      const concurrency = concurrencyOf(context, flags);
      await using backends = context.connect({ ...connectFlags(flags), concurrency, report });
      const listed = listPlace(place, backends, {
        ...optionsOf(context, flags, report),
        snapshot: flags.snapshot,
        asOfMs,
        only,
        untagged: flags.untagged,
        referrers: flags.referrers === true ? 'listed' : undefined,
      });
      const entries = only === undefined ? listed : matching(listed, only, text);
      const write = (line: string): void => context.stdout.write(`${line}\n`);
      const rows = { hasHosts: place.kind !== 'registry', digests: flags.digests === true };
      const options = { ...rows, look: lookOf(context.stdout, flags) };
      if (flags.json === true) await writeJson(entries, write);
      else await writeRows(entries, options, write);
    });
  });
}

/** The same entries. NOT_FOUND for an empty list, since a filter may be misspelt. */
async function* matching(
  entries: AsyncIterable<PlaceEntry>,
  only: readonly ImageFilter[],
  place: string,
): AsyncGenerator<PlaceEntry, void, undefined> {
  let count = 0;
  for await (const entry of entries) {
    count++;
    yield entry;
  }
  if (count === 0) throw matchesNothing(only, place);
}

/** One JSON document, an array with an entry a line, so that no list has to be held. */
async function writeJson(entries: AsyncIterable<PlaceEntry>, write: (line: string) => void): Promise<void> {
  let before: string | undefined;
  for await (const entry of entries) {
    // nothing is printed where the list fails before its first entry
    write(before === undefined ? '[' : `${before},`);
    before = jsonText(entry);
  }
  write(before ?? '[');
  write(']');
}

interface RowOptions {
  /** Whether a name begins with the host of its registry. */
  readonly hasHosts: boolean;
  readonly digests: boolean;
  readonly look: Look;
}

async function writeRows(
  entries: AsyncIterable<PlaceEntry>,
  options: RowOptions,
  write: (line: string) => void,
): Promise<void> {
  const { look } = options;
  let widths: readonly number[] = HEADS.map(() => 0);
  const head = HEADS.map((name) => name.replace('>', ''));
  let rows: (readonly string[])[] = [head];
  const flush = (): void => {
    widths = widthsOf(HEADS, rows).map((width, column) => Math.max(width, widths[column] ?? 0));
    const layout = layOut(HEADS, widths, look, FIT);
    // each line has the name of its column then
    const stacked = isTooWide(layout, look);
    for (const row of rows)
      if (!stacked || row !== head) write(`${formatRow(row, HEADS, layout, look, FIT)}${stacked ? '\n' : ''}`);
    rows = [];
  };
  const repositories = new Set<string>();
  let count = 0;
  for await (const entry of entries) {
    count++;
    repositories.add(`${entry.registry ?? ''}/${entry.repository}`);
    rows.push(rowOf(entry, options));
    if (rows.length > ROWS) flush();
  }
  flush();
  write(`\n${counted(count, 'image')} in ${countedRepositories(repositories.size)}`);
}

function rowOf(entry: PlaceEntry, { hasHosts, digests }: RowOptions): readonly string[] {
  const { registry, repository, tag, digest, pushedAt, size, subject, archived, isChild } = entry;
  const name = hasHosts && registry !== undefined ? `${registry}/${repository}` : repository;
  const notes = [
    ...(subject === undefined ? [] : [`refers to ${formatDigest(subject)}`]),
    ...(isChild === true ? ['part of an index'] : []),
    ...(archived === true ? ["in ECR's archive storage class"] : []),
  ];
  return [
    printable(tag === undefined ? name : `${name}:${tag}`),
    digest === undefined ? '-' : digests ? digest : formatDigest(digest),
    pushedAt === undefined ? '-' : pushedAt.slice(0, 16).replace('T', ' '),
    size === undefined ? '-' : formatBytes(size),
    notes.join(', '),
  ];
}
