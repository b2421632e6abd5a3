import { backupToStore } from '../../images/backup-store.ts';
import type { Backends } from '../../images/backends.ts';
import { parseStoreRoot } from '../../oci/place.ts';
import { parseDigest } from '../../oci/digest.ts';
import { parseImagePattern } from '../../oci/location.ts';
import type { BackupStoreJob } from '../../queue/job.ts';
import { patternOf } from '../../queue/many-images.ts';
import { choicesKey } from '../../rules/destinations.ts';
import { anyOf } from '../../util/abort.ts';
import { describeFailure, Failure } from '../../util/failure.ts';
import { failureOfImages, storeRequestOf } from '../store-backup.ts';
import type { Ended, RunJobOptions, Waiting } from './job-run.ts';
import type { LeasedDestination } from './leases.ts';
import { writeReport } from './write-report.ts';

/** Between two looks at images that are being restored. ECR takes up to 20 minutes. */
const RESTORING_SECONDS = 300;

/**
 * Backs images of one registry up into a store, under a lease of the rule, the registry and the store, and records the snapshot. Images that
 * fail make the job fail when no other is being restored any more, with a failure that may pass where one of theirs may; the snapshot lists them,
 * and the others are stored. The next attempt sends what is missing. Where the job includes archived images, it waits for those that are being
 * restored without holding a slot, and each pass that stored images writes a snapshot. Throws what fails for the registry or the store as a whole.
 * Idempotent: each time writes a snapshot of its own.
 */
export async function backUpIntoStore(
  job: BackupStoreJob,
  destination: LeasedDestination | undefined,
  backends: Backends,
  options: RunJobOptions,
): Promise<Ended> {
  if (destination === undefined) throw new Failure('BUG', 'backup into a store without a place');
  const signal = anyOf(options.signal, destination.signal);
  const request = storeRequestOf(job, { tool: options.tool, nowMs: options.clock.now() });
  const result = await backupToStore({ ...request, waitsForArchived: false }, backends, { ...options, signal });
  const { snapshot, images, added, bytes, restoring } = result;
  const failure = failureOfImages(result);
  const restored = `${restoring === 1 ? '1 image is' : `${restoring} images are`} being restored from the archive storage class`;
  const waiting: Waiting = {
    state: 'waiting',
    seconds: RESTORING_SECONDS,
    // the last pass sends those that failed again
    why: failure === undefined ? restored : `${restored}; meanwhile: ${describeFailure(failure)}`,
  };
  if (snapshot === undefined && restoring > 0) return waiting;
  if (snapshot === undefined) throw new Failure('BUG', `back up ${result.from}: there is no snapshot`);
  const { registry } = parseImagePattern(patternOf(job));
  options.report?.({
    type: 'snapshot-written',
    registry,
    place: result.to,
    id: snapshot.id,
    images,
    bytesAdded: added.bytes,
    bytes,
  });
  if (restoring > 0) return waiting;
  if (job.report === true) {
    const root = parseStoreRoot(job.to.slice('store:'.length), job.to);
    await writeReport({ kind: 'store', text: job.to, root }, backends, { ...options, signal });
  }
  if (failure !== undefined) return { state: 'failed', failed: [{ destination, failure }] };
  const digest = parseDigest(`sha256:${snapshot.id}`);
  const { key, lease } = destination;
  const common = { source: patternOf(job), sourceDigest: digest, digest, choices: choicesKey(job) };
  const atMs = options.clock.now();
  const record = { ...key, ...common, bytes, atMs, run: job.run, rule: job.rule };
  await options.destinations.record(record, lease, { signal });
  const state = images.stored === 0 ? 'skipped' : 'done';
  return {
    state,
    bytes: { bytesSent: added.bytes, bytesReused: 0, bytesSkipped: Math.max(0, bytes - added.bytes) },
  };
}
