import type * as Sdk from '@aws-sdk/client-ecr';
import { algorithmOf, digestOf, parseDigest, type Digest } from '../../oci/digest.ts';
import { MEDIA_TYPE } from '../../oci/manifest.ts';
import type { Abortable } from '../../util/abort.ts';
import { Failure, isFailure } from '../../util/failure.ts';
import { ACTIONS } from './actions.ts';
import type { EcrClient } from './client.ts';

/** One row of ECR's list of a repository: an image, a child of one, or what refers to one. */
export interface EcrImage {
  readonly digest: Digest;
  readonly tags: readonly string[];
  readonly mediaType: string | undefined;
  readonly artifactMediaType: string | undefined;
  /** Compressed bytes of its layers. */
  readonly sizeBytes: number | undefined;
  readonly pushedAt: Date | undefined;
  /** When it was last pulled, as ECR has recorded it: by the day, and moved by every process that reads its manifest. Absent: never. */
  readonly pulledAt: Date | undefined;
  /** An archived image is listed, but cannot be pulled. */
  readonly status: 'ACTIVE' | 'ARCHIVED' | 'ACTIVATING';
  readonly subject: Digest | undefined;
}

/** An image as calls name it. */
export type EcrImageId = Sdk.ImageIdentifier;

/** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html */
const PAGE = 1000;

/**
 * Everything in a repository, archived images too. Makes one call for a thousand images, and does not change their last pull times. NOT_FOUND
 * without the repository.
 */
export async function* listImages(client: EcrClient, repository: string, options: Abortable): AsyncIterable<EcrImage> {
  let nextToken: string | undefined;
  do {
    const page = await describeImages(client, repository, { maxResults: PAGE, nextToken }, options);
    for (const detail of page.imageDetails ?? []) yield imageOf(detail);
    ({ nextToken } = page);
  } while (nextToken !== undefined);
}

/** Whether an image that cannot be pulled is archived. False too where ECR cannot be asked. Fails only with ABORTED. */
export async function isArchived(
  client: EcrClient,
  repository: string,
  imageId: EcrImageId,
  options: Abortable,
): Promise<boolean> {
  try {
    const { imageDetails = [] } = await describeImages(client, repository, { imageIds: [imageId] }, options);
    return imageDetails.some(({ imageStatus }) => imageStatus === 'ARCHIVED' || imageStatus === 'ACTIVATING');
  } catch (error) {
    if (isFailure(error, 'ABORTED')) throw error;
    return false;
  }
}

/** DescribeImages takes a hundred. */
const STATUSES_PER_CALL = 100;

/** The statuses of these images; those that are gone are left out. One call for a hundred, and more where some are gone. */
export async function imageStatuses(
  client: EcrClient,
  repository: string,
  digests: readonly Digest[],
  options: Abortable,
): Promise<ReadonlyMap<Digest, EcrImage['status']>> {
  const found = new Map<Digest, EcrImage['status']>();
  const ask = async (some: readonly Digest[]): Promise<void> => {
    if (some.length === 0) return;
    const imageIds = some.map((imageDigest) => ({ imageDigest }));
    try {
      const { imageDetails = [] } = await describeImages(client, repository, { imageIds }, options);
      for (const { digest, status } of imageDetails.map(imageOf)) found.set(digest, status);
    } catch (error) {
      // one that is gone fails the call for all: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html
      if (!isFailure(error, 'NOT_FOUND')) throw error;
      const half = Math.floor(some.length / 2);
      if (half === 0) return;
      await ask(some.slice(0, half));
      await ask(some.slice(half));
    }
  };
  for (let at = 0; at < digests.length; at += STATUSES_PER_CALL) await ask(digests.slice(at, at + STATUSES_PER_CALL));
  return found;
}

/** A manifest as its registry has it. */
export interface StoredManifest {
  readonly digest: Digest;
  readonly bytes: Uint8Array;
}

/** BatchGetImage takes a hundred, of up to 4 MiB each: fewer, so that an answer stays in memory whatever they hold. */
const MANIFESTS_PER_CALL = 20;

/**
 * The manifests of these digests, verified; those that are gone or archived are left out. One call for twenty. ECR takes it for a pull of each:
 * it moves their last pull times, unless the caller is excluded from that.
 */
export async function* readManifests(
  client: EcrClient,
  repository: string,
  digests: readonly Digest[],
  options: Abortable,
): AsyncIterable<StoredManifest> {
  const what = `read manifests of ${client.host}/${repository}`;
  for (let at = 0; at < digests.length; at += MANIFESTS_PER_CALL) {
    const input = {
      ...client.idOf(repository),
      imageIds: digests.slice(at, at + MANIFESTS_PER_CALL).map((imageDigest) => ({ imageDigest })),
      // all that ECR stores, so that it translates none
      acceptedMediaTypes: [
        MEDIA_TYPE.ociIndex,
        MEDIA_TYPE.ociManifest,
        MEDIA_TYPE.dockerList,
        MEDIA_TYPE.dockerManifest,
      ],
    };
    const { images = [], failures = [] } = await client.call(
      what,
      ACTIONS['read-manifest'],
      options,
      async (ecr, sdkOptions) => ecr.batchGetImage(input, sdkOptions),
    );
    const refused = failures.find(({ failureCode }) => failureCode !== 'ImageNotFound');
    if (refused !== undefined)
      throw new Failure(
        'UNAVAILABLE',
        `${what}: ECR answered ${refused.failureCode} for ${refused.imageId?.imageDigest}: ${refused.failureReason}`,
      );
    for (const { imageId, imageManifest } of images) {
      const digest = parseDigest(imageId?.imageDigest);
      const bytes = Buffer.from(imageManifest ?? '');
      if (digestOf(bytes, algorithmOf(digest)) !== digest)
        throw new Failure('CORRUPT', `${what}: the manifest that ECR gave for ${digest} has another digest`);
      yield { digest, bytes };
    }
  }
}

async function describeImages(
  client: EcrClient,
  repository: string,
  input: Partial<Sdk.DescribeImagesCommandInput>,
  options: Abortable,
): Promise<Sdk.DescribeImagesCommandOutput> {
  return client.call(
    `list images of ${client.host}/${repository}`,
    'ecr:DescribeImages',
    options,
    async (ecr, sdkOptions) =>
      // by default archived images are left out, as if they had been deleted
      ecr.describeImages({ ...client.idOf(repository), filter: { imageStatus: 'ANY' }, ...input }, sdkOptions),
  );
}

function imageOf(detail: Sdk.ImageDetail): EcrImage {
  const { imageStatus: status, subjectManifestDigest: subject } = detail;
  return {
    digest: parseDigest(detail.imageDigest),
    tags: detail.imageTags ?? [],
    mediaType: detail.imageManifestMediaType,
    artifactMediaType: detail.artifactMediaType,
    sizeBytes: detail.imageSizeInBytes,
    pushedAt: detail.imagePushedAt,
    pulledAt: detail.lastRecordedPullTime,
    status: status === 'ARCHIVED' || status === 'ACTIVATING' ? status : 'ACTIVE',
    subject: subject === undefined ? undefined : parseDigest(subject),
  };
}
