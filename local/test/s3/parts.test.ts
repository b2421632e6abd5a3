import {
  GetObjectAttributesCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  PutObjectCommand,
  type ListMultipartUploadsCommandOutput,
} from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'vitest';
import { BUCKET, refusal, type OpenS3 } from '../../../test/support/local-s3.ts';
import { bytesOf, files, openSmall, part, PART, Uploading } from './uploading.ts';

describe('one part of an object', () => {
  test('is read by its number, and the answer counts the parts', async () => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k');
    const parts = [await upload.part(1, part(1)), await upload.part(2, part(2, 77))];
    await upload.complete(parts);
    const at = { Bucket: BUCKET, Key: 'k' };
    const get = new GetObjectCommand({ ...at, PartNumber: 2, ChecksumMode: 'ENABLED' });
    const got = await open.client.send(get);
    assert.deepEqual([got.PartsCount, got.ContentRange], [2, `bytes ${PART}-${PART + 76}/${PART + 77}`]);
    assert.equal(got.ChecksumCRC32, parts[1]?.ChecksumCRC32);
    assert.ok(Buffer.from((await got.Body?.transformToByteArray()) ?? []).equals(part(2, 77)));
    const head = await open.client.send(new HeadObjectCommand({ ...at, PartNumber: 1 }));
    assert.deepEqual([head.PartsCount, head.ContentLength], [2, PART]);
    assert.equal(await refusal(bytesOf(open, 'k', { PartNumber: 3 })), '416 InvalidPartNumber');
    assert.equal(await refusal(bytesOf(open, 'k', { PartNumber: 1, Range: 'bytes=0-1' })), '400 InvalidRequest');
  });

  test('is the whole object for an object that was put in one piece', async () => {
    await using open = await openSmall();
    await open.client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'k', Body: 'whole' }));
    const got = await open.client.send(new GetObjectCommand({ Bucket: BUCKET, Key: 'k', PartNumber: 1 }));
    assert.deepEqual([await got.Body?.transformToString(), got.PartsCount], ['whole', undefined]);
  });

  test('has no list in the attributes where the checksum is of the full object', async () => {
    await using open = await openSmall();
    const o = { ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT' };
    const upload = await Uploading.begin(open, 'k', o);
    await upload.complete([await upload.part(1, part(1)), await upload.part(2, part(2))]);
    const ask = { Bucket: BUCKET, Key: 'k', ObjectAttributes: ['ObjectParts' as const] };
    const { ObjectParts } = await open.client.send(new GetObjectAttributesCommand(ask));
    assert.deepEqual([ObjectParts?.TotalPartsCount, ObjectParts?.Parts], [2, undefined]);
  });

  test('is listed in the attributes page by page', async () => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k');
    const parts = [await upload.part(1, part(1)), await upload.part(2, part(2)), await upload.part(3, part(3))];
    await upload.complete(parts);
    const ask = { Bucket: BUCKET, Key: 'k', ObjectAttributes: ['ObjectParts' as const], MaxParts: 2 };
    const { ObjectParts: first } = await open.client.send(new GetObjectAttributesCommand(ask));
    assert.deepEqual([first?.IsTruncated, first?.NextPartNumberMarker, first?.Parts?.length], [true, '2', 2]);
    const { ObjectParts: rest } = await open.client.send(
      new GetObjectAttributesCommand({ ...ask, PartNumberMarker: '2' }),
    );
    assert.deepEqual([rest?.IsTruncated, rest?.Parts?.[0]?.ChecksumCRC32], [false, parts[2]?.ChecksumCRC32]);
  });
});

