import {
  AbortMultipartUploadCommand,
  GetObjectAttributesCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectCommand,
  type ChecksumAlgorithm,
} from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { describe, test } from 'vitest';
import { createHasher } from '../../s3/checksum.ts';
import { BUCKET, openS3, refusal } from '../../../test/support/local-s3.ts';
import { bytesOf, files, openBare, openSmall, part, PART, UNDECLARED, Uploading } from './uploading.ts';

describe('an upload in parts', () => {
  test('joins parts sent at once and out of order, with the least size of S3', async () => {
    await using open = await openS3();
    const bodies = [1, 2, 3].map((n) => part(n, n === 3 ? 1000 : 5 * 1024 * 1024));
    const upload = await Uploading.begin(open, 'k');
    const parts = await Promise.all([3, 1, 2].map((n) => upload.part(n, bodies[n - 1] ?? part(0))));
    parts.sort((a, b) => (a.PartNumber ?? 0) - (b.PartNumber ?? 0));
    const done = await upload.complete(parts);
    const md5s = bodies.map((body) => createHash('md5').update(body).digest());
    const etag = `"${createHash('md5').update(Buffer.concat(md5s)).digest('hex')}-3"`;
    assert.equal(done.ETag, etag);
    assert.ok((await bytesOf(open, 'k')).equals(Buffer.concat(bodies)));
    const head = await open.client.send(new HeadObjectCommand({ Bucket: BUCKET, Key: 'k' }));
    assert.deepEqual([head.ETag, head.ContentLength], [etag, 10 * 1024 * 1024 + 1000]);
  });

  test('refuses a part under 5 MiB that is not the last', async () => {
    await using open = await openS3();
    const upload = await Uploading.begin(open, 'k');
    const parts = [await upload.part(1, part(1, 5 * 1024 * 1024 - 1)), await upload.part(2, part(2))];
    assert.equal(await refusal(upload.complete(parts)), '400 EntityTooSmall');
    parts[0] = await upload.part(1, part(1, 5 * 1024 * 1024));
    await upload.complete(parts);
  });

  test('takes a part that is streamed', async () => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k');
    const body = part(1, 100_000);
    const streamed = await upload.part(1, Readable.from([body]), { ContentLength: body.length });
    assert.ok(streamed.ChecksumCRC32);
    await upload.complete([streamed]);
    assert.ok((await bytesOf(open, 'k')).equals(body));
  });

  test('keeps the last body sent for each part number', async () => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k');
    const before = await upload.part(1, part(1));
    const after = await upload.part(1, part(2));
    assert.equal(await refusal(upload.complete([before])), '400 InvalidPart');
    await upload.complete([after]);
    assert.ok((await bytesOf(open, 'k')).equals(part(2)));
    assert.equal(await files(open), 1);
  });

  test('may leave parts out, which are dropped', async () => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k');
    const parts = [await upload.part(1, part(1)), await upload.part(2, part(2)), await upload.part(3, part(3))];
    await upload.complete(parts.slice(0, 2));
    assert.ok((await bytesOf(open, 'k')).equals(Buffer.concat([part(1), part(2)])));
    assert.equal(await files(open), 2);
  });

  test('may have gaps in its numbers, unless a checksum algorithm was chosen: then S3 answers 500', async () => {
    await using bare = await openBare();
    const plain = await Uploading.begin(bare, 'k', UNDECLARED);
    await plain.complete([await plain.part(1, part(1)), await plain.part(5, part(5)), await plain.part(9, part(9))]);
    assert.ok((await bytesOf(bare, 'k')).equals(Buffer.concat([part(1), part(5), part(9)])));
    for (const ChecksumType of ['FULL_OBJECT', 'COMPOSITE']) {
      const declared = await Uploading.begin(bare, 'd', { ChecksumAlgorithm: 'CRC32', ChecksumType });
      const o = { ChecksumAlgorithm: 'CRC32' };
      const parts = [await declared.part(1, part(1), o), await declared.part(3, part(3), o)];
      assert.equal(await refusal(declared.complete(parts)), '500 InternalError');
      const late = [await declared.part(2, part(2), o), await declared.part(3, part(3), o)];
      assert.equal(await refusal(declared.complete(late)), '500 InternalError');
    }
  });

  test('refuses wrong lists of parts', async () => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k');
    const one = await upload.part(1, part(1));
    const two = await upload.part(2, part(2));
    assert.equal(await refusal(upload.complete([two, one])), '400 InvalidPartOrder');
    assert.equal(await refusal(upload.complete([one, one])), '400 InvalidPartOrder');
    assert.equal(await refusal(upload.complete([one, { ...two, PartNumber: 3 }])), '400 InvalidPart');
    assert.equal(await refusal(upload.complete([one, { ...two, ETag: one.ETag }])), '400 InvalidPart');
    assert.equal(await refusal(upload.complete([])), '400 MalformedXML');
    assert.deepEqual(await upload.list(), [1, 2]);
    await upload.complete([one, two]);
  });

  test.each([0, 10_001, -1])('has no part %i', async (number) => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k');
    assert.equal(await refusal(upload.part(number, part(1))), '400 InvalidArgument');
    await upload.part(10_000, part(1));
  });

  test('is invisible, and in no list of objects, until it is complete', async () => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k');
    const parts = [await upload.part(1, part(1))];
    const list = async (): Promise<unknown[]> =>
      (await open.client.send(new ListObjectsV2Command({ Bucket: BUCKET }))).Contents ?? [];
    assert.deepEqual(await list(), []);
    assert.equal(await refusal(bytesOf(open, 'k')), '404 NoSuchKey');
    await upload.complete(parts);
    assert.equal((await list()).length, 1);
  });

  test('gives the object the metadata that it began with', async () => {
    await using open = await openSmall();
    const o = { Metadata: { a: '1' }, ContentType: 'x/y', StorageClass: 'STANDARD_IA', Tagging: 't=1' };
    const upload = await Uploading.begin(open, 'k', o);
    await upload.complete([await upload.part(1, part(1))]);
    const head = await open.client.send(new HeadObjectCommand({ Bucket: BUCKET, Key: 'k' }));
    assert.deepEqual([head.Metadata, head.ContentType, head.StorageClass], [{ a: '1' }, 'x/y', 'STANDARD_IA']);
    assert.equal((await open.client.send(new GetObjectCommand({ Bucket: BUCKET, Key: 'k' }))).TagCount, 1);
  });

  test('completed twice, or twice at once, answers the same and creates one object', async () => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k');
    const parts = [await upload.part(1, part(1))];
    const answers = await Promise.all([upload.complete(parts, { IfNoneMatch: '*' }), upload.complete(parts)]);
    answers.push(await upload.complete(parts, { IfNoneMatch: '*' }));
    const [first] = answers;
    for (const answer of answers)
      assert.deepEqual([answer.ETag, answer.ChecksumCRC32], [first?.ETag, first?.ChecksumCRC32]);
    assert.equal(await files(open), 1);
    assert.equal(await refusal(upload.abort()), '404 NoSuchUpload');
    assert.ok((await bytesOf(open, 'k')).equals(part(1)));
  });

  test('once aborted, accepts no part and leaves nothing', async () => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k');
    const one = await upload.part(1, part(1));
    await upload.abort();
    assert.equal(await refusal(upload.part(2, part(2))), '404 NoSuchUpload');
    assert.equal(await refusal(upload.complete([one])), '404 NoSuchUpload');
    assert.equal(await refusal(upload.list()), '404 NoSuchUpload');
    assert.equal(await refusal(upload.abort()), '404 NoSuchUpload');
    await open.s3.close();
    assert.equal(await files(open), 0);
  });

  test('belongs to its key', async () => {
    await using open = await openSmall();
    const { id } = await Uploading.begin(open, 'k');
    const other = { Bucket: BUCKET, Key: 'other', UploadId: id };
    assert.equal(await refusal(open.client.send(new ListPartsCommand(other))), '404 NoSuchUpload');
    assert.equal(await refusal(open.client.send(new AbortMultipartUploadCommand(other))), '404 NoSuchUpload');
  });
});

