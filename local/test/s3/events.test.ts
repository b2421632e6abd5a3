import {
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  PutBucketVersioningCommand,
  PutObjectTaggingCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { expect, test } from 'vitest';
import { BUCKET, openS3 } from '../../../test/support/local-s3.ts';
import { parseMessage } from '../../../worker/queue/job.ts';
import { put } from './objects.ts';

interface SentEvent {
  readonly 'detail-type': string;
  readonly detail: {
    readonly object: { readonly key: string; readonly size?: number };
    readonly 'deletion-type'?: string;
  };
}

test('sends an event of EventBridge for each object that is written or deleted, and for nothing else', async () => {
  const sent: string[] = [];
  await using open = await openS3({ onEvent: (event) => void sent.push(event), accountId: '111111111111' });
  const { client } = open;
  const take = (): readonly (readonly unknown[])[] =>
    sent.splice(0).map((text) => {
      const { 'detail-type': type, detail } = JSON.parse(text) as SentEvent;
      return [type, detail.object.key, detail.object.size, detail['deletion-type']];
    });

  await put(open, 'a b/ü+%20', 'text');
  expect(parseMessage(sent[0] ?? '')).toMatchObject({ type: 'object', event: { bucket: BUCKET, key: 'a b/ü+%20' } });
  expect(take()).toEqual([['Object Created', 'a b/ü+%20', 4, undefined]]);
  await put(open, 'a', 'one');
  await put(open, 'a', 'other');
  expect(take()).toHaveLength(2);
  const tags = { TagSet: [{ Key: 'k', Value: 'v' }] };
  await client.send(new PutObjectTaggingCommand({ Bucket: BUCKET, Key: 'a', Tagging: tags }));
  await client.send(new CopyObjectCommand({ Bucket: BUCKET, Key: 'b', CopySource: `${BUCKET}/a` }));
  expect(take()).toEqual([['Object Created', 'b', 5, undefined]]);

  const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket: BUCKET, Key: 'c' }));
  const part = { Bucket: BUCKET, Key: 'c', UploadId, PartNumber: 1 };
  const { ETag } = await client.send(new UploadPartCommand({ ...part, Body: 'part' }));
  expect(take()).toEqual([]);
  const MultipartUpload = { Parts: [{ PartNumber: 1, ETag }] };
  await client.send(new CompleteMultipartUploadCommand({ Bucket: BUCKET, Key: 'c', UploadId, MultipartUpload }));
  expect(take()).toEqual([['Object Created', 'c', 4, undefined]]);

  await client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: 'a' }));
  expect(take()).toEqual([['Object Deleted', 'a', undefined, 'Permanently Deleted']]);
  const VersioningConfiguration = { Status: 'Enabled' } as const;
  await client.send(new PutBucketVersioningCommand({ Bucket: BUCKET, VersioningConfiguration }));
  await client.send(new DeleteObjectsCommand({ Bucket: BUCKET, Delete: { Objects: [{ Key: 'b' }, { Key: 'c' }] } }));
  expect(take()).toEqual(['b', 'c'].map((key) => ['Object Deleted', key, undefined, 'Delete Marker Created']));
});
