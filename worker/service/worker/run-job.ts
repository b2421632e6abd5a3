import type {
  BackupStoreJob,
  CopyJob,
  PublishJob,
  RestoreJob,
  SettingsJob,
  SnapshotJob,
  VerifyJob,
} from '../../queue/job.ts';
import { choicesKey, destinationKey, publishedAt, withNameOf } from '../../rules/destinations.ts';
import { rememberedManifests } from '../planner/plan-jobs.ts';
import {
  formatLocation,
  parseDestination,
  parseImagePattern,
  parseLocation,
  withoutTransport,
  type Location,
} from '../../oci/location.ts';
import type { Digest } from '../../oci/digest.ts';
import { parseRepository } from '../../oci/reference.ts';
import { patternOf } from '../../queue/many-images.ts';
import { parseStore, snapshotFor, storedFor } from '../../rules/stores.ts';
import { anyOf, checkAborted } from '../../util/abort.ts';
import { Failure, isFailure, toFailure } from '../../util/failure.ts';
import { storeSettings } from '../../images/store-settings.ts';
import type { Backends, OperationOptions } from '../../images/backends.ts';
import { fanOut } from '../../images/fan-out.ts';
import { ArchiveSettings } from './archive-settings.ts';
import type { FailedDestination } from './failed-destinations.ts';
import type { LeasedDestination, JobDestination } from './leases.ts';
import { BYTE_COUNTS, type Done, type Ended, type RunJobOptions } from './job-run.ts';
import { backUpIntoStore } from './backup-store-job.ts';
import { placeOf, publishObjects } from './publish-job.ts';
import { writeRunSnapshot } from './snapshot-job.ts';
import { verifyAt } from './verify-job.ts';
import { refusedDestinations } from './refused-destinations.ts';
import { openLocation } from '../../images/open-location.ts';
import type { ImageCopyResult } from '../../images/copy-image.ts';

/** A job that moves or reads images, objects, or what is stored beside them. */
export type ContentJob = CopyJob | BackupStoreJob | SnapshotJob | RestoreJob | PublishJob | VerifyJob | SettingsJob;

/**
 * The destinations of the job, each once. Opens an archive whose tag becomes that of the destination. INVALID for a location that workers do not
 * reach.
 */
export async function destinationsOfJob(
  job: ContentJob,
  backends: Backends,
  options: OperationOptions,
): Promise<readonly JobDestination[]> {
  if (job.kind === 'verify') return [];
  if (job.kind === 'settings') return [{ key: destinationKey(job.to), location: serviceLocation(job.to) }];
  if (job.kind === 'backup-store' || job.kind === 'snapshot') return [manyImagesAt(job)];
  if (job.kind === 'publish') {
    placeOf(job);
    const { location, ...key } = publishedAt(job.to);
    return [{ key, location: parseLocation(location) }];
  }
  const from = serviceLocation(job.from);
  const destinations = new Map<string, JobDestination>();
  for (const to of job.kind === 'restore' ? [job.to] : job.to) {
    const location = await withName(serviceLocation(to, parseDestination), from, backends, options);
    const key = destinationKey(formatLocation(location));
    // a registry of ECR has several names
    destinations.set(JSON.stringify(key), { key, location });
  }
  return [...destinations.values()];
}

/** Does the job at destinations under their leases, and records each as soon as it is done. */
export async function runJob(
  job: ContentJob,
  destinations: readonly LeasedDestination[],
  backends: Backends,
  options: RunJobOptions,
): Promise<Ended> {
  switch (job.kind) {
    case 'verify':
      return verifyAt(job, backends, options);
    case 'settings':
      return copySettings(job, destinations, backends, options);
    case 'publish':
      return publishObjects(job, destinations[0], backends, options);
    case 'backup-store':
      return backUpIntoStore(job, destinations[0], backends, options);
    case 'snapshot':
      return writeRunSnapshot(job, destinations[0], backends, options);
    case 'mirror':
    case 'backup':
    case 'restore':
      return copyImage(job, destinations, backends, options);
    default:
      return job satisfies never;
  }
}

async function copyImage(
  job: CopyJob | RestoreJob,
  destinations: readonly LeasedDestination[],
  backends: Backends,
  options: RunJobOptions,
): Promise<Ended> {
  const ended = await copyToDestinations(job, destinations, backends, options);
  if (ended.state !== 'failed' || !ended.failed.some(({ failure }) => isFailure(failure, 'NOT_FOUND'))) return ended;
  const now = await sourceNow(job, backends, options);
  if (now === 'gone') return { state: 'gone' };
  return now === 'moved' ? { state: 'failed', failed: ended.failed.map(againWhereMissing) } : ended;
}

