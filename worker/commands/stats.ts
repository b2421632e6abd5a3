import type { Command } from 'commander';
import type { PlaceStats } from '../images/place-stats.ts';
import { parseImageFilter } from '../oci/image-filter.ts';
import { parsePlace } from '../oci/place.ts';
import { Failure } from '../util/failure.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { parseTime, withSnapshotFlags, type SnapshotFlags } from './places.ts';
import { concurrencyOf, optionsOf, withConcurrency, type ConcurrencyFlag } from './result.ts';
import { connectFlags, withS3Flags, withSideFlags, type S3Flags, type SideFlags } from './sides.ts';
import type { Look } from './look.ts';
import { formatTable } from './table.ts';
import { counted, countedRepositories, formatBytes, formatDigest, printable } from './text.ts';

interface StatsFlags extends CommonFlags, SnapshotFlags, SideFlags, S3Flags, ConcurrencyFlag {
  readonly days?: number;
}

/** Repositories that a person is shown; `--json` has all. */
const MOST_REPOSITORIES = 20;

export function addStats(program: Command, context: CommandContext): void {
  const command = program
    .command('stats')
    .summary('show how many bytes images take, and what a store would save')
    .description(
      'Counts what the images of a registry, of archives or of a store are made of: each blob once, once for each repository, and once for each tag; the repositories that take most, the layers that most images share, and what backups added day by day. Reads snapshots of a store, the head of each archive, every manifest of a registry, and no layer.',
    )
    .argument('<place>', 'a registry (HOST, HOST/team/*), archives (s3://bucket/prefix/, ./folder/) or a store')
    .option('--days <n>', 'days of growth, from snapshots (default: 30)', (text) => {
      if (!/^[1-9][0-9]{0,3}$/.test(text)) throw new Failure('INVALID', '--days is a number of days from 1 to 9999');
      return Number(text);
    });
  withS3Flags(withSnapshotFlags(withSideFlags(withConcurrency(withCommonFlags(command)), ['src'])), {
    writes: false,
  }).action(async (text: string, flags: StatsFlags) => {
    const place = parsePlace(text);
    const only = flags.only?.map(parseImageFilter);
    const asOfMs = flags.asOf === undefined ? undefined : parseTime(flags.asOf, context.clock.now());
    const { placeStats } = await import('../images/place-stats.ts');
    const stats = await withProgress(context, flags, async ({ report }) => {
      const concurrency = concurrencyOf(context, flags);
      await using backends = context.connect({ ...connectFlags(flags), concurrency, report });
      const options = { ...optionsOf(context, flags, report), snapshot: flags.snapshot, asOfMs, only };
      return await placeStats(place, backends, { ...options, days: flags.days });
    });
    printResult(context, flags, stats, (look) => describeStats(stats, look));
    if (stats.unread.length > 0)
      context.exit(3, `${counted(stats.unread.length, 'part')} of the place could not be read`);
  });
}

function describeStats(stats: PlaceStats, look: Look): string {
  const { kind, images, tags, repositories, storedBytes, uniqueBytes, repositoryBytes, archiveBytes } = stats;
  const blocks = [
    [
      `images         ${images} with ${counted(tags, 'tag')} in ${countedRepositories(repositories.length)}`,
      `stored         ${formatBytes(storedBytes)}`,
      `each blob once ${formatBytes(uniqueBytes)}`,
      `by repository  ${formatBytes(repositoryBytes)}`,
      `by tag         ${formatBytes(archiveBytes)}`,
      ...(kind === 'store'
        ? [`saved          ${formatBytes(Math.max(0, archiveBytes - uniqueBytes))} beside an archive for each tag`]
        : [`a store saves  ${formatBytes(stats.savedByStore)}${percentOf(stats.savedByStore, storedBytes)}`]),
    ].join('\n'),
    repositoriesTable(stats, look),
  ];
  if (stats.shared.length > 0)
    blocks.push(
      formatTable(
        ['shared', '>bytes', '>images', '>repositories'],
        stats.shared.map((one) => [
          formatDigest(one.digest),
          formatBytes(one.size),
          String(one.images),
          String(one.repositories),
        ]),
      ),
    );
  if (stats.growth.length > 0)
    blocks.push(
      formatTable(
        ['day', '>snapshots', '>added'],
        stats.growth.map((one) => [one.day, String(one.snapshots), formatBytes(one.addedBytes)]),
      ),
    );
  if (stats.unread.length > 0) blocks.push(stats.unread.map((what) => `not counted: ${printable(what)}`).join('\n'));
  return blocks.join('\n\n');
}

function repositoriesTable({ repositories }: PlaceStats, look: Look): string {
  const most = repositories.toSorted((a, b) => b.bytes - a.bytes).slice(0, MOST_REPOSITORIES);
  const table = formatTable(
    ['repository', '>images', '>tags', '>bytes', '>its own'],
    most.map((one) => [
      printable(one.registry === undefined ? one.repository : `${one.registry}/${one.repository}`),
      String(one.images),
      String(one.tags),
      formatBytes(one.bytes),
      formatBytes(one.ownBytes),
    ]),
    look,
    { shorten: ['repository'], drop: ['tags'] },
  );
  const left = repositories.length - most.length;
  return left === 0 ? table : `${table}\n… and ${left} smaller ones: --json has all`;
}

function percentOf(part: number, all: number): string {
  return all === 0 ? '' : ` (${Math.round((part / all) * 100)} %)`;
}
