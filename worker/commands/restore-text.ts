import type { RepositoryRestore, SnapshotRestoreResult } from '../images/restore-snapshot.ts';
import { PLAIN, type Look } from './look.ts';
import { formatTable } from './table.ts';
import {
  counted,
  countedRepositories,
  formatBytes,
  formatDigest,
  formatDuration,
  formatTag,
  printable,
} from './text.ts';

/** Lines of one kind that a person reads: the rest is in the JSON. */
const MAX_LINES = 50;

/** A restore from snapshots, for people. */
export function describeRestore(result: SnapshotRestoreResult, seconds: number, look: Look = PLAIN): string {
  const { repositories, dryRun } = result;
  const sum = (count: (one: RepositoryRestore) => number): number =>
    repositories.reduce((total, one) => total + count(one), 0);
  const images = sum((one) => one.images);
  const took = formatDuration(seconds * 1000);
  const bytes = dryRun
    ? `would send up to ${formatBytes(sum((one) => one.bytesToSend))}`
    : [
        `${formatBytes(sum((one) => one.bytesSent))} sent`,
        ...(sum((one) => one.bytesReused) > 0 ? [`${formatBytes(sum((one) => one.bytesReused))} reused`] : []),
      ].join(', ');
  return [
    dryRun ? plannedTable(repositories, look) : restoredTable(repositories, look),
    '',
    `${counted(images, 'image')} in ${countedRepositories(repositories.length)}: ${outcomesOf(sum, dryRun)}, ${bytes} in ${took}`,
    ...(dryRun ? [] : [describeComparison(repositories, images)]),
    ...differencesOf(repositories),
    ...limited(
      result.absent.map(({ repository = '', tag, digest, reason }) => {
        const name = tag === undefined ? (digest === undefined ? '' : `@${formatDigest(digest)}`) : `:${tag}`;
        return `not in the snapshot: ${printable(`${repository}${name}: ${reason}`)}`;
      }),
    ),
    ...result.faults.map((fault) => `fault: ${printable(fault)}`),
    ...limited(
      result.failures.map(({ repository, tag, digest, reason }) => {
        const name = tag === undefined ? `@${formatDigest(digest)}` : `:${formatTag(tag)}`;
        return `failed: ${printable(`${repository}${name}: ${reason}`)}`;
      }),
    ),
  ].join('\n');
}

/** `11 copied, 0 unchanged, 0 failed`. */
function outcomesOf(sum: (count: (one: RepositoryRestore) => number) => number, dryRun: boolean): string {
  const kept = sum((one) => one.kept);
  return [
    dryRun ? `${sum((one) => one.planned)} planned` : `${sum((one) => one.copied)} copied`,
    `${sum((one) => one.unchanged)} unchanged`,
    ...(kept > 0 ? [`${kept} kept`] : []),
    `${sum((one) => one.failed)} failed`,
  ].join(', ');
}

function plannedTable(repositories: readonly RepositoryRestore[], look: Look): string {
  return formatTable(
    ['repository', 'to', '>images', '>there', '>would send'],
    repositories.map(({ from, to, images, unchanged, bytesToSend }) => [
      from,
      to,
      String(images),
      String(unchanged),
      formatBytes(bytesToSend),
    ]),
    look,
    { shorten: ['repository', 'to'] },
  );
}

function restoredTable(repositories: readonly RepositoryRestore[], look: Look): string {
  return formatTable(
    ['repository', 'to', '>images', '>copied', '>there', '>kept', '>failed', '>sent', '>equal'],
    repositories.map(({ from, to, images, copied, unchanged, kept, failed, bytesSent, comparison }) => [
      from,
      to,
      ...[images, copied, unchanged, kept, failed].map(String),
      formatBytes(bytesSent),
      comparison === undefined ? '?' : String(comparison.equal),
    ]),
    look,
    { shorten: ['repository', 'to'], drop: ['kept', 'there', 'copied'] },
  );
}

function describeComparison(repositories: readonly RepositoryRestore[], images: number): string {
  const compared = repositories.flatMap(({ comparison }) => comparison ?? []);
  const equal = compared.reduce((sum, one) => sum + one.equal, 0);
  const differences = compared.flatMap((one) => one.differences);
  const missing = differences.filter(({ kind }) => kind === 'missing').length;
  const different = differences.length - missing;
  return `compared with the snapshot: ${equal} of ${images} images equal, ${missing} digests or tags missing, ${different} different`;
}

function differencesOf(repositories: readonly RepositoryRestore[]): readonly string[] {
  return limited(
    repositories.flatMap(({ to, comparison }) =>
      (comparison?.differences ?? []).map(({ kind, tag, digest, reason }) => {
        const name = tag === undefined ? `@${formatDigest(digest)}` : `:${formatTag(tag)}`;
        return `${kind}: ${printable(`${to}${name}: ${reason}`)}`;
      }),
    ),
  );
}

function limited(lines: readonly string[]): readonly string[] {
  if (lines.length <= MAX_LINES) return lines;
  return [...lines.slice(0, MAX_LINES), `… and ${lines.length - MAX_LINES} more: --json has them all`];
}