/** What became of the image that a planner found at the source. An archived image is unchanged, and cannot be pulled. */
async function sourceNow(
  job: CopyJob | RestoreJob,
  backends: Backends,
  options: OperationOptions,
): Promise<'gone' | 'moved' | 'unchanged'> {
  if (job.kind === 'restore' || job.rule === undefined || job.digest === undefined) return 'unchanged';
  const from = serviceLocation(job.from);
  if (from.transport !== 'docker') return 'unchanged';
  const { registry, repository, tag, digest } = from.reference;
  try {
    const now = await backends
      .registry(registry, 'source')
      .repository(repository)
      .resolve(digest ?? tag ?? 'latest', options);
    return now.digest === job.digest ? 'unchanged' : 'moved';
  } catch (error) {
    if (!isFailure(error, 'NOT_FOUND')) throw error;
    return error.context['archived'] === true ? 'unchanged' : 'gone';
  }
}

/** UNAVAILABLE for an image whose tag moved, and which may have been deleted then: the next attempt copies what the tag is now. */
function againWhereMissing({ destination, failure }: FailedDestination): FailedDestination {
  if (failure.code !== 'NOT_FOUND') return { destination, failure };
  const { message, context } = failure;
  return { destination, failure: new Failure('UNAVAILABLE', message, { cause: failure, context }) };
}

async function copyToDestinations(
  job: CopyJob | RestoreJob,
  destinations: readonly LeasedDestination[],
  backends: Backends,
  options: RunJobOptions,
): Promise<Ended> {
  const { referrers, create } = job;
  // a request by hand may be meant to send again what a registry lost
  const trustTarget = job.kind === 'mirror' && job.rule !== undefined;
  // a referrer that was pushed after the planner's list is new to the next run, which copies the image again
  const asked = options.unreferenced && !isOvertaken(job, destinations, options) ? false : referrers;
  // a planner compared the destinations with the image before it made the job
  const isNew = job.rule !== undefined;
  const choices =
    job.kind === 'restore' ? { referrers, create } : { ...job, referrers: asked, create, trustTarget, isNew };
  const from = serviceLocation(job.from);
  const refused = await refusedDestinations(job, destinations, options);
  const failed: FailedDestination[] = Array.from(refused, ([destination, failure]) => ({ destination, failure }));
  const left = new Set(destinations.filter((destination) => !refused.has(destination)));
  if (left.size === 0) return { state: 'failed', failed };
  const settings = new ArchiveSettings(job, from, backends, options);
  const settingsDigest = async (archive: Location): Promise<Digest | undefined> => settings.digest(archive);
  let unchanged = true;
  const bytes = { bytesSent: 0, bytesReused: 0, bytesSkipped: 0 };
  try {
    for await (const item of fanOut({ ...choices, from, to: [...left], settingsDigest }, backends, options)) {
      const { target } = item;
      left.delete(target);
      try {
        if ('failure' in item) throw item.failure;
        unchanged &&= item.result.outcome === 'unchanged';
        for (const name of BYTE_COUNTS) bytes[name] += item.result[name];
        warnOfForeign(target.location, item.result, options);
        // before the record, which gives the lease back; for an unchanged archive too, because an earlier attempt may have stored no settings
        await settings.keep(target.location);
        await record(job, target, item.result, options);
      } catch (error) {
        checkAborted(options);
        const failure = namingForce(retryableIfChanged(error, target), job, target.location);
        failed.push({ destination: target, failure });
      }
    }
  } catch (error) {
    checkAborted(options);
    const failure = toFailure(error);
    for (const destination of left) failed.push({ destination, failure });
  }
  return failed.length > 0 ? { state: 'failed', failed } : { state: unchanged ? 'skipped' : 'done', bytes };
}

/** Whether another job wrote one of the destinations since this one was planned: it may have brought what the planner's list does not show. */
function isOvertaken(
  { at }: Pick<CopyJob, 'at'>,
  leased: readonly LeasedDestination[],
  { destinations }: Pick<RunJobOptions, 'destinations'>,
): boolean {
  const plannedMs = Date.parse(at);
  return leased.some(({ lease, key }) => (destinations.foundBy(lease, key)?.atMs ?? -Infinity) >= plannedMs);
}

