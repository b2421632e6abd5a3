import { InvalidArgumentError, type Command } from 'commander';
import type { DiffSnapshotsRequest, NotBackedUp, SnapshotsDiff } from '../images/diff-snapshots.ts';
import type { BrokenSnapshot, showSnapshot, SnapshotSummary } from '../images/list-snapshots.ts';
import type { ImageChange, ImageName } from '../images/snapshot-changes.ts';
import type { Backends, OperationOptions } from '../images/backends.ts';
import {
  matchesNothing,
  matchesRepository,
  matchingTags,
  parseImageFilter,
  type ImageFilter,
} from '../oci/image-filter.ts';
import { describeFailure } from '../util/failure.ts';
import { readConfig } from './apply.ts';
import {
  printResult,
  withCommonFlags,
  withProgress,
  type CommandContext,
  type CommonFlags,
  type KeyFlags,
} from './context.ts';
import { onlyOption, parseBackupPlace } from './places.ts';
import { optionsOf } from './result.ts';
import { connectFlags, withS3Flags, withSideFlags, withVerifyKeyFlag, type S3Flags, type SideFlags } from './sides.ts';
import type { Look } from './look.ts';
import { formatTable } from './table.ts';
import { counted, formatBytes, formatDigest, formatDuration, printable } from './text.ts';

interface PlaceFlags extends CommonFlags, SideFlags, S3Flags, Pick<KeyFlags, 'verifyKey'> {}

type ShownSnapshot = Awaited<ReturnType<typeof showSnapshot>>['snapshot'];

interface ListFlags extends PlaceFlags {
  readonly latest?: number;
}

interface ShowFlags extends PlaceFlags {
  readonly only?: readonly string[];
}

interface DiffFlags extends PlaceFlags {
  readonly file?: string;
}

const PLACE = 'a store (store:s3://bucket/prefix/, store:folder) or archives (s3://bucket/prefix/, ./folder/)';

export function addSnapshots(program: Command, context: CommandContext): void {
  const snapshots = program
    .command('snapshots')
    .summary('list, show and compare what backups recorded of registries')
    .description(
      'Reads the snapshots that backups wrote. `transship snapshots PLACE` lists them, as `transship snapshots list PLACE` does.',
    );
  addList(snapshots, context);
  addShow(snapshots, context);
  addDiff(snapshots, context);
}

function addList(snapshots: Command, context: CommandContext): void {
  const command = snapshots
    .command('list', { isDefault: true })
    .summary('every snapshot of a place: when, of what, how large, what failed')
    .description(
      'Lists the snapshots of a place from the oldest to the newest, and reads each of them. Exits 3 when one cannot be read or was changed. docs/snapshot-format.md explains what a snapshot is.',
    )
    .argument('<place>', PLACE)
    .option('--latest <n>', 'only the newest n', (value) => {
      if (/^[1-9]\d{0,5}$/.test(value)) return Number(value);
      throw new InvalidArgumentError('expected a whole number above 0.');
    });
  withPlaceFlags(command).action(async (text: string, flags: ListFlags) => {
    const place = parseBackupPlace(text);
    const { listSnapshots } = await import('../images/list-snapshots.ts');
    const rows = await reading(context, flags, async (backends, options) =>
      Array.fromAsync(listSnapshots(place, backends, { ...options, latest: flags.latest })),
    );
    printResult(context, flags, { snapshots: rows }, (look) => describeList(rows, look));
    const unread = rows.filter((row) => 'failure' in row).length;
    if (unread > 0) context.exit(3, `${counted(unread, 'snapshot')} cannot be read`);
  });
}