describe('a part copied from an object', () => {
  const source = `${BUCKET}/source`;
  const body = part(7, 3 * PART);
  const openWithSource = async (): Promise<OpenS3> => {
    const open = await openSmall();
    await open.client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'source', Body: body }));
    return open;
  };

  test('has the bytes of its source, whole or a range, beside parts that are sent', async () => {
    await using open = await openWithSource();
    const upload = await Uploading.begin(open, 'k');
    const parts = [
      await upload.part(1, part(1)),
      await upload.copy(2, source, { CopySourceRange: `bytes=10-${PART + 9}` }),
      await upload.copy(3, source),
    ];
    assert.equal(
      parts[1]?.ETag,
      `"${createHash('md5')
        .update(body.subarray(10, PART + 10))
        .digest('hex')}"`,
    );
    assert.ok(parts[1]?.ChecksumCRC32);
    await upload.complete(parts);
    const expected = Buffer.concat([part(1), body.subarray(10, PART + 10), body]);
    assert.ok((await bytesOf(open, 'k')).equals(expected));
    assert.ok(
      (await bytesOf(open, 'k', { Range: `bytes=${PART}-${PART + 20}` })).equals(expected.subarray(PART, PART + 21)),
    );
    assert.equal(await files(open), 2);
  });

  test('may span the parts its source was made of', async () => {
    await using open = await openSmall();
    const first = await Uploading.begin(open, 'source');
    await first.complete([await first.part(1, part(1)), await first.part(2, part(2)), await first.part(3, part(3))]);
    const whole = Buffer.concat([part(1), part(2), part(3)]);
    const upload = await Uploading.begin(open, 'k');
    const copied = await upload.copy(1, source, { CopySourceRange: `bytes=100-${2 * PART + 50}` });
    await upload.complete([copied]);
    assert.ok((await bytesOf(open, 'k')).equals(whole.subarray(100, 2 * PART + 51)));
  });

  test('refuses ranges beyond the end, without an end, and of small sources', async () => {
    await using open = await openWithSource();
    await open.client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'small', Body: part(1) }));
    const upload = await Uploading.begin(open, 'k');
    const copy = (from: string, CopySourceRange: string): Promise<string> =>
      refusal(upload.copy(1, `${BUCKET}/${from}`, { CopySourceRange }));
    assert.equal(await copy('source', `bytes=0-${3 * PART}`), '400 InvalidArgument');
    assert.equal(await copy('source', 'bytes=5-'), '400 InvalidArgument');
    assert.equal(await copy('source', 'bytes=9-5'), '400 InvalidArgument');
    assert.equal(await copy('small', 'bytes=0-9'), '400 InvalidRequest');
  });

  test('has conditions, and errors for what is missing', async () => {
    await using open = await openWithSource();
    const upload = await Uploading.begin(open, 'k');
    const o = { CopySourceIfMatch: '"other"' };
    assert.equal(await refusal(upload.copy(1, source, o)), '412 PreconditionFailed');
    assert.equal(await refusal(upload.copy(1, `${BUCKET}/none`)), '404 NoSuchKey');
    await upload.abort();
    assert.equal(await refusal(upload.copy(1, source)), '404 NoSuchUpload');
  });
});

describe('lists', () => {
  test('of parts come in pages, with sizes and checksums', async () => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k');
    for (const n of [5, 1, 3, 4, 2]) await upload.part(n, part(n, 100 + n));
    const at = { Bucket: BUCKET, Key: 'k', UploadId: upload.id, MaxParts: 2 };
    const numbers: number[] = [];
    let marker: string | undefined;
    let pages = 0;
    do {
      const page = await open.client.send(new ListPartsCommand({ ...at, PartNumberMarker: marker }));
      assert.deepEqual([page.ChecksumAlgorithm, page.ChecksumType], ['CRC32', 'COMPOSITE']);
      for (const { PartNumber = 0, Size, ETag, ChecksumCRC32, LastModified } of page.Parts ?? []) {
        numbers.push(PartNumber);
        assert.equal(Size, 100 + PartNumber);
        assert.equal(
          ETag,
          `"${createHash('md5')
            .update(part(PartNumber, 100 + PartNumber))
            .digest('hex')}"`,
        );
        assert.ok(ChecksumCRC32 && LastModified);
      }
      marker = page.IsTruncated === true ? page.NextPartNumberMarker : undefined;
      pages++;
    } while (marker !== undefined);
    assert.deepEqual([numbers, pages], [[1, 2, 3, 4, 5], 3]);
  });

  test('of uploads come in pages, by prefix and delimiter, oldest of a key first', async () => {
    await using open = await openSmall();
    const begun: [string, string][] = [];
    for (const key of ['b/2', 'a/1', 'b/1', 'b/1', 'b/1', 'c'])
      begun.push([key, (await Uploading.begin(open, key)).id]);
    const ofKey = (key: string): [string, string][] => begun.filter(([its]) => its === key);
    const all = [...ofKey('a/1'), ...ofKey('b/1'), ...ofKey('b/2'), ...ofKey('c')];
    const listed: [string, string][] = [];
    let markers: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } | undefined = {};
    while (markers !== undefined) {
      const page: ListMultipartUploadsCommandOutput = await open.client.send(
        new ListMultipartUploadsCommand({ Bucket: BUCKET, MaxUploads: 2, ...markers }),
      );
      for (const { Key = '', UploadId = '' } of page.Uploads ?? []) listed.push([Key, UploadId]);
      const { NextKeyMarker, NextUploadIdMarker } = page;
      markers =
        page.IsTruncated === true ? { KeyMarker: NextKeyMarker, UploadIdMarker: NextUploadIdMarker } : undefined;
    }
    assert.deepEqual(listed, all);
    const under = await open.client.send(new ListMultipartUploadsCommand({ Bucket: BUCKET, Prefix: 'b/' }));
    assert.equal(under.Uploads?.length, 4);
    const folders = await open.client.send(new ListMultipartUploadsCommand({ Bucket: BUCKET, Delimiter: '/' }));
    assert.deepEqual(folders.CommonPrefixes?.map(({ Prefix }) => Prefix), ['a/', 'b/']); // prettier-ignore
    assert.deepEqual(folders.Uploads?.map(({ Key }) => Key), ['c']); // prettier-ignore
    const after = await open.client.send(new ListMultipartUploadsCommand({ Bucket: BUCKET, KeyMarker: 'b/1' }));
    assert.deepEqual(after.Uploads?.map(({ Key }) => Key), ['b/2', 'c']); // prettier-ignore
  });
});
