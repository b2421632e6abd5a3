import { readSnapshots } from '../store/read-state.ts';
import { describeFailure, Failure } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';
import type { BackupPlace } from './open-backups.ts';
import { openBackups } from './open-backups.ts';
import { storeAndPrefix } from './open-place.ts';
import { readProofs } from './proof-record.ts';
import { ReportFold, type BackupReport } from './report.ts';

export interface ReportOptions extends OperationOptions {
  /** How many days the heat map and the charts have. Default 60. */
  readonly days?: number | undefined;
}

const DAYS = 60;

/**
 * Reads every snapshot of a place, and the newest records of verifications and drills, into a report. A snapshot that cannot be read is among
 * `broken`. NOT_FOUND where there is no snapshot.
 */
export async function makeReport(
  place: BackupPlace,
  backends: Backends,
  options: ReportOptions,
): Promise<BackupReport> {
  const { snapshots } = await openBackups(place, backends, options);
  const names = await snapshots.list(options);
  if (names.length === 0) throw new Failure('NOT_FOUND', `there is no snapshot in ${place.text}: a backup writes one`);
  const fold = new ReportFold();
  const broken: string[] = [];
  for await (const read of readSnapshots(snapshots, names.toReversed(), options)) {
    if (read.failure === undefined) fold.add(read);
    else if (read.failure.code !== 'NOT_FOUND') broken.push(describeFailure(read.failure));
  }
  const { proofs, unread: unreadProofs } = await readProofs(storeAndPrefix(place.root, backends), options);
  const about = { place: place.text, nowMs: options.clock.now(), days: options.days ?? DAYS };
  return fold.report({ ...about, broken, proofs, unreadProofs });
}