/** Warns of an image that was written without its foreign layers: the job succeeded, but the image is incomplete. */
function warnOfForeign(location: Location, { foreign }: ImageCopyResult, { report }: RunJobOptions): void {
  if (foreign.length === 0) return;
  const layers = foreign.length === 1 ? 'layer' : 'layers';
  const message = `${formatLocation(location)} is incomplete: ${foreign.length} foreign ${layers} elsewhere`;
  report?.({ type: 'warning', message });
}

async function record(
  job: CopyJob | RestoreJob,
  { key, lease }: LeasedDestination,
  { originalDigest, digest, bytes, version, object, manifests, copied }: ImageCopyResult,
  options: RunJobOptions,
): Promise<void> {
  await options.destinations.record(
    {
      ...key,
      source: job.from,
      sourceDigest: originalDigest ?? digest,
      digest,
      choices: choicesKey(job.kind === 'restore' ? { referrers: job.referrers } : job),
      manifests: rememberedManifests(manifests, copied),
      bytes,
      atMs: options.clock.now(),
      version,
      size: object?.size,
      etag: object?.etag,
      run: job.run,
      rule: job.rule,
    },
    lease,
    options,
  );
}

async function copySettings(
  job: SettingsJob,
  [destination]: readonly LeasedDestination[],
  backends: Backends,
  options: RunJobOptions,
): Promise<Done> {
  const to = destination?.location;
  if (destination === undefined || to === undefined || to.transport === 'docker' || to.transport === 'store')
    throw new Failure('BUG', 'the job stores settings and names no place');
  const request = { repository: parseRepository(withoutTransport(job.from)), to };
  const signal = anyOf(options.signal, destination.signal);
  const isWritten = await storeSettings(request, backends, { signal });
  // settings have no record that would remove them
  for (const letter of await options.destinations.letters(destination.key, { signal }))
    await options.destinations.forgetLetters(destination.key, letter.job, { signal });
  return { state: isWritten ? 'done' : 'skipped' };
}

/** A message must not make a worker read or write files of its own machine. */
function serviceLocation(text: string, parse: (text: string) => Location = parseLocation): Location {
  const location = parse(text);
  if (location.transport === 'docker' || location.transport === 's3') return location;
  throw new Failure(
    'INVALID',
    `${formatLocation(location)} is not a place that a worker reaches: name docker:// or s3://`,
  );
}

/** `to` with the name that the image has at `from`, where `to` does not have a name. */
async function withName(
  to: Location,
  from: Location,
  backends: Backends,
  options: OperationOptions,
): Promise<Location> {
  const named = withNameOf(to, from);
  if (named !== undefined || to.transport !== 'docker') return named ?? to;
  const { registry, repository } = to.reference;
  await using image = await openLocation(backends, from, 'source', options);
  const [tag] = image.root.tags;
  const name = tag === undefined ? { digest: image.root.descriptor.digest } : { tag };
  return { transport: 'docker', reference: { registry, repository, ...name } };
}

/** The HTTP status of an archive that another process wrote or removed since it was looked at. */
const CHANGED_MEANWHILE: ReadonlySet<unknown> = new Set([404, 412]);

/** UNAVAILABLE for a failure that another writer caused: the next attempt finds what that one left. */
function retryableIfChanged(error: unknown, destination: LeasedDestination): Failure {
  const failure = toFailure(error);
  const hasChanged = failure.code === 'CONFLICT' && CHANGED_MEANWHILE.has(failure.context.status);
  if (failure.retryable || !(destination.signal.aborted || hasChanged)) return failure;
  return new Failure('UNAVAILABLE', failure.message, { cause: error, context: failure.context });
}

/** A rule has no flag to force: names the command that replaces what is at an archive's key. */
function namingForce(failure: Failure, { rule, from }: CopyJob | RestoreJob, location: Location): Failure {
  const { code, message, context } = failure;
  if (rule === undefined || context['needsForce'] !== true) return failure;
  const command = `transship enqueue --force ${from} ${formatLocation(location)}`;
  return new Failure(code, `${message}; for rule ${rule}, run \`${command}\` once`, { cause: failure, context });
}

/** The destination of a job about many images. INVALID for a store that no worker reaches. */
function manyImagesAt(job: BackupStoreJob | SnapshotJob): JobDestination {
  const key = job.kind === 'snapshot' ? snapshotFor(job) : storedFor(job);
  const { registry, repository } = parseImagePattern(patternOf(job));
  const place = job.kind === 'snapshot' ? job.to : parseStore(job.to).slice('store:'.length);
  return { key, location: { transport: 'store', place, image: { registry, repository } } };
}
