import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { WholeBody } from '../../../../worker/registry/transport/whole-body.ts';
import { fakeLayer, READ } from '../../../support/fake-layer.ts';

test('reads a body up to its limit, and returns status, headers and URL with it', async () => {
  const inner = fakeLayer({ status: 201, body: '0123', headers: { etag: 'e' }, url: 'https://storage.example/layer' });
  const answer = await new WholeBody(inner).send({ ...READ, limit: 4 }, {});
  expect(answer.bytes.toString()).toBe('0123');
  expect([answer.status, answer.header('etag'), answer.url.host]).toEqual([201, 'e', 'storage.example']);
});

test('refuses a body that is longer', async () => {
  await expect(new WholeBody(fakeLayer({ body: '01234' })).send({ ...READ, limit: 4 }, {})).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: 'read it: the answer is longer than 4 bytes',
  });
});

const BODY = '{"tags":["a"]}';

test.each([
  ['gzip', gzipSync(BODY)],
  ['X-GZIP', gzipSync(BODY)],
  ['deflate', deflateSync(BODY)],
  ['deflate', deflateRawSync(BODY)],
  ['br', brotliCompressSync(BODY)],
  ['zstd', zstdCompressSync(BODY)],
  ['gzip, br', brotliCompressSync(gzipSync(BODY))],
  ['identity', Buffer.from(BODY)],
  ['identity, gzip', gzipSync(BODY)],
])('undoes the Content-Encoding %s that was not asked for', async (encoding, body) => {
  const inner = fakeLayer({ body, headers: { 'content-encoding': encoding } });
  const answer = await new WholeBody(inner).send({ ...READ, limit: 100 }, {});
  expect(answer.bytes.toString()).toBe(BODY);
});

test.each(['gzip', 'br', 'aws-chunked'])(
  'reads a document unchanged where a proxy left the header %s',
  async (encoding) => {
    const inner = fakeLayer({ body: BODY, headers: { 'content-encoding': encoding } });
    const answer = await new WholeBody(inner).send({ ...READ, limit: 100 }, {});
    expect(answer.bytes.toString()).toBe(BODY);
  },
);

test('refuses a body that is longer than its limit once it is unpacked', async () => {
  const inner = fakeLayer({ body: gzipSync('{'.repeat(1_000_000)), headers: { 'content-encoding': 'gzip' } });
  await expect(new WholeBody(inner).send({ ...READ, limit: 10_000 }, {})).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: 'read it: the answer is longer than 10000 bytes',
  });
});

test.each([
  ['gzip', 'UNAVAILABLE', 'read it: the answer is broken, or is not gzip as its Content-Encoding states'],
  ['compress', 'UNSUPPORTED', 'read it: the answer has the Content-Encoding compress, which was not asked for'],
  ['gzip, gzip, gzip', 'UNSUPPORTED', expect.stringContaining('gzip, gzip, gzip, which was not asked for')],
])('reports a body that cannot be read by its Content-Encoding %s', async (encoding, code, message) => {
  const inner = fakeLayer({ body: gzipSync(BODY).subarray(0, 20), headers: { 'content-encoding': encoding } });
  await expect(new WholeBody(inner).send({ ...READ, limit: 100 }, {})).rejects.toMatchObject({ code, message });
});

test('fails as the body does', async () => {
  const inner = fakeLayer({ body: '01', breaks: true });
  await expect(new WholeBody(inner).send({ ...READ, limit: 4 }, {})).rejects.toThrow('the body broke off');
});
