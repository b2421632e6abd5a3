import { ListingDigest, type Listed } from '../artifacts/listing.ts';
import { LATEST } from '../artifacts/snapshot.ts';
import type { Source } from '../content/content.ts';
import type { Digest } from '../oci/digest.ts';
import { ecrHost } from '../oci/ecr-host.ts';
import { formatObjectPlace, type ObjectPlace } from '../oci/object-place.ts';
import { formatRepository, type Repository } from '../oci/reference.ts';
import type { Abortable } from '../util/abort.ts';
import { describeFailure, Failure, ifFound, isFailure, onSide } from '../util/failure.ts';
import type { Backends, OperationOptions, RepositoryOptions } from './backends.ts';
import { listedIn, openPlace, type OpenedPlace } from './object-places.ts';
import { openSnapshot, type OpenedSnapshot } from './open-snapshot.ts';
import type { PublishResult } from './publish-result.ts';
import { namedSnapshot, PublishRun } from './publish-run.ts';

export interface PublishRequest extends RepositoryOptions {
  readonly from: ObjectPlace;
  readonly to: Repository;
  /** Reports what would be done; reads no object and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
  /** Also publishes where the last snapshot is one of another place. Default false: CONFLICT. */
  readonly force?: boolean | undefined;
  /**
   * `listing` of the last run that ended without failures and whose snapshot is known to be still there. Where the listing is the same, no request is
   * sent to the registry. Absent: the registry's `latest` shows what the last run saw.
   */
  readonly lastListing?: Digest | undefined;
}

/**
 * Makes the repository hold every object of `from` as an artifact, and a snapshot that lists them, tagged `latest` and `snapshot-<UTC>`.
 * Idempotent: an object that is listed as the last snapshot has it is not read, bytes that are there are not sent, and no snapshot is written
 * where nothing changed. A failed object is reported (`object-failed`) and counted, and the others go on: what the last snapshot had for it
 * stays in the new one. Throws where the listing or the snapshot itself fails, or the registry fails for all: NOT_FOUND where there is no object
 * and no snapshot, CONFLICT where `latest` is something else or a snapshot of another place, INVALID where it is of another version.
 */
export async function publish(
  request: PublishRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<PublishResult> {
  const place = openPlace(request.from, backends);
  const names = { from: formatObjectPlace(request.from), to: formatRepository(request.to) };
  const listing = await readListing(place, options);
  const unchanged = {
    ...names,
    outcome: 'unchanged',
    listing: listing.digest,
    objects: { published: 0, unchanged: listing.count, removed: 0, failed: 0 },
    bytes: listing.bytes,
    bytesSent: 0,
    failures: [],
  } as const;
  if (request.lastListing === listing.digest) return unchanged;
  const repository = backends.registry(request.to.registry, 'target').repository(request.to.repository, request);
  const last = await onSide('target', lastSnapshot(repository, request, options));
  if (last === undefined && listing.count === 0)
    throw new Failure('NOT_FOUND', `publish ${names.from}: there is no object below it: check the name`, {
      context: { side: 'source' },
    });
  const isOfPlace = last !== undefined && last.snapshot.source === place.name;
  if (last !== undefined && !isOfPlace && request.force !== true) throw heldByAnother(names, last);
  if (isOfPlace && last.snapshot.listing === listing.digest && last.snapshot.failed === 0)
    return { ...unchanged, snapshot: namedSnapshot(last) };
  const run = async (before: OpenedSnapshot | undefined): Promise<PublishResult> => {
    const maxBytes = maxLayerBytes(request.to.registry);
    const session = new PublishRun({ place, repository, last, before, maxBytes, dryRun: request.dryRun, options });
    return { ...names, ...(await session.publish(listing.kept ?? listedIn(place, options))) };
  };
  try {
    return await run(isOfPlace ? last : undefined);
  } catch (error) {
    if (!isOfPlace || !isOfSnapshot(error)) throw error;
    const message = `${describeFailure(error)}; the registry does not have all that the last snapshot names: every object is looked at again`;
    options.report?.({ type: 'warning', message });
    return run(undefined);
  }
}

/** Whether the last snapshot is to blame: what it names is gone, or is not what it should be. */
function isOfSnapshot(error: unknown): error is Failure {
  if (!isFailure(error) || error.context.side !== 'target') return false;
  return error.code === 'NOT_FOUND' || error.context['isBrokenSnapshot'] === true;
}

/**
 * `PublishResult.listing` of this moment, by the pages of the list alone: equal to that of the last run where nothing changed. Failures carry
 * `source`; UNSUPPORTED where the store does not list keys in order.
 */
export async function listingOf(from: ObjectPlace, backends: Backends, options: Abortable): Promise<Digest> {
  const listing = new ListingDigest();
  for await (const object of listedIn(openPlace(from, backends), options)) listing.add(object);
  return listing.digest();
}

/** Listings up to this length are kept in memory; longer ones are listed once more where something changed. */
const KEPT_LISTING = 20_000;

interface Listing {
  readonly digest: Digest;
  readonly count: number;
  readonly bytes: number;
  readonly kept: readonly Listed[] | undefined;
}

async function readListing(place: OpenedPlace, options: OperationOptions): Promise<Listing> {
  const digest = new ListingDigest();
  let kept: Listed[] | undefined = [];
  for await (const object of listedIn(place, options)) {
    digest.add(object);
    if (digest.count > KEPT_LISTING) kept = undefined;
    kept?.push(object);
  }
  return { digest: digest.digest(), count: digest.count, bytes: digest.bytes, kept };
}

/** What `latest` stands for; undefined where it does not exist. CONFLICT where it is not a snapshot, INVALID for one of another version. */
async function lastSnapshot(
  repository: Source,
  { to }: PublishRequest,
  options: OperationOptions,
): Promise<OpenedSnapshot | undefined> {
  const descriptor = await ifFound(repository.resolve(LATEST, options));
  if (descriptor === undefined) return undefined;
  const opened = await openSnapshot(repository, descriptor, options);
  if (opened !== undefined) return opened;
  throw new Failure(
    'CONFLICT',
    `publish to ${formatRepository(to)}: its tag ${LATEST} stands for something else than a snapshot: publish to a repository of its own`,
  );
}

function heldByAnother(names: { readonly from: string; readonly to: string }, { snapshot }: OpenedSnapshot): Failure {
  return new Failure(
    'CONFLICT',
    `publish ${names.from}: ${names.to} holds snapshots of ${snapshot.source}: publish to a repository of its own, or pass --force where the objects were moved`,
    { context: { side: 'target' } },
  );
}

const MIB = 1024 * 1024;

/** The largest layer of ECR: https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html */
function maxLayerBytes(registry: string): number | undefined {
  if (ecrHost(registry) !== undefined) return 52_000 * MIB;
  return registry === 'public.ecr.aws' ? 10_000 * MIB : undefined;
}
