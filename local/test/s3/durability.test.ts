import {
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  ListPartsCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  UploadPartCommand,
  type CompletedPart,
} from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, cp, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'vitest';
import { startS3 } from '../../s3/s3.ts';
import { BUCKET, clientOf, openS3, randomBytes, refusal, type OpenS3 } from '../../../test/support/local-s3.ts';

const at = { Bucket: BUCKET, Key: 'k' };
const JOURNAL = 'journal.ndjson';

async function get({ client }: OpenS3, Key = 'k', o: object = {}): Promise<Buffer> {
  const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key, ...o }));
  return Buffer.from((await Body?.transformToByteArray()) ?? []);
}

interface UploadKey {
  readonly Bucket: string;
  readonly Key: string;
  readonly UploadId: string;
}

/** The folder as a process killed at this moment leaves it, opened by a new process. */
async function crash(open: OpenS3, change: (dir: string) => Promise<void> = async () => undefined): Promise<OpenS3> {
  const dir = await mkdtemp(join(tmpdir(), 'transship-s3-'));
  await cp(open.dir, dir, { recursive: true });
  await change(dir);
  const again = await openS3({ dir, minPartBytes: 1 });
  const dispose = async (): Promise<void> => {
    await again[Symbol.asyncDispose]();
    await rm(dir, { recursive: true, force: true });
  };
  return { ...again, [Symbol.asyncDispose]: dispose };
}

describe('a new server on the folder of one that was killed', () => {
  test('has the same objects, their descriptions, versions and markers', async () => {
    await using open = await openS3();
    const { client } = open;
    await client.send(
      new PutBucketVersioningCommand({ Bucket: BUCKET, VersioningConfiguration: { Status: 'Enabled' } }),
    );
    const body = randomBytes(100_000);
    const described = {
      ContentType: 'x/y',
      Metadata: { a: '1' },
      Tagging: 't=1',
      StorageClass: 'STANDARD_IA',
    } as const;
    const first = await client.send(new PutObjectCommand({ ...at, Body: body, ...described }));
    await client.send(new PutObjectCommand({ ...at, Body: 'second' }));
    await client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'gone', Body: 'v' }));
    await client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: 'gone' }));
    const list = new ListObjectVersionsCommand({ Bucket: BUCKET });
    const before = await client.send(list);
    await using again = await crash(open);
    const after = await again.client.send(list);
    assert.deepEqual(after.Versions, before.Versions);
    assert.deepEqual(after.DeleteMarkers, before.DeleteMarkers);
    const status = await again.client.send(new GetBucketVersioningCommand({ Bucket: BUCKET }));
    assert.equal(status.Status, 'Enabled');
    assert.equal((await get(again)).toString(), 'second');
    const o = { VersionId: first.VersionId, ChecksumMode: 'ENABLED' } as const;
    assert.ok((await get(again, 'k', o)).equals(body));
    const head = await again.client.send(new HeadObjectCommand({ ...at, ...o }));
    assert.deepEqual([head.ContentType, head.Metadata, head.StorageClass], ['x/y', { a: '1' }, 'STANDARD_IA']);
    assert.deepEqual([head.ETag, head.ChecksumCRC32], [first.ETag, first.ChecksumCRC32]);
    const third = await again.client.send(new PutObjectCommand({ ...at, Body: 'third' }));
    assert.equal((await get(again)).toString(), 'third');
    assert.ok(third.VersionId);
  });

  test('continues unfinished uploads, and remembers finished ones', async () => {
    await using open = await openS3({ minPartBytes: 1 });
    const { client } = open;
    const begin = async (Key: string): Promise<UploadKey> => {
      const { UploadId = '' } = await client.send(new CreateMultipartUploadCommand({ Bucket: BUCKET, Key }));
      return { Bucket: BUCKET, Key, UploadId };
    };
    const part = async (upload: UploadKey, PartNumber: number, Body: string): Promise<CompletedPart> => {
      const { ETag } = await client.send(new UploadPartCommand({ ...upload, PartNumber, Body }));
      return { PartNumber, ETag };
    };
    const done = await begin('done');
    const finish = new CompleteMultipartUploadCommand({
      ...done,
      IfNoneMatch: '*',
      MultipartUpload: { Parts: [await part(done, 1, 'finished')] },
    });
    const answer = await client.send(finish);
    const upload = await begin('k');
    const parts = [await part(upload, 1, 'one '), await part(upload, 2, 'overwritten'), await part(upload, 2, 'two')];
    await using again = await crash(open);
    const uploads = await again.client.send(new ListMultipartUploadsCommand({ Bucket: BUCKET }));
    assert.deepEqual(uploads.Uploads?.map(({ Key, UploadId }) => [Key, UploadId]), [['k', upload.UploadId]]); // prettier-ignore
    const listed = await again.client.send(new ListPartsCommand(upload));
    assert.deepEqual(listed.Parts?.map(({ PartNumber, ETag }) => ({ PartNumber, ETag })), [parts[0], parts[2]]); // prettier-ignore
    assert.equal((await again.client.send(finish)).ETag, answer.ETag);
    const three = { ...upload, PartNumber: 3, Body: ' three' };
    const { ETag } = await again.client.send(new UploadPartCommand(three));
    const Parts = [
      ...(listed.Parts ?? []).map((p) => ({ PartNumber: p.PartNumber, ETag: p.ETag })),
      { PartNumber: 3, ETag },
    ];
    await again.client.send(new CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts } }));
    assert.equal((await get(again)).toString(), 'one two three');
  });

  test('drops a write that was cut off in the journal, and loses nothing before it', async () => {
    await using open = await openS3();
    await open.client.send(new PutObjectCommand({ ...at, Body: 'first' }));
    const lengthOf = async (): Promise<number> => (await readFile(join(open.dir, JOURNAL))).length;
    const before = await lengthOf();
    await open.client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'second', Body: 'second' }));
    const after = await lengthOf();
    for (const cut of [before, before + 1, Math.floor((before + after) / 2), after - 2]) {
      await using again = await crash(open, (dir) => truncate(join(dir, JOURNAL), cut));
      assert.equal((await get(again)).toString(), 'first');
      assert.equal(await refusal(get(again, 'second')), '404 NoSuchKey');
      assert.equal((await readdir(join(again.dir, 'data'))).length, 1);
      await again.client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'second', Body: 'again' }));
      await using third = await crash(again);
      assert.equal((await get(third, 'second')).toString(), 'again');
    }
  });

  test('removes data that nothing refers to', async () => {
    await using open = await openS3();
    await open.client.send(new PutObjectCommand({ ...at, Body: 'kept' }));
    await using again = await crash(open, (dir) => writeFile(join(dir, 'data', 'left-by-a-cut-upload'), 'x'));
    assert.equal((await readdir(join(again.dir, 'data'))).length, 1);
    assert.equal((await get(again)).toString(), 'kept');
  });

  test('keeps what a copy shares for as long as the copy exists', async () => {
    await using open = await openS3();
    await open.client.send(new PutObjectCommand({ ...at, Body: 'shared' }));
    await open.client.send(new CopyObjectCommand({ Bucket: BUCKET, Key: 'copy', CopySource: `${BUCKET}/k` }));
    await using again = await crash(open);
    await again.client.send(new DeleteObjectCommand(at));
    assert.equal((await get(again, 'copy')).toString(), 'shared');
    await again.client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: 'copy' }));
    await again.s3.close();
    assert.deepEqual(await readdir(join(again.dir, 'data')), []);
  });
});

