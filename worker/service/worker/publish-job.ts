import type { Backends } from '../../images/backends.ts';
import type { PublishResult } from '../../images/publish-result.ts';
import { publish } from '../../images/publish.ts';
import { parseObjectPlace, type ObjectPlace } from '../../oci/object-place.ts';
import { parseRepository, type Repository } from '../../oci/reference.ts';
import { withoutTransport } from '../../oci/location.ts';
import type { Digest } from '../../oci/digest.ts';
import type { PublishJob } from '../../queue/job.ts';
import { choicesKey } from '../../rules/destinations.ts';
import type { SyncRecord } from '../../state/state.ts';
import { anyOf, type Abortable } from '../../util/abort.ts';
import { Failure, ifFound, onSide } from '../../util/failure.ts';
import { quote } from '../../util/text.ts';
import { failureOfObjects } from '../failed-objects.ts';
import type { LeasedDestination } from './leases.ts';
import { refusedDestinations } from './refused-destinations.ts';
import type { Ended, RunJobOptions } from './job-run.ts';

/**
 * Publishes the objects of a job under the lease of its repository, and records the listing when all of them are published. One object that fails
 * makes the job fail, with a failure that may pass where one of theirs may. What was published stays, and the next attempt does not read it again.
 * Throws what fails for the listing or the repository as a whole. Idempotent.
 */
export async function publishObjects(
  job: PublishJob,
  destination: LeasedDestination | undefined,
  backends: Backends,
  options: RunJobOptions,
): Promise<Ended> {
  if (destination === undefined) throw new Failure('BUG', 'publish without a place');
  const refusal = (await refusedDestinations(job, [destination], options)).get(destination);
  if (refusal !== undefined) return { state: 'failed', failed: [{ destination, failure: refusal }] };
  const signal = anyOf(options.signal, destination.signal);
  const to = parseRepository(withoutTransport(job.to));
  const record = options.destinations.foundBy(destination.lease, destination.key);
  const isKnown = await isAsItWasLeft(job, record, to, backends, { signal });
  const lastListing = isKnown ? record?.sourceDigest : undefined;
  const request = { from: placeOf(job), to, lastListing };
  const result = await publish(request, backends, { ...options, signal });
  const failure = failureOfObjects(result);
  if (failure !== undefined) return { state: 'failed', failed: [{ destination, failure }] };
  const digest = result.snapshot?.digest ?? record?.digest;
  if (digest === undefined) throw new Failure('BUG', `publish ${job.from}: there is no snapshot`);
  const published = recordOf(job, destination, result, digest, options.clock.now());
  await options.destinations.record(published, destination.lease, { signal });
  const { objects, bytesSent } = result;
  const state = result.outcome === 'unchanged' ? 'skipped' : 'done';
  return { state, bytes: { bytesSent, bytesReused: 0, bytesSkipped: 0 }, objects };
}

/** The objects of a job. INVALID for a folder of the worker's own machine. */
export function placeOf({ from }: Pick<PublishJob, 'from'>): ObjectPlace {
  const place = parseObjectPlace(from);
  if (place.transport === 's3') return place;
  throw new Failure('INVALID', `${quote(from)} is not a place that a worker reaches: name s3://bucket/prefix/`);
}

/** Whether the snapshot that the record names is still the last one of the repository, and nothing has failed there since. */
async function isAsItWasLeft(
  job: PublishJob,
  record: SyncRecord | undefined,
  { registry, repository }: Repository,
  backends: Backends,
  options: Abortable,
): Promise<boolean> {
  if (record === undefined || record.source !== job.from || record.failing === true) return false;
  const target = backends.registry(registry, 'target').repository(repository);
  const now = await onSide('target', ifFound(target.resolve(record.name, options)));
  return now?.digest === record.digest;
}

function recordOf(
  job: PublishJob,
  { key }: LeasedDestination,
  { listing, bytes }: PublishResult,
  digest: Digest,
  atMs: number,
): SyncRecord {
  const { from: source, run, rule } = job;
  return { ...key, source, sourceDigest: listing, digest, choices: choicesKey({}), bytes, atMs, run, rule };
}
