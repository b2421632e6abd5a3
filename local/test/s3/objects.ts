import {
  GetObjectCommand,
  PutObjectCommand,
  type GetObjectCommandOutput,
  type PutObjectCommandInput,
} from '@aws-sdk/client-s3';
import { BUCKET, type OpenS3 } from '../../../test/support/local-s3.ts';

export async function put(
  { client }: OpenS3,
  Key: string,
  Body: NonNullable<PutObjectCommandInput['Body']>,
  o: object = {},
): Promise<string> {
  const { ETag } = await client.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body, ...o }));
  return ETag ?? '';
}

export async function get(
  { client }: OpenS3,
  key: string,
  o: object = {},
): Promise<GetObjectCommandOutput & { bytes: Buffer }> {
  const answer = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key, ...o }));
  return { ...answer, bytes: Buffer.from((await answer.Body?.transformToByteArray()) ?? []) };
}
