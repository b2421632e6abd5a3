import type { UpdateImageStorageClassCommandInput } from '@aws-sdk/client-ecr';
import type { Digest } from '../../oci/digest.ts';
import type { Abortable } from '../../util/abort.ts';
import { Failure, isFailure } from '../../util/failure.ts';
import type { EcrClient } from './client.ts';
import { imageStatuses, type EcrImage } from './images.ts';

/** ECR's storage classes: images in ARCHIVE cost less, and cannot be pulled. */
export type StorageClass = 'STANDARD' | 'ARCHIVE';

/**
 * Moves an image to a storage class. Returns its status: for STANDARD mostly `ACTIVATING`, for up to 20 minutes; `imageStatuses` shows when it is
 * `ACTIVE`. Idempotent. NOT_FOUND without the image; CONFLICT where ECR refuses, such as to archive an image that is still `ACTIVATING`.
 * https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_UpdateImageStorageClass.html
 */
export async function moveToStorageClass(
  client: EcrClient,
  repository: string,
  digest: Digest,
  to: StorageClass,
  options: Abortable,
): Promise<EcrImage['status']> {
  const what = `move ${client.host}/${repository}@${digest} to ${to}`;
  const input: UpdateImageStorageClassCommandInput = {
    ...client.idOf(repository),
    imageId: { imageDigest: digest },
    targetStorageClass: to,
  };
  try {
    const { imageStatus } = await client.call(what, 'ecr:UpdateImageStorageClass', options, async (ecr, sdkOptions) =>
      ecr.updateImageStorageClass(input, sdkOptions),
    );
    if (imageStatus === 'ARCHIVED' || imageStatus === 'ACTIVATING') return imageStatus;
    return 'ACTIVE';
  } catch (error) {
    if (!isFailure(error, 'INVALID')) throw error;
    // also for an image that is there already
    const status = (await imageStatuses(client, repository, [digest], options)).get(digest);
    if (status === undefined) throw error;
    if (to === 'ARCHIVE' ? status === 'ARCHIVED' : status !== 'ARCHIVED') return status;
    throw new Failure('CONFLICT', `${what}: it is ${status}: ${error.message}`, {
      cause: error,
      context: error.context,
    });
  }
}