test('the journal is rewritten at each start, with the length of the state', async () => {
  await using open = await openS3();
  for (let i = 0; i < 50; i++) await open.client.send(new PutObjectCommand({ ...at, Body: String(i) }));
  await open.s3.close();
  const path = join(open.dir, JOURNAL);
  const lines = async (): Promise<number> => (await readFile(path, 'utf8')).split('\n').length - 1;
  assert.equal(await lines(), 51);
  await using again = await openS3({ dir: open.dir });
  assert.equal(await lines(), 2);
  assert.equal((await get(again)).toString(), '49');
});

test('a folder is served by one server at a time', async () => {
  await using open = await openS3();
  await assert.rejects(startS3({ dir: open.dir }), { name: 'Failure', code: 'CONFLICT' });
  await open.s3.close();
  const both = await Promise.allSettled([startS3({ dir: open.dir }), startS3({ dir: open.dir })]);
  assert.deepEqual(both.map(({ status }) => status).sort(), ['fulfilled', 'rejected']); // prettier-ignore
  for (const result of both) if (result.status === 'fulfilled') await result.value.close();
  await writeFile(join(open.dir, 'lock'), ''); // killed while it took the lock
  await using again = await openS3({ dir: open.dir });
  assert.deepEqual((await again.client.send(new ListObjectsV2Command({ Bucket: BUCKET }))).Contents, undefined);
});

test('a folder whose journal is not a journal is refused', async () => {
  await using open = await openS3();
  await open.s3.close();
  await writeFile(join(open.dir, JOURNAL), 'something\nelse\n');
  await assert.rejects(startS3({ dir: open.dir }), { name: 'Failure', code: 'CORRUPT' });
  await appendFile(join(open.dir, JOURNAL), 'x');
  await assert.rejects(startS3({ dir: open.dir }), { name: 'Failure', code: 'CORRUPT' });
});

test('a port that is taken is reported as a failure, and the folder stays free', async () => {
  await using open = await openS3();
  const port = Number(new URL(open.s3.endpoint).port);
  const dir = join(open.dir, 'other');
  await assert.rejects(startS3({ dir, port }), { name: 'Failure', code: 'INVALID' });
  await using free = await openS3({ dir });
  assert.ok(free.s3.endpoint);
});

test('a folder can be opened after the process that served it was killed', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'transship-s3-'));
  const module = new URL('../../s3/s3.ts', import.meta.url).href;
  const script = join(dir, 'serve.mjs');
  await writeFile(
    script,
    `import { startS3 } from ${JSON.stringify(module)};
     const s3 = await startS3({ dir: ${JSON.stringify(join(dir, 's3'))} });
     process.send(s3.endpoint);`,
  );
  const child = fork(script, { execArgv: [], stdio: 'inherit' });
  const [endpoint] = (await once(child, 'message')) as [string];
  await assert.rejects(startS3({ dir: join(dir, 's3') }), { code: 'CONFLICT' });
  const credentials = { accessKeyId: 'local', secretAccessKey: 'local-secret' };
  await using here = await openS3();
  const client = clientOf(here.s3, { endpoint, credentials });
  await client.send(new CreateBucketCommand({ Bucket: BUCKET }));
  const body = randomBytes(500_000);
  await client.send(new PutObjectCommand({ ...at, Body: body }));
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.equal(await refusal(here.client.send(new GetObjectCommand(at))), '404 NoSuchKey');
  {
    await using again = await openS3({ dir: join(dir, 's3') });
    assert.ok((await get(again)).equals(body));
  }
  await rm(dir, { recursive: true, force: true });
});
