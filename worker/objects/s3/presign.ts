import { GetObjectCommand } from '@aws-sdk/client-s3';
import type { Abortable } from '../../util/abort.ts';
import type { Bucket } from './client.ts';

/** As `ObjectStore.presigned`. https://docs.aws.amazon.com/AmazonS3/latest/userguide/ShareObjectPreSignedURL.html */
export async function presignedUrl(
  bucket: Bucket,
  key: string,
  { seconds, signal }: Abortable & { readonly seconds: number },
): Promise<string> {
  // only `serve --redirect` needs it, and loading it takes time
  const { getSignedUrl } = await import('@aws-sdk/s3-request-presigner');
  return bucket.call(
    { doing: 'presign a URL of', key, action: 's3:GetObject' },
    async (client) => getSignedUrl(client, new GetObjectCommand(bucket.object(key)), { expiresIn: seconds }),
    { signal },
  );
}
