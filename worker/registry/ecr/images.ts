import type * as Sdk from '@aws-sdk/client-ecr';
import { parseDigest, type Digest } from '../../oci/digest.ts';
import type { Abortable } from '../../util/abort.ts';
import { isFailure } from '../../util/failure.ts';
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
    status: status === 'ARCHIVED' || status === 'ACTIVATING' ? status : 'ACTIVE',
    subject: subject === undefined ? undefined : parseDigest(subject),
  };
}