describe('the conditions of a Complete', () => {
  test('decide at the moment the object would become visible', async () => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k');
    const parts = [await upload.part(1, part(1))];
    const { ETag } = await open.client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'k', Body: 'there' }));
    assert.equal(await refusal(upload.complete(parts, { IfNoneMatch: '*' })), '412 PreconditionFailed');
    assert.equal(await refusal(upload.complete(parts, { IfMatch: '"other"' })), '412 PreconditionFailed');
    assert.equal((await bytesOf(open, 'k')).toString(), 'there');
    assert.deepEqual(await upload.list(), [1]);
    await upload.complete(parts, { IfMatch: ETag });
    assert.ok((await bytesOf(open, 'k')).equals(part(1)));
    const missing = await Uploading.begin(open, 'missing');
    const its = [await missing.part(1, part(1))];
    assert.equal(await refusal(missing.complete(its, { IfMatch: ETag })), '404 NoSuchKey');
    await missing.complete(its, { IfNoneMatch: '*' });
  });

  test('let exactly one of many racing uploads win', async () => {
    await using open = await openSmall();
    const race = async (n: number): Promise<string | undefined> => {
      const upload = await Uploading.begin(open, 'k');
      return (await upload.complete([await upload.part(1, part(n))], { IfNoneMatch: '*' })).ETag;
    };
    const results = await Promise.allSettled([1, 2, 3, 4, 5].map(race));
    assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
  });

  test('include the size of the object', async () => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k');
    const parts = [await upload.part(1, part(1)), await upload.part(2, part(2, 10))];
    assert.equal(await refusal(upload.complete(parts, { MpuObjectSize: PART + 9 })), '400 InvalidRequest');
    await upload.complete(parts, { MpuObjectSize: PART + 10 });
  });
});

