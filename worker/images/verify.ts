import type { Target } from '../content/content.ts';
import { blobsOf, foreignOf, unseenOf, walk, type Graph, type Root } from '../content/graph.ts';
import { copy } from '../copy/copy.ts';
import { discard } from '../content/discard.ts';
import type { Digest } from '../oci/digest.ts';
import { isManifestType, type Descriptor } from '../oci/manifest.ts';
import { append } from '../util/lists.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure, isFailure, onSide, toFailure, type Failure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { openLocation } from './open-location.ts';
import { formatLocation, parseLocation, type Location } from '../oci/location.ts';
import { archivesOf } from './restore.ts';

export interface VerifyRequest {
  /** An image anywhere, or a prefix of archives ending in `/`. */
  readonly at: string;
  /** Reads every byte of a registry's blobs too, instead of asking whether they are there. Archives are always read whole. Default false. */
  readonly deep?: boolean | undefined;
  /** The image that it must be equal to, with everything that refers to it: for instance the source of a mirror. */
  readonly against?: string | undefined;
}

/** What `verify` found out about one image. */
export interface VerifyResult {
  readonly at: string;
  /** The digest it stands for; absent where not even that could be found out. */
  readonly digest?: string;
  readonly manifests: number;
  readonly blobs: number;
  /** Bytes that were read and hashed. */
  readonly hashedBytes: number;
  /** Whether every byte was checked: nothing is `unchecked`. */
  readonly complete: boolean;
  /** What was not checked, a sentence each. Foreign layers are in `foreign` instead. */
  readonly unchecked: readonly string[];
  /** Foreign layers that are kept elsewhere and were not verified. */
  readonly foreign: readonly Digest[];
  /** What is wrong, a sentence each; empty when all is well. */
  readonly faults: readonly string[];
}

/**
 * Proves that images are whole: every manifest is read and hashed, every blob is there (registries) or read and hashed (archives, and
 * registries with `deep`), and every other byte of an archive is as it was planned. Faults are results, not failures: a Failure means that
 * an image could not be verified.
 */