function addShow(snapshots: Command, context: CommandContext): void {
  const command = snapshots
    .command('show')
    .summary('the repositories and images of one snapshot')
    .description('Shows one snapshot. With --json the whole document, as docs/snapshot-format.md describes it.')
    .argument('<place>', PLACE)
    .argument('<id>', 'the id of a snapshot, the beginning of it, or "latest"')
    .addOption(onlyOption());
  withPlaceFlags(command).action(async (text: string, id: string, flags: ShowFlags) => {
    const place = parseBackupPlace(text);
    const only = flags.only?.map(parseImageFilter) ?? [];
    const { showSnapshot } = await import('../images/list-snapshots.ts');
    const { name, snapshot, summary } = await reading(context, flags, (backends, options) =>
      showSnapshot(place, id, backends, options),
    );
    checkMatches(only, snapshot, `the snapshot ${name.id.slice(0, 8)}`);
    printResult(context, flags, { id: name.id, key: name.key, ...snapshot }, (look) =>
      [
        ...describeSummary(summary),
        '',
        formatTable(
          ['image', 'digest', '>bytes', 'pushed', '>referrers', 'note'],
          snapshot.repositories.flatMap((repository) => {
            if (!matchesRepository(only, repository.name)) return [];
            return repository.images.flatMap((image) => {
              const tags = matchingTags(only, repository.name, image.tags);
              if (tags === undefined) return [];
              const rest = [
                formatDigest(image.digest),
                formatBytes(image.bytes),
                image.pushedAt?.slice(0, 10) ?? '',
                String(image.referrers.length),
                image.archived === true ? 'archived: not backed up' : (image.unchecked?.[0] ?? ''),
              ];
              const names = tags.length === 0 ? [repository.name] : tags.map((tag) => `${repository.name}:${tag}`);
              return names.map((one) => [one].concat(rest));
            });
          }),
          look,
          { shorten: ['image'], drop: ['referrers', 'pushed'], wrap: true },
        ),
        ...snapshot.failures.map(
          ({ reason, ...failed }) =>
            `failed: ${printable(nameOf({ repository: '', ...failed }))}: ${printable(reason)}`,
        ),
      ].join('\n'),
    );
  });
}

function addDiff(snapshots: Command, context: CommandContext): void {
  const command = snapshots
    .command('diff')
    .summary('what is new, moved, deleted or not backed up between two snapshots, or since one')
    .description(
      'Compares two snapshots of a place, or a snapshot with its registry as it is now: which tags are new, which were moved to another image, which were signed or got another SBOM, which were deleted, and which images are not backed up. With -f also which images no backup rule of the file selects. Reads no image. Exits 3 when there is a difference, or an image that is not backed up or not selected.',
    )
    .argument('<place>', PLACE)
    .argument('<a>', 'a snapshot: its id, the beginning of it, or "latest"')
    .argument('<b>', 'another one, or "now": the registry as it is')
    .option('-f, --file <file>', 'a rules file: also lists images that none of its backup rules selects');
  withSideFlags(withPlaceFlags(command), ['src']).action(
    async (text: string, a: string, b: string, flags: DiffFlags) => {
      const place = parseBackupPlace(text);
      const notCovered = flags.file === undefined ? undefined : await coverageOf(flags.file, context);
      const { diffSnapshots } = await import('../images/diff-snapshots.ts');
      const diff = await reading(context, flags, (backends, options) =>
        diffSnapshots({ place, a, b, notCovered }, backends, options),
      );
      printResult(context, flags, diff, (look) => describeDiff(diff, look));
      const found = diff.changes.length + diff.notBackedUp.length + (diff.notCovered?.length ?? 0);
      if (found > 0) context.exit(3, counted(found, 'difference'));
    },
  );
}

/** Throws NOT_FOUND where filters choose no image of the snapshot, since one may be misspelt. */
function checkMatches(only: readonly ImageFilter[], { repositories }: ShownSnapshot, what: string): void {
  const isChosen = repositories.some(
    ({ name, images }) =>
      matchesRepository(only, name) && images.some(({ tags }) => matchingTags(only, name, tags) !== undefined),
  );
  if (only.length > 0 && !isChosen) throw matchesNothing(only, what);
}

function withPlaceFlags(command: Command): Command {
  return withVerifyKeyFlag(withS3Flags(withCommonFlags(command), { writes: false }));
}

async function reading<T>(
  context: CommandContext,
  flags: PlaceFlags,
  work: (backends: Backends, options: OperationOptions) => Promise<T>,
): Promise<T> {
  return withProgress(context, flags, async ({ report }) => {
    await using backends = context.connect({ ...connectFlags(flags), report });
    return await work(backends, optionsOf(context, {}, report));
  });
}

async function coverageOf(file: string, context: CommandContext): Promise<DiffSnapshotsRequest['notCovered']> {
  const nowMs = context.clock.now();
  const { rules } = await readConfig(file, nowMs);
  const { notBackedUpBy } = await import('../rules/coverage.ts');
  return (registry, repository, images) => {
    const candidates = images.map(({ tag, digest, pushedAtMs }) => ({ repository, tag, digest, pushedAtMs }));
    return notBackedUpBy(rules, { registry, repository }, candidates, nowMs).map(({ tag, digest }) =>
      tag === undefined ? { repository, digest } : { repository, tag, digest },
    );
  };
}

