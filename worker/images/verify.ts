import { formatImageFilters } from '../oci/image-filter.ts';
import { parseLocation } from '../oci/location.ts';
import { parsePlace, type Place } from '../oci/place.ts';
import { Failure } from '../util/failure.ts';
import { Limit } from '../util/limit.ts';
import type { Backends, OperationOptions } from './backends.ts';
import type { Difference } from './compare-entries.ts';
import { diffPlaces } from './diff-places.ts';
import { SeenBlobs } from './seen-blobs.ts';
import { verifyArchives } from './verify-archives.ts';
import { verifyImage, type Depth, type Verifying, type VerifyRequest, type VerifyResult } from './verify-image.ts';
import type { Finding, PlaceRequest, PlaceResult } from './verify-result.ts';
import { verifyRegistry } from './verify-registry.ts';
import { verifyStore } from './verify-store.ts';

export type { VerifyRequest, VerifyResult } from './verify-image.ts';

const DEFAULT_CONCURRENCY = 4;

/** The depth where none is asked for: archives are read whole, registries and stores asked. */
function defaultDepth(kind: Place['kind']): Depth {
  return kind === 'archives' ? 'bytes' : 'blobs';
}

/**
 * Verifies one image, or every archive below a prefix: a result for each. Faults are results, not failures: a Failure means that an image could not
 * be verified.
 */
export async function verify(
  { at, ...request }: VerifyRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<readonly VerifyResult[]> {
  if (isPrefix(at)) {
    const { depth, against, onManifests } = request;
    if (against !== undefined)
      throw new Failure(
        'INVALID',
        `${at} is a prefix of archives, and ${against} one image: compare places, or one archive`,
      );
    return (await verifyPlace({ place: parsePlace(at), depth, onManifests }, backends, options)).images;
  }
  const location = parseLocation(at);
  const depth = request.depth ?? (location.transport === 'docker' ? 'blobs' : 'bytes');
  return [await verifyImage(location, verifyingOf(depth, backends, options), request)];
}

/** Whether `at` is a prefix of archives, not an image. */
function isPrefix(at: string): boolean {
  return /^(?:s3:\/\/[^/]+|.*\/)$/.test(at) && !at.startsWith('docker://') && !at.startsWith('store:');
}

/**
 * Verifies a place of many images: a registry or a part of it, archives, or a store. What is not as it should be are findings, not failures: a
 * Failure means that the place could not be looked at. INVALID for choices that its kind does not have.
 */
export async function verifyPlace(
  request: PlaceRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<PlaceResult> {
  const { place, against, only, snapshot, asOfMs } = request;
  const verifying = verifyingOf(request.depth ?? defaultDepth(place.kind), backends, options);
  const looked = await verifyKind(request, verifying);
  // what could not be asked was not verified
  const result = looked.findings.some(({ kind }) => kind === 'unread') ? { ...looked, complete: false } : looked;
  const { names, findings } = result;
  const isNothing = names.of === 0 || (place.kind === 'archives' && names.checked === 0);
  if (only !== undefined && isNothing && findings.length === 0)
    throw new Failure(
      'NOT_FOUND',
      `${formatImageFilters(only)} matches nothing in ${place.text}: nothing was verified`,
    );
  if (against === undefined) return result;
  const diff = await diffPlaces({ a: against, b: { place, snapshot, asOfMs }, only }, backends, options);
  return {
    ...result,
    findings: [...diff.differences.map(findingOf), ...result.findings],
    unchecked: [...result.unchecked, ...diff.unchecked],
    complete: result.complete && diff.unchecked.length === 0,
  };
}

async function verifyKind(request: PlaceRequest, verifying: Verifying): Promise<PlaceResult> {
  const { place } = request;
  switch (place.kind) {
    case 'registry':
      return verifyRegistry(place, request, verifying);
    case 'archives':
      return verifyArchives(place, request, verifying);
    case 'store':
      return verifyStore(place, request, verifying);
    default:
      return place satisfies never;
  }
}

function findingOf({ kind, repository, tag, digest, otherDigest, where, otherWhere }: Difference): Finding {
  const name = tag === undefined ? `${repository}@${digest ?? otherDigest ?? ''}` : `${repository}:${tag}`;
  const at = otherWhere ?? name;
  if (kind === 'missing') return { kind, at, message: `it is missing, and ${where} has it: ${digest}` };
  if (kind === 'extra')
    return { kind, at, message: `it is ${otherDigest}, and the place that it is compared with does not have ${name}` };
  return { kind: 'moved', at, message: `it is ${otherDigest}, and ${where} is ${digest}` };
}

function verifyingOf(depth: Depth, backends: Backends, options: OperationOptions): Verifying {
  const limit = new Limit(options.concurrency ?? DEFAULT_CONCURRENCY);
  return { depth, backends, options, limit, seen: new SeenBlobs() };
}