export async function verify(
  request: VerifyRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<readonly VerifyResult[]> {
  const prefix = /^(?:s3:\/\/[^/]+|.*\/)$/.test(request.at) && !request.at.startsWith('docker://');
  const locations = prefix
    ? (await archivesOf(request.at, backends, options)).archives.map((found) => found.location)
    : [parseLocation(request.at)];
  const results: VerifyResult[] = [];
  for (const location of locations) results.push(await verifyOne(location, request, backends, options));
  return results;
}

async function verifyOne(
  location: Location,
  request: VerifyRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<VerifyResult> {
  const at = formatLocation(location);
  const faults: string[] = [];
  let digest: string | undefined;
  const unchecked: string[] = [];
  let foreign: readonly Descriptor[] = [];
  const counted = { manifests: 0, blobs: 0, hashedBytes: 0 };
  try {
    await using image = await openLocation(backends, location, 'source', options);
    digest = image.root.descriptor.digest;
    const graph = await walk(image.source, [image.root], options);
    counted.manifests = graph.manifests.size;
    counted.hashedBytes = [...graph.manifests.values()].reduce((sum, node) => sum + node.bytes.byteLength, 0);
    const blobs = blobsOf(graph);
    counted.blobs = blobs.length;
    append(faults, unreadableOf(graph));
    append(unchecked, unseenOf(graph));
    if (location.transport === 'docker' && request.deep !== true) {
      unchecked.push('its blobs are there; pass --deep to read them');
      append(faults, await missingOf(blobs, location, backends, options));
    } else {
      await copy(image.source, collecting(faults, counted, options), [image.root], { ...options, graph, strict: true });
    }
    if (image.compare !== undefined) {
      const compared = await image.compare(options);
      if (!compared.complete) unchecked.push('another tool made it: its tar headers and padding were not compared');
      append(faults, compared.faults);
    }
    foreign = foreignOf(graph);
    warnOfForeign(foreign, options);
    if (request.against !== undefined) {
      const compared = await drift(image.root, graph, request.against, backends, options);
      append(faults, compared.faults);
      append(unchecked, compared.unchecked);
    }
  } catch (error) {
    checkAborted(options);
    if (!isFault(error, location, digest !== undefined)) throw error;
    const { context, message } = toFailure(error);
    // that what is verified is the source goes without saying; what it is compared with is the target
    faults.push(context.side === 'source' ? message : describeFailure(error));
  }
  return {
    at,
    ...(digest === undefined ? {} : { digest }),
    ...counted,
    complete: unchecked.length === 0,
    unchecked,
    foreign: foreign.map((descriptor) => descriptor.digest),
    faults,
  };
}

function warnOfForeign(foreign: readonly Descriptor[], { report }: OperationOptions): void {
  for (const { digest, urls } of foreign) {
    const message = `${digest} is kept elsewhere (${urls?.join(', ') ?? 'no address given'}) and was not verified`;
    report?.({ type: 'warning', message });
  }
}

/** What refers to the image and cannot be read, a sentence each. */
function unreadableOf({ unreadable }: Graph): readonly string[] {
  return unreadable.map(({ failure }) => `what refers to the image cannot be read: ${failure.message}`);
}

/** The blobs that the registry does not have, a sentence each. */
async function missingOf(
  blobs: readonly Descriptor[],
  { reference: { registry, repository } }: Extract<Location, { transport: 'docker' }>,
  backends: Backends,
  options: OperationOptions,
): Promise<readonly string[]> {
  const content = backends.registry(registry, 'source').repository(repository);
  const faults: string[] = [];
  await forEachOf(
    blobs,
    options.concurrency ?? 8,
    async (descriptor, { signal }) => {
      if (!(await content.has(descriptor, { signal })))
        faults.push(`${descriptor.digest} (${descriptor.size} bytes) is missing`);
    },
    options,
  );
  return faults;
}

/** What is wrong with the image is a result, also an archive that cannot be opened; what keeps us from looking is not. */
function isFault(error: unknown, location: Location, isOpened: boolean): boolean {
  if (isOpened && isFailure(error, 'CORRUPT', 'INVALID', 'NOT_FOUND')) return true;
  return location.transport !== 'docker' && isFailure(error, 'CORRUPT', 'INVALID', 'UNSUPPORTED') && !wasRefused(error);
}

/** Whether a server said no, which says nothing about what it holds. */
function wasRefused(error: Failure): boolean {
  return error.context.status !== undefined;
}

/** As `discard`, but a blob that is wrong is noted and the others are still read. */
function collecting(faults: string[], counted: { hashedBytes: number }, options: OperationOptions): Target {
  return {
    ...discard,
    put: async (descriptor, open, taskOptions) => {
      try {
        await discard.put(descriptor, open, taskOptions);
        // manifests were counted when they were read
        if (!isManifestType(descriptor.mediaType)) counted.hashedBytes += descriptor.size;
      } catch (error) {
        checkAborted(options);
        if (!isFailure(error, 'CORRUPT', 'NOT_FOUND', 'INVALID')) throw error;
        faults.push(error.message);
      }
    },
  };
}

/**
 * How `root` differs from the image at `against`, a sentence each. What refers to the image there has to be here too. More may refer to it
 * here: ECR's managed signing adds signatures of its own.
 */
async function drift(
  root: Root,
  graph: Graph,
  against: string,
  backends: Backends,
  options: OperationOptions,
): Promise<Pick<VerifyResult, 'faults' | 'unchecked'>> {
  const location = parseLocation(against);
  const name = formatLocation(location);
  try {
    await using other = await openLocation(backends, location, 'target', options);
    const theirs = other.root.descriptor.digest;
    if (theirs !== root.descriptor.digest)
      return { faults: [`${name} is ${theirs}, not ${root.descriptor.digest}`], unchecked: [] };
    const known = await onSide('target', walk(other.source, [other.root], options));
    const unchecked = unseenOf(known).map((why) => `of ${name}, with which it is compared, ${why}`);
    const tags = new Set(graph.referrers.flatMap((referrer) => referrer.tags));
    const missing = known.referrers.filter(
      (referrer) => !graph.manifests.has(referrer.descriptor.digest) || !referrer.tags.every((tag) => tags.has(tag)),
    );
    const [first] = missing;
    if (first === undefined) return { faults: [], unchecked };
    const few = missing.length === 1 ? '1 manifest that refers' : `${missing.length} manifests that refer`;
    const example = [first.descriptor.digest, ...first.tags].join(' with the tag ');
    const verb = missing.length === 1 ? 'is' : 'are';
    return { faults: [`${few} to the image at ${name} ${verb} missing, such as ${example}`], unchecked };
  } catch (error) {
    if (isFailure(error, 'NOT_FOUND')) return { faults: [describeFailure(error)], unchecked: [] };
    throw error;
  }
}
