import { GetObjectCommand, HeadObjectCommand, ListObjectsV2Command, PutObjectCommand } from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { Faults } from '../../faults.ts';
import { BUCKET, openS3, randomBytes, refusal, sendRaw, signed, type OpenS3 } from '../../../test/support/local-s3.ts';

const at = { Bucket: BUCKET, Key: 'k' };
const put = async ({ client }: OpenS3, Body: Buffer | string = 'v', Key = 'k'): Promise<unknown> =>
  client.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body }));
const get = async ({ client }: OpenS3): Promise<string> => {
  const { Body } = await client.send(new GetObjectCommand(at));
  return (await Body?.transformToString()) ?? '';
};
const CUT = { code: 'ECONNRESET' };

describe('a fault', () => {
  test('answers SlowDown, or the requested code, before anything happens', async () => {
    await using open = await openS3();
    await put(open, 'before');
    open.s3.faults.add({ operation: 'PutObject' }, { kind: 'answer' });
    assert.equal(await refusal(put(open, 'after')), '503 SlowDown');
    assert.equal(await get(open), 'before');
    open.s3.faults.add({ operation: 'HeadObject' }, { kind: 'answer', status: 500, code: 'InternalError' });
    assert.match(await refusal(open.client.send(new HeadObjectCommand(at))), /^500 /);
    open.s3.faults.add({}, { kind: 'answer', status: 429, code: 'TooMany', retryAfterSeconds: 7 });
    const raw = await sendRaw(open.s3, signed(open.s3, { path: `/${BUCKET}/k` }));
    assert.deepEqual([raw.status, raw.headers['retry-after']], [429, '7']);
    open.s3.faults.add({}, { kind: 'answer', status: 429, code: '' });
    const bare = await sendRaw(open.s3, signed(open.s3, { path: `/${BUCKET}/k` }));
    assert.deepEqual([bare.status, bare.body], [429, '']);
    assert.equal(open.s3.faults.pending, 0);
  });

  test('can be an error inside a success, as copies have them', async () => {
    await using open = await openS3();
    open.s3.faults.add({}, { kind: 'answer', status: 200, code: 'InternalError' });
    const raw = await sendRaw(open.s3, signed(open.s3, { path: `/${BUCKET}/k` }));
    assert.equal(raw.status, 200);
    assert.match(raw.body, /<Error><Code>InternalError<\/Code>/);
  });

  test('strikes the requests it waits for, after those it skips, as often as requested', async () => {
    await using open = await openS3();
    await put(open);
    open.s3.faults.add({ operation: 'GetObject', key: 'k', skip: 1, times: 2 }, { kind: 'answer' });
    await put(open, 'v', 'other');
    await open.client.send(new GetObjectCommand({ Bucket: BUCKET, Key: 'other' }));
    assert.equal(await get(open), 'v');
    assert.equal(open.s3.faults.pending, 2);
    assert.equal(await refusal(get(open)), '503 SlowDown');
    assert.equal(await refusal(get(open)), '503 SlowDown');
    assert.equal(await get(open), 'v');
    assert.equal(open.s3.faults.pending, 0);
  });

  test('may be queued before the server is started, and taken back', async () => {
    const faults = new Faults();
    faults.add({ operation: 'PutObject', times: Infinity }, { kind: 'answer' });
    await using open = await openS3({ faults });
    assert.equal(await refusal(put(open)), '503 SlowDown');
    faults.clear();
    await put(open);
  });

  test.each([0, 1, 700_000])('cuts an answer after %i bytes', async (bytes) => {
    await using open = await openS3();
    const body = randomBytes(2_000_000);
    await put(open, body);
    open.s3.faults.add({ operation: 'GetObject' }, { kind: 'cut-answer', afterBytes: bytes });
    const received: Buffer[] = [];
    await assert.rejects(
      async () => {
        const { Body } = await open.client.send(new GetObjectCommand(at));
        for await (const chunk of Body as AsyncIterable<Buffer>) received.push(chunk);
      },
      { code: 'BROKEN_OFF' },
    );
    const all = Buffer.concat(received);
    assert.ok(all.length <= bytes && all.equals(body.subarray(0, all.length)));
    assert.equal(open.s3.requests.at(-1)?.sentBytes, bytes);
  });

  test('cuts a list as well', async () => {
    await using open = await openS3();
    open.s3.faults.add({ operation: 'ListObjectsV2' }, { kind: 'cut-answer', afterBytes: 100 });
    await assert.rejects(open.client.send(new ListObjectsV2Command({ Bucket: BUCKET })), CUT);
  });

  test('drops a request whose effect is there all the same', async () => {
    await using open = await openS3();
    open.s3.faults.add({ operation: 'PutObject' }, { kind: 'lose-answer' });
    await assert.rejects(put(open, 'written'), CUT);
    assert.equal(await get(open), 'written');
    assert.deepEqual(open.s3.requests.map(({ status }) => status), [200, 0, 200]); // prettier-ignore
  });

  test.each([0, 1_000_000, 9_000_000])('drops a request without effect after %i bytes of it', async (bytes) => {
    await using open = await openS3();
    await put(open, 'before');
    open.s3.faults.add({ operation: 'PutObject' }, { kind: 'cut-request', afterBytes: bytes });
    await assert.rejects(put(open, randomBytes(3_000_000)), (error) => error instanceof Error);
    assert.equal(await get(open), 'before');
  });

  test('delays a request, and does not hold up the end of the server', async () => {
    await using open = await openS3();
    await put(open);
    open.s3.faults.add({ operation: 'GetObject' }, { kind: 'delay', ms: 50 });
    const before = performance.now();
    assert.equal(await get(open), 'v');
    assert.ok(performance.now() - before >= 45);
    open.s3.faults.add({ operation: 'GetObject' }, { kind: 'delay', ms: 3_600_000 });
    const waiting = assert.rejects(get(open), { code: 'CLOSED' });
    const isWaiting = (): boolean => open.s3.requests.some((r) => r.operation === 'GetObject' && r.status === 0);
    while (!isWaiting()) await put(open);
    await open.s3.close();
    await waiting;
  });
});
