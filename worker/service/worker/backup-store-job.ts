import { backupToStore, type StoreBackupRequest, type StoreBackupResult } from '../../images/backup-store.ts';
import type { Backends } from '../../images/backends.ts';
import { parseDigest } from '../../oci/digest.ts';
import { parseImagePattern } from '../../oci/location.ts';
import type { BackupStoreJob } from '../../queue/job.ts';
import { patternOf } from '../../queue/many-images.ts';
import { mayPass } from '../../queue/redelivery.ts';
import { choicesKey } from '../../rules/destinations.ts';
import { parseStore } from '../../rules/stores.ts';
import { anyOf } from '../../util/abort.ts';
import { Failure } from '../../util/failure.ts';
import { highest } from '../../util/lists.ts';
import { quote } from '../../util/text.ts';
import type { Ended, RunJobOptions } from './job-run.ts';
import type { LeasedDestination } from './leases.ts';
import { chosenBy } from './many-images.ts';

/**
 * Backs images of one registry up into a store, under a lease of the rule, the registry and the store, and records the snapshot. Images that
 * fail make the job fail, with a failure that may pass where one of theirs may; the snapshot lists them, and the others are stored. The next
 * attempt sends what is missing. Throws what fails for the registry or the store as a whole. Idempotent: each time writes a snapshot of its own.
 */
export async function backUpIntoStore(
  job: BackupStoreJob,
  destination: LeasedDestination | undefined,
  backends: Backends,
  options: RunJobOptions,
): Promise<Ended> {
  if (destination === undefined) throw new Failure('BUG', 'backup into a store without a place');
  const signal = anyOf(options.signal, destination.signal);
  const result = await backupToStore(requestOf(job, options), backends, { ...options, signal });
  const { snapshot, images, added, bytes } = result;
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
  const failure = failureOfImages(result);
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

function requestOf(job: BackupStoreJob, { tool, clock }: RunJobOptions): StoreBackupRequest {
  const { rule, run, platforms, referrers, settings } = job;
  const repositories = job.from.map((one) => parseImagePattern(one).repository);
  return {
    from: patternOf(job),
    ...(repositories.length === 1 ? {} : { repositories }),
    to: parseStore(job.to),
    tool,
    ...(rule === undefined ? {} : { rule, run }),
    ...chosenBy(job, clock.now()),
    platforms,
    referrers,
    settings,
  };
}

/** How many failed images one failure names. */
const NAMED = 3;

/** One failure for all images and repositories that could not be stored. Undefined where none failed. */
function failureOfImages({ from, to, images, failures, causes }: StoreBackupResult): Failure | undefined {
  const [first] = failures;
  if (first === undefined) return undefined;
  const cause = causes.find(mayPass) ?? causes[0];
  const named = failures.slice(0, NAMED).map(({ repository = '', tag, digest, reason }) => {
    const name = tag === undefined ? (digest ?? '') : tag;
    return `${quote([repository, name].filter((part) => part !== '').join(':'))}: ${reason}`;
  });
  const more = failures.length > named.length ? `; and ${failures.length - named.length} more` : '';
  const all = images.stored + images.unchanged;
  const message = `back up ${from} into ${to}: ${failures.length} failed, ${all} images are stored: ${named.join('; ')}${more}`;
  const retryAfterMs = highest(
    causes.map(({ context }) => context.retryAfterMs ?? 0),
    0,
  );
  return new Failure(cause?.code ?? 'UNAVAILABLE', message, { cause, context: { retryAfterMs } });
}