function describeList(rows: readonly (SnapshotSummary | BrokenSnapshot)[], look: Look): string {
  if (rows.length === 0) return 'no snapshots: a backup writes one';
  const table = formatTable(
    ['id', 'finished', 'registry', '>repositories', '>images', '>bytes', '>new bytes', '>failures', 'rule'],
    rows.map((row) =>
      'failure' in row
        ? [row.id.slice(0, 8), timeOf(row.finishedAt), 'cannot be read', '', '', '', '', '', '']
        : [
            row.id.slice(0, 8),
            timeOf(row.finishedAt),
            printable(row.registry),
            String(row.repositories),
            String(row.images),
            formatBytes(row.bytes),
            formatBytes(row.newBytes),
            row.failures === 0 ? '-' : String(row.failures),
            printable(row.rule ?? ''),
          ],
    ),
    look,
    { shorten: ['registry', 'rule'], drop: ['rule', 'repositories', 'bytes'] },
  );
  return [
    table,
    ...rows.flatMap((row) => {
      if ('failure' in row) return [`broken: ${printable(describeFailure(row.failure))}`];
      if (row.aheadMs === undefined) return [];
      return [
        `warning: ${row.id.slice(0, 8)} was written by a clock that was ${formatDuration(row.aheadMs)} ahead of the store's: snapshots of that time may be in a wrong order`,
      ];
    }),
  ].join('\n');
}

function describeSummary(summary: SnapshotSummary): readonly string[] {
  const { scope } = summary;
  const asked = [
    scope.repositories + (scope.tags === undefined ? '' : `:${scope.tags}`),
    ...(scope.untagged ? ['untagged images'] : []),
    ...(scope.referrers ? [] : ['without referrers']),
    ...scope.platforms,
  ];
  return [
    `snapshot      ${summary.id}`,
    `key           ${printable(summary.key)}`,
    `registry      ${printable(summary.registry)}`,
    `finished      ${timeOf(summary.finishedAt)}, begun ${timeOf(summary.startedAt)}`,
    `written by    ${printable(summary.tool)}${summary.rule === undefined ? '' : `, rule ${printable(summary.rule)}`}`,
    `asked for     ${printable(asked.join(', '))}`,
    `repositories  ${summary.repositories}`,
    `images        ${summary.images} with ${counted(summary.tags, 'tag')}${summary.archived === 0 ? '' : `, ${summary.archived} archived and not backed up`}`,
    `bytes         ${formatBytes(summary.bytes)}, each blob once; the backup sent ${formatBytes(summary.newBytes)}`,
  ];
}

function describeDiff(diff: SnapshotsDiff, look: Look): string {
  const { a, b, registry, changes, same, newBytes, notBackedUp, notCovered } = diff;
  const count = (kind: ImageChange['kind']): number => changes.filter((one) => one.kind === kind).length;
  const rows = [
    ...changes.map((one) => [
      one.kind,
      nameOf(one),
      one.before === undefined ? '' : formatDigest(one.before),
      one.kind === 'deleted' || one.digest === undefined ? '' : formatDigest(one.digest),
      '',
    ]),
    ...notBackedUp.map((one: NotBackedUp) => [
      'not backed up',
      nameOf(one),
      '',
      one.digest === undefined ? '' : formatDigest(one.digest),
      one.reason,
    ]),
    ...(notCovered ?? []).map((one) => ['no rule covers it', nameOf(one), '', '', '']),
  ];
  const [from, to] = [a, b].map((id) => (id === 'now' ? 'now' : id.slice(0, 8)));
  return [
    ...(rows.length === 0
      ? []
      : [
          formatTable(['change', 'image', 'before', 'after', 'reason'], rows, look, { shorten: ['image'], wrap: true }),
          '',
        ]),
    `${printable(registry)}, ${from} to ${to}: ${count('new')} new, ${count('moved')} moved, ${count('referrers')} with other referrers, ${count('deleted')} deleted, ${same} the same; ${notBackedUp.length} not backed up${notCovered === undefined ? '' : `; ${notCovered.length} that no rule covers`}${newBytes === undefined ? '' : `; ${formatBytes(newBytes)} of new content`}`,
  ].join('\n');
}

function nameOf({ repository, tag, digest }: ImageName): string {
  if (tag !== undefined) return `${repository}:${tag}`;
  return digest === undefined ? repository : `${repository}@${formatDigest(digest)}`;
}

/** `2026-12-01 02:10:00 UTC`. */
function timeOf(iso: string): string {
  return `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`;
}