describe('checksums of parts', () => {
  const bodies = [part(1), part(2), part(3, 77)];
  const whole = Buffer.concat(bodies);
  const hash = (algorithm: ChecksumAlgorithm, bytes: Buffer): Buffer => {
    const hasher = createHasher(algorithm as 'CRC32');
    hasher.update(bytes);
    return hasher.digest();
  };

  test.each(['CRC32', 'CRC32C', 'CRC64NVME'] as const)('of %s become that of the full object', async (algorithm) => {
    await using open = await openSmall();
    const field = `Checksum${algorithm}` as const;
    const o = { ChecksumAlgorithm: algorithm };
    const upload = await Uploading.begin(open, 'k', { ...o, ChecksumType: 'FULL_OBJECT' });
    const parts = await Promise.all(bodies.map((body, i) => upload.part(i + 1, body, o)));
    const claim = { ChecksumType: 'FULL_OBJECT', [field]: hash(algorithm, whole).toString('base64') };
    const wrong = { ChecksumType: 'FULL_OBJECT', [field]: hash(algorithm, part(9)).toString('base64') };
    assert.equal(await refusal(upload.complete(parts, wrong)), '400 BadDigest');
    const untyped = { [field]: claim[field] };
    if (algorithm !== 'CRC64NVME') assert.equal(await refusal(upload.complete(parts, untyped)), '400 InvalidRequest');
    const withoutParts = parts.map(({ PartNumber, ETag }) => ({ PartNumber, ETag }));
    const done = await upload.complete(withoutParts, claim);
    assert.deepEqual([done[field], done.ChecksumType], [claim[field], 'FULL_OBJECT']);
    const head = await open.client.send(new HeadObjectCommand({ Bucket: BUCKET, Key: 'k', ChecksumMode: 'ENABLED' }));
    assert.deepEqual([head[field], head.ChecksumType], [claim[field], 'FULL_OBJECT']);
    assert.ok((await bytesOf(open, 'k', { ChecksumMode: 'ENABLED' })).equals(whole));
  });

  test.each(['CRC32', 'CRC32C', 'SHA1', 'SHA256'] as const)('of %s become a composite one', async (algorithm) => {
    await using open = await openSmall();
    const field = `Checksum${algorithm}` as const;
    const o = { ChecksumAlgorithm: algorithm };
    const upload = await Uploading.begin(open, 'k', o);
    const parts = await Promise.all(bodies.map((body, i) => upload.part(i + 1, body, o)));
    assert.deepEqual(parts.map((sent) => sent[field]), bodies.map((body) => hash(algorithm, body).toString('base64'))); // prettier-ignore
    const swapped = [{ ...parts[0], [field]: parts[1]?.[field] }, ...parts.slice(1)];
    assert.equal(await refusal(upload.complete(swapped)), '400 InvalidPart');
    const bare = parts.map(({ PartNumber, ETag }) => ({ PartNumber, ETag }));
    assert.equal(await refusal(upload.complete(bare)), '400 InvalidRequest');
    const value = hash(algorithm, Buffer.concat(bodies.map((body) => hash(algorithm, body)))).toString('base64');
    const done = await upload.complete(parts, { [field]: value });
    assert.deepEqual([done[field], done.ChecksumType], [`${value}-3`, 'COMPOSITE']);
    const attributes = await open.client.send(
      new GetObjectAttributesCommand({ Bucket: BUCKET, Key: 'k', ObjectAttributes: ['Checksum', 'ObjectParts'] }),
    );
    assert.equal(attributes.Checksum?.[field], value);
    assert.deepEqual(attributes.ObjectParts?.Parts?.map((sent) => sent[field]), parts.map((sent) => sent[field])); // prettier-ignore
  });

  test('of SHA have no full-object form, and CRC64NVME has no composite one', async () => {
    await using open = await openSmall();
    const begin = (ChecksumAlgorithm: string, ChecksumType: string): Promise<unknown> =>
      Uploading.begin(open, 'k', { ChecksumAlgorithm, ChecksumType });
    assert.equal(await refusal(begin('SHA256', 'FULL_OBJECT')), '400 InvalidRequest');
    assert.equal(await refusal(begin('SHA1', 'FULL_OBJECT')), '400 InvalidRequest');
    assert.equal(await refusal(begin('CRC64NVME', 'COMPOSITE')), '400 InvalidRequest');
  });

  test('must be of the algorithm the upload began with, and are required for a composite', async () => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k', { ChecksumAlgorithm: 'SHA256' });
    assert.equal(await refusal(upload.part(1, part(1), { ChecksumAlgorithm: 'CRC32' })), '400 InvalidRequest');
    await using bare = await openBare();
    const composite = await Uploading.begin(bare, 'k', { ChecksumAlgorithm: 'SHA256' });
    assert.equal(await refusal(composite.part(1, part(1))), '400 InvalidRequest');
    const full = await Uploading.begin(bare, 'k', { ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT' });
    const sent = await full.part(1, part(1));
    assert.equal(sent.ChecksumCRC32, hash('CRC32', part(1)).toString('base64'));
  });

  test('are verified as each part comes', async () => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k');
    const crc = hash('CRC32', part(2)).toString('base64');
    const md5 = createHash('md5').update(part(2)).digest('base64');
    assert.equal(await refusal(upload.part(1, part(1), { ChecksumCRC32: crc })), '400 BadDigest');
    assert.equal(await refusal(upload.part(1, part(1), { ContentMD5: md5 })), '400 BadDigest');
    assert.deepEqual(await upload.list(), []);
    await open.s3.close();
    assert.equal(await files(open), 0);
  });

  test('are CRC64NVME of the full object where the client chose none', async () => {
    await using open = await openBare();
    const upload = await Uploading.begin(open, 'k', UNDECLARED);
    const parts = [await upload.part(1, part(1)), await upload.part(2, part(2))];
    assert.equal(parts[0]?.ChecksumCRC64NVME, undefined);
    const done = await upload.complete(parts);
    const value = hash('CRC64NVME', Buffer.concat([part(1), part(2)])).toString('base64');
    assert.deepEqual([done.ChecksumCRC64NVME, done.ChecksumType], [value, 'FULL_OBJECT']);
  });

  test('are verified without being announced, and forgotten: a Complete that lists them finds no such part', async () => {
    await using open = await openSmall();
    const upload = await Uploading.begin(open, 'k', UNDECLARED);
    const wrong = { ChecksumCRC32: hash('CRC32', part(2)).toString('base64') };
    assert.equal(await refusal(upload.part(1, part(1), wrong)), '400 BadDigest');
    const sent = await upload.part(1, part(1));
    assert.ok(sent.ChecksumCRC32);
    assert.equal(await refusal(upload.complete([sent])), '400 InvalidPart');
    await upload.complete([{ PartNumber: 1, ETag: sent.ETag }]);
  });
});
