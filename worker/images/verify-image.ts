import type { Target } from '../content/content.ts';
import { blobsOf, foreignOf, unseenOf, walk, type Graph } from '../content/graph.ts';
import { copy } from '../copy/copy.ts';
import { discard } from '../content/discard.ts';
import type { Digest } from '../oci/digest.ts';
import { isManifestType, type Descriptor } from '../oci/manifest.ts';
import { append } from '../util/lists.ts';
import { checkAborted } from '../util/abort.ts';
import { reportAbout } from '../util/events.ts';
import { describeFailure, isFailure, toFailure, type Failure } from '../util/failure.ts';
import { forEachOf, type Limit } from '../util/limit.ts';
import type { Repository } from '../oci/reference.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { drift } from './image-drift.ts';
import { openLocation } from './open-location.ts';
import type { OpenedImage } from './opened-image.ts';
import type { SeenBlobs } from './seen-blobs.ts';
import { formatLocation, type Location } from '../oci/location.ts';

/**
 * How deep: `tags`: every name is there and stands for its digest; `blobs`: every manifest is read and hashed, and every blob is there with its size;
 * `bytes`: every byte is read and hashed.
 */
export type Depth = 'tags' | 'blobs' | 'bytes';

export interface VerifyRequest {
  /** An image anywhere, or a prefix of archives ending in `/`. */
  readonly at: string;
  /** Default: `bytes`, and `blobs` of registries. */
  readonly depth?: Depth | undefined;
  /** The image that it must be equal to, with everything that refers to it: for instance the source of a mirror. */
  readonly against?: string | undefined;
  /** Gets the digests of all manifests of each image, also of what refers to it, once they have been read. */
  readonly onManifests?: ((digests: Iterable<Digest>) => void) | undefined;
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

/** What the verification of several images shares. */
export interface Verifying {
  readonly depth: Depth;
  readonly backends: Backends;
  readonly options: OperationOptions;
  readonly seen: SeenBlobs;
  /** Shared by all images: the blobs that are read or asked for at once. */
  readonly limit: Limit;
}

/** What one image is verified with. */
interface ImageChoices extends Pick<VerifyRequest, 'against' | 'onManifests'> {
  /** Opens the image where a location does not suffice: an older version of an object. */
  readonly open?: (() => Promise<OpenedImage>) | undefined;
}

/**
 * Proves that an image is whole: every manifest is read and hashed, every blob is there or, with depth `bytes`, read and hashed, and every other byte
 * of an archive is as it was planned. Faults are results, not failures: a Failure means that the image could not be verified.
 */
export async function verifyImage(
  location: Location,
  verifying: Verifying,
  { against, onManifests, open }: ImageChoices = {},
): Promise<VerifyResult> {
  const { depth, backends } = verifying;
  const options = {
    ...verifying.options,
    report: reportAbout(verifying.options.report, { image: formatLocation(location) }),
  };
  const looked = new LookedAt();
  try {
    await using image = await (open?.() ?? openLocation(backends, location, 'source', options));
    looked.digest = image.root.descriptor.digest;
    if (depth === 'tags') looked.unchecked.push('it is there; depth blobs and bytes look into it');
    else {
      const graph = await walk(image.source, [image.root], options);
      onManifests?.(graph.manifests.keys());
      looked.addManifests(graph);
      await lookAtBlobs({ image, graph, location }, looked, { ...verifying, options });
      warnOfForeign(looked.foreign, options);
      if (against !== undefined) looked.add(await drift(image.root, graph, against, backends, options));
    }
  } catch (error) {
    checkAborted(options);
    if (!isFault(error, location, looked.digest !== undefined)) throw error;
    const { context, message } = toFailure(error);
    // messages leave out that the verified image is the source; the one that it is compared with is the target
    looked.faults.push(context.side === 'source' ? message : describeFailure(error));
  }
  return looked.result(formatLocation(location));
}

/** What was found out about an image so far. */
class LookedAt {
  digest: Digest | undefined;
  manifests = 0;
  blobs = 0;
  hashedBytes = 0;
  foreign: readonly Descriptor[] = [];
  readonly faults: string[] = [];
  readonly unchecked: string[] = [];

  addManifests(graph: Graph): void {
    this.manifests = graph.manifests.size;
    this.blobs = blobsOf(graph).length;
    this.hashedBytes = [...graph.manifests.values()].reduce((sum, node) => sum + node.bytes.byteLength, 0);
    this.foreign = foreignOf(graph);
    this.add({ faults: unreadableOf(graph), unchecked: unseenOf(graph) });
  }

  add({ faults, unchecked }: Pick<VerifyResult, 'faults' | 'unchecked'>): void {
    append(this.faults, faults);
    append(this.unchecked, unchecked);
  }

  result(at: string): VerifyResult {
    const { digest, manifests, blobs, hashedBytes, faults, unchecked } = this;
    return {
      at,
      ...(digest === undefined ? {} : { digest }),
      manifests,
      blobs,
      hashedBytes,
      complete: unchecked.length === 0,
      unchecked,
      foreign: this.foreign.map((descriptor) => descriptor.digest),
      faults,
    };
  }
}

/** Reads blobs, or asks for them, and compares an archive with its plan. */
async function lookAtBlobs(
  { image, graph, location }: { readonly image: OpenedImage; readonly graph: Graph; readonly location: Location },
  looked: LookedAt,
  verifying: Verifying,
): Promise<void> {
  const { depth, options } = verifying;
  if (depth === 'blobs') {
    looked.unchecked.push('its blobs are there; depth bytes (--deep) reads them');
    if (location.transport === 'docker') {
      append(looked.faults, await missingOf(blobsOf(graph), location.reference, verifying));
      return;
    }
    // the size and the head of a planned archive show that every blob is where it should be, and whole
    if (image.layoutDigest !== undefined) return;
  }
  const target = collecting(looked, location, verifying);
  await copy(image.source, target, [image.root], { ...options, graph, strict: true });
  if (image.compare === undefined) return;
  const { complete, faults } = await image.compare(options);
  const unchecked = complete ? [] : ['another tool made it: its tar headers and padding were not compared'];
  looked.add({ faults, unchecked });
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
  { registry, repository }: Repository,
  verifying: Verifying,
): Promise<readonly string[]> {
  const { options } = verifying;
  const faults: string[] = [];
  await forEachOf(
    blobs,
    options.concurrency ?? 8,
    async (descriptor, { signal }) => {
      const fault = await presenceOf(descriptor, { registry, repository }, verifying, signal);
      if (fault !== undefined) faults.push(fault);
    },
    options,
  );
  return faults;
}

/** The fault that a repository does not have a blob. A repository is asked once. */
async function presenceOf(
  descriptor: Descriptor,
  { registry, repository }: Repository,
  { backends, seen, limit }: Verifying,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const content = backends.registry(registry, 'source').repository(repository);
  return seen.once(`${registry}/${repository}`, descriptor.digest, async () =>
    (await limit.run(async () => content.has(descriptor, { signal }), { signal }))
      ? undefined
      : `${descriptor.digest} (${descriptor.size} bytes) is missing`,
  );
}

/** What is wrong with the image is a result, also an archive that cannot be opened; what keeps us from looking is not. */
function isFault(error: unknown, location: Location, isOpened: boolean): boolean {
  if (isOpened && isFailure(error, 'CORRUPT', 'INVALID', 'NOT_FOUND')) return true;
  return location.transport !== 'docker' && isFailure(error, 'CORRUPT', 'INVALID', 'UNSUPPORTED') && !wasRefused(error);
}

/** Whether a server refused the request, which is not evidence about what it holds. */
function wasRefused(error: Failure): boolean {
  return error.context.status !== undefined;
}

/**
 * As `discard`, but a blob that is wrong is noted and the others are still read. What a registry has in several images is read once; of another
 * repository it is asked whether it is there.
 */
function collecting(looked: LookedAt, location: Location, verifying: Verifying): Target {
  const { options, seen, limit } = verifying;
  const { faults } = looked;
  const where = location.transport === 'docker' ? location.reference : undefined;
  return {
    ...discard,
    put: async (descriptor, open, taskOptions) => {
      const read = async (): Promise<string | undefined> => {
        try {
          await limit.run(async () => discard.put(descriptor, open, taskOptions), taskOptions);
          // manifests were counted when they were read
          if (!isManifestType(descriptor.mediaType)) looked.hashedBytes += descriptor.size;
          return undefined;
        } catch (error) {
          checkAborted(options);
          if (!isFailure(error, 'CORRUPT', 'NOT_FOUND', 'INVALID')) throw error;
          return error.message;
        }
      };
      const place = where === undefined ? undefined : `bytes of ${where.registry}`;
      // manifests of an archive or a folder are its own
      if (place === undefined || where === undefined || isManifestType(descriptor.mediaType)) {
        const fault = await read();
        if (fault !== undefined) faults.push(fault);
        return;
      }
      const isRead = seen.has(place, descriptor.digest);
      const fault =
        (await seen.once(place, descriptor.digest, read)) ??
        (isRead ? await presenceOf(descriptor, where, verifying, taskOptions?.signal) : undefined);
      if (fault !== undefined) faults.push(fault);
    },
  };
}
