import { GetObjectCommand, HeadObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'vitest';
import { createHasher } from '../../s3/checksum.ts';
import {
  BUCKET,
  chunked,
  clientOf,
  codeOf,
  openS3,
  presigned,
  randomBytes,
  refusal,
  sendRaw,
  signed,
  type OpenS3,
  type RawAnswer,
  type RawRequest,
  type Signature,
} from '../../../test/support/local-s3.ts';

const PATH = `/${BUCKET}/k`;
const HOUR_MS = 3_600_000;

async function openWithObject(): Promise<OpenS3> {
  const open = await openS3();
  await open.client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'k', Body: 'content' }));
  return open;
}

async function send(open: OpenS3, raw: RawRequest, o?: Signature): Promise<RawAnswer> {
  return sendRaw(open.s3, signed(open.s3, raw, o));
}

describe('a signature', () => {
  test('of the SDK is accepted, one with another secret, key or region is not', async () => {
    await using open = await openWithObject();
    const get = new GetObjectCommand({ Bucket: BUCKET, Key: 'k' });
    const { accessKeyId, secretAccessKey } = open.s3.credentials;
    const as = (credentials: {
      accessKeyId: string;
      secretAccessKey: string;
      sessionToken?: string;
    }): Promise<string> => refusal(clientOf(open.s3, { credentials }).send(get));
    assert.equal(await as({ accessKeyId, secretAccessKey: 'wrong' }), '403 SignatureDoesNotMatch');
    assert.equal(await as({ accessKeyId: 'other', secretAccessKey }), '403 InvalidAccessKeyId');
    assert.equal(await as({ accessKeyId, secretAccessKey, sessionToken: 'stray' }), '400 InvalidToken');
    const elsewhere = clientOf(open.s3, { region: 'eu-west-1' }).send(get);
    assert.equal(await refusal(elsewhere), '400 AuthorizationHeaderMalformed');
  });

  test('is required', async () => {
    await using open = await openWithObject();
    assert.equal(codeOf(await sendRaw(open.s3, { path: PATH })), '403 AccessDenied');
    const basic = { path: PATH, headers: { authorization: 'Basic bG9jYWw6bG9jYWw=' } };
    assert.equal(codeOf(await sendRaw(open.s3, basic)), '400 InvalidRequest');
    const broken = { path: PATH, headers: { authorization: 'AWS4-HMAC-SHA256 nonsense' } };
    assert.equal(codeOf(await sendRaw(open.s3, broken)), '400 AuthorizationHeaderMalformed');
  });

  test('is over method, path, query, headers and time', async () => {
    await using open = await openWithObject();
    const raw = signed(open.s3, { path: PATH, headers: { 'x-amz-checksum-mode': 'ENABLED' } });
    const changed: RawRequest[] = [
      { ...raw, method: 'DELETE' },
      { ...raw, path: `${PATH}2` },
      { ...raw, path: `${PATH}?partNumber=1` },
      { ...raw, headers: { ...raw.headers, 'x-amz-checksum-mode': 'DISABLED' } },
      { ...raw, headers: { ...raw.headers, 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' } },
    ];
    for (const request of changed) assert.equal(codeOf(await sendRaw(open.s3, request)), '403 SignatureDoesNotMatch');
    assert.equal((await sendRaw(open.s3, raw)).status, 200);
    const loose = { path: PATH, headers: { 'x-amz-checksum-mode': 'ENABLED' } };
    assert.equal(codeOf(await send(open, loose, { unsigned: ['x-amz-checksum-mode'] })), '403 AccessDenied');
    for (const offsetMs of [-HOUR_MS, HOUR_MS]) {
      const time = new Date(Date.now() + offsetMs);
      assert.equal(codeOf(await send(open, { path: PATH }, { time })), '403 RequestTimeTooSkewed');
    }
  });

  test('covers the payload', async () => {
    await using open = await openWithObject();
    const put = { method: 'PUT', path: PATH, body: 'other' };
    const payload = createHash('sha256').update('content').digest('hex');
    assert.equal(codeOf(await send(open, put, { payload })), '400 XAmzContentSHA256Mismatch');
    assert.equal(codeOf(await send(open, put, { payload: 'nonsense' })), '400 InvalidArgument');
    assert.equal((await send(open, { path: PATH })).body, 'content');
    assert.equal((await send(open, put, { payload: 'UNSIGNED-PAYLOAD' })).status, 200);
    assert.equal((await send(open, { path: PATH })).body, 'other');
  });
});

describe('a presigned request', () => {
  test('needs nothing else, to read, write and upload parts', async () => {
    await using open = await openS3();
    const put = { method: 'PUT', path: PATH, body: 'presigned' };
    assert.equal((await sendRaw(open.s3, { ...put, path: presigned(open.s3, put) })).status, 200);
    assert.equal((await sendRaw(open.s3, { path: presigned(open.s3, { path: PATH }) })).body, 'presigned');
    const begin = await send(open, { method: 'POST', path: `${PATH}?uploads=` });
    const id = /<UploadId>(.*)<\/UploadId>/.exec(begin.body)?.[1] ?? '';
    const part = { method: 'PUT', path: `${PATH}?partNumber=1&uploadId=${id}`, body: 'part' };
    const sent = await sendRaw(open.s3, { ...part, path: presigned(open.s3, part) });
    assert.equal(sent.headers.etag, `"${createHash('md5').update('part').digest('hex')}"`);
  });

  test('is valid for its own method only', async () => {
    await using open = await openWithObject();
    const path = presigned(open.s3, { path: PATH });
    assert.equal((await sendRaw(open.s3, { method: 'HEAD', path })).status, 403);
    assert.equal(codeOf(await sendRaw(open.s3, { method: 'DELETE', path })), '403 SignatureDoesNotMatch');
    assert.equal((await sendRaw(open.s3, { path, headers: { range: 'bytes=0-2' } })).body, 'con');
  });

  test('expires, after a week at the latest', async () => {
    await using open = await openWithObject();
    const ask = async (o: Parameters<typeof presigned>[2]): Promise<string> =>
      codeOf(await sendRaw(open.s3, { path: presigned(open.s3, { path: PATH }, o) }));
    assert.equal(await ask({ time: new Date(Date.now() - 61_000), expiresSeconds: 60 }), '403 AccessDenied');
    assert.equal(await ask({ time: new Date(Date.now() - HOUR_MS), expiresSeconds: 7200 }), '200 -');
    assert.equal(await ask({ time: new Date(Date.now() + HOUR_MS) }), '403 AccessDenied');
    assert.equal(await ask({ expiresSeconds: 604_801 }), '400 AuthorizationQueryParametersError');
    assert.equal(await ask({ region: 'eu-west-1' }), '400 AuthorizationQueryParametersError');
    assert.equal(await ask({ secretAccessKey: 'wrong' }), '403 SignatureDoesNotMatch');
  });

  test('with an Authorization header as well is refused', async () => {
    await using open = await openWithObject();
    const path = presigned(open.s3, { path: PATH });
    for (const authorization of ['Bearer token', signed(open.s3, { path: PATH }).headers['authorization'] ?? '']) {
      const answer = await sendRaw(open.s3, { path, headers: { authorization } });
      assert.equal(codeOf(answer), '400 InvalidArgument');
      assert.match(answer.body, /Only one auth mechanism allowed/);
    }
  });

  test('may carry its headers in the query, as SDKs write them there', async () => {
    await using open = await openS3();
    const crc32 = createHasher('CRC32');
    crc32.update(Buffer.from('v'));
    const query = `x-id=PutObject&x-amz-meta-a=1&x-amz-checksum-crc32=${encodeURIComponent(crc32.digest().toString('base64'))}`;
    const put = { method: 'PUT', path: `${PATH}?${query}`, body: 'v' };
    const path = presigned(open.s3, put);
    assert.equal(codeOf(await sendRaw(open.s3, { ...put, path, body: 'w' })), '400 BadDigest');
    assert.equal((await sendRaw(open.s3, { ...put, path })).status, 200);
    const get = { path: `${PATH}?x-amz-checksum-mode=ENABLED&x-id=GetObject` };
    const got = await sendRaw(open.s3, { path: presigned(open.s3, get) });
    assert.deepEqual(
      [got.body, got.headers['x-amz-meta-a'], got.headers['x-amz-checksum-type']],
      ['v', '1', 'FULL_OBJECT'],
    );
    const unknown = { path: `${PATH}?x-amz-unknown=1` };
    assert.equal(codeOf(await sendRaw(open.s3, { path: presigned(open.s3, unknown) })), '501 NotImplemented');
  });

  test('must not have headers that were not signed', async () => {
    await using open = await openS3();
    const put = { method: 'PUT', path: PATH, body: 'v' };
    const headers = { 'x-amz-meta-a': '1' };
    assert.equal(
      codeOf(await sendRaw(open.s3, { ...put, headers, path: presigned(open.s3, put) })),
      '403 AccessDenied',
    );
    const path = presigned(open.s3, { ...put, headers });
    assert.equal((await sendRaw(open.s3, { ...put, headers, path })).status, 200);
  });
});

describe('an aws-chunked body', () => {
  const body = randomBytes(50_000);
  const crc32 = createHasher('CRC32');
  crc32.update(body);
  const checksum = crc32.digest().toString('base64');
  const UNSIGNED: Signature = { payload: 'STREAMING-UNSIGNED-PAYLOAD-TRAILER' };
  const put = (o: { bytes?: Buffer; headers?: Record<string, string> } = {}): RawRequest => ({
    method: 'PUT',
    path: PATH,
    headers: {
      'x-amz-decoded-content-length': String(body.length),
      'x-amz-trailer': 'x-amz-checksum-crc32',
      ...o.headers,
    },
    body: o.bytes ?? chunked(body, 16_384, { 'x-amz-checksum-crc32': checksum }),
  });

  test('is decoded wherever the network cuts it', async () => {
    await using open = await openS3();
    const { body: framed } = put();
    assert.ok(Buffer.isBuffer(framed));
    for (const size of [1, 7, 511, 512, 513, 65_536]) {
      const head = 2200; // the framing of the first chunk is in it
      const pieces = Array.from({ length: Math.ceil(head / size) }, (_, i) =>
        framed.subarray(i * size, Math.min(head, (i + 1) * size)),
      );
      const sent = await send(open, { ...put(), body: [...pieces, framed.subarray(head)] }, UNSIGNED);
      assert.equal(sent.status, 200, sent.body);
      const { Body } = await open.client.send(new GetObjectCommand({ Bucket: BUCKET, Key: 'k' }));
      assert.ok(Buffer.from((await Body?.transformToByteArray()) ?? []).equals(body));
    }
  });

  test.each([
    ['a wrong checksum', '400 BadDigest', { bytes: chunked(body, 16_384, { 'x-amz-checksum-crc32': 'AAAAAA==' }) }],
    ['a checksum of the wrong size', '400 InvalidRequest', { bytes: chunked(body, 16_384, { 'x-amz-checksum-crc32': 'AAA=' }) }], // prettier-ignore
    ['no trailer where one was announced', '400 MalformedTrailerError', { bytes: chunked(body, 16_384) }],
    ['an unknown trailer', '400 InvalidRequest', { headers: { 'x-amz-trailer': 'x-amz-checksum-md4' } }],
    ['a length that is not its own', '400 IncompleteBody', { headers: { 'x-amz-decoded-content-length': '49999' } }],
    ['no length', '411 MissingContentLength', { headers: { 'x-amz-decoded-content-length': '' } }],
    ['no last chunk', '400 IncompleteBody', { bytes: chunked(body, 16_384).subarray(0, 49_000) }],
    ['no framing', '400 IncompleteBody', { bytes: body }],
    ['something after its end', '400 IncompleteBody', { bytes: Buffer.concat([chunked(body, 16_384, { 'x-amz-checksum-crc32': checksum }), body]) }], // prettier-ignore
    ['small chunks', '403 InvalidChunkSizeError', { bytes: chunked(body, 8191, { 'x-amz-checksum-crc32': checksum }) }],
  ])('with %s is refused with %s', async (_, code, o) => {
    await using open = await openWithObject();
    assert.equal(codeOf(await send(open, put(o), UNSIGNED)), code);
    assert.equal((await send(open, { path: PATH })).body, 'content');
    assert.equal((await readdir(join(open.dir, 'data'))).length, 1);
  });

  test('is refused when its chunks are not signed although its headers announce it', async () => {
    await using open = await openS3();
    const payload = 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD';
    const headers = { 'x-amz-decoded-content-length': String(body.length) };
    const raw = { method: 'PUT', path: PATH, headers, body: chunked(body, 16_384) };
    assert.equal(codeOf(await send(open, raw, { payload })), '403 SignatureDoesNotMatch');
  });
});

describe('what this server does not do', () => {
  test.each([
    ['a parameter', { path: `${PATH}?acl` }],
    ['a parameter of writing', { method: 'PUT', path: `${PATH}?acl`, body: 'v' }],
    ['restoring', { method: 'POST', path: `${PATH}?restore`, body: '<RestoreRequest/>' }],
    ['a policy', { path: `/${BUCKET}?policy` }],
    ['forms', { method: 'POST', path: `/${BUCKET}`, body: 'x' }],
    ['a method', { method: 'PATCH', path: PATH, body: 'v' }],
    ['keys of KMS', { method: 'PUT', path: PATH, body: 'v', headers: { 'x-amz-server-side-encryption': 'aws:kms' } }],
    ['keys of the client', { method: 'PUT', path: PATH, body: 'v', headers: { 'x-amz-server-side-encryption-customer-algorithm': 'AES256' } }], // prettier-ignore
    ['redirects', { method: 'PUT', path: PATH, body: 'v', headers: { 'x-amz-website-redirect-location': '/x' } }],
    ['new checksums', { method: 'PUT', path: PATH, body: 'v', headers: { 'x-amz-checksum-sha512': 'x' } }],
    ['appending', { method: 'PUT', path: PATH, body: 'v', headers: { 'x-amz-write-offset-bytes': '7' } }],
    ['conditions that it would have to ignore', { method: 'PUT', path: PATH, body: 'v', headers: { 'if-unmodified-since': 'x' } }], // prettier-ignore
    ['If-Range', { path: PATH, headers: { 'if-range': '"x"', range: 'bytes=0-1' } }],
    ['checksums of other kinds', { method: 'POST', path: `${PATH}?uploads=`, headers: { 'x-amz-checksum-algorithm': 'XXHASH64' } }], // prettier-ignore
    ['bodies of unknown length', { method: 'PUT', path: PATH, body: 'v', headers: { 'transfer-encoding': 'chunked' } }],
  ] satisfies [string, RawRequest][])('is refused with 501: %s', async (_, raw) => {
    await using open = await openWithObject();
    assert.equal(codeOf(await send(open, raw)), '501 NotImplemented');
    assert.equal((await send(open, { path: PATH })).body, 'content');
  });

  test('includes access lists, which new buckets do not allow', async () => {
    await using open = await openWithObject();
    const put = (acl: string): RawRequest => ({ method: 'PUT', path: PATH, body: 'v', headers: { 'x-amz-acl': acl } });
    assert.equal(codeOf(await send(open, put('public-read'))), '400 AccessControlListNotSupported');
    assert.equal((await send(open, put('bucket-owner-full-control'))).status, 200);
  });
});

describe('a request', () => {
  test('finds its bucket in the host as well as in the path', async () => {
    await using open = await openWithObject();
    for (const host of [`${BUCKET}.s3.localhost`, `${BUCKET}.localhost:80`, `${BUCKET}.s3.us-east-1.amazonaws.com`]) {
      const answer = await send(open, { path: '/k', headers: { host } });
      assert.equal(answer.body, 'content', host);
    }
    for (const host of ['s3.localhost', 'localhost', 's3.us-east-1.amazonaws.com', 's3.example.com'])
      assert.equal((await send(open, { path: PATH, headers: { host } })).body, 'content', host);
  });

  test('for a bucket of another owner is refused', async () => {
    await using open = await openWithObject();
    const head = (ExpectedBucketOwner: string): HeadObjectCommand =>
      new HeadObjectCommand({ Bucket: BUCKET, Key: 'k', ExpectedBucketOwner });
    await open.client.send(head('000000000000'));
    assert.match(await refusal(open.client.send(head('111111111111'))), /^403 /);
  });

  test('is refused when it makes no sense', async () => {
    await using open = await openS3();
    assert.equal(codeOf(await sendRaw(open.s3, { path: `/${BUCKET}/%ff` })), '400 InvalidURI');
    const twice = { path: `${PATH}?versionId=null&versionId=null` };
    assert.equal(codeOf(await send(open, twice)), '400 InvalidArgument');
    const document = { method: 'POST', path: `/${BUCKET}?delete=`, body: '<Delete><Object>' };
    const md5 = createHash('md5').update(document.body).digest('base64');
    assert.equal(codeOf(await send(open, document)), '400 InvalidRequest');
    assert.equal(codeOf(await send(open, { ...document, headers: { 'content-md5': md5 } })), '400 MalformedXML');
    const put = { method: 'PUT', path: PATH, body: 'v' };
    const two = { 'x-amz-checksum-crc32': 'AAAAAA==', 'x-amz-checksum-crc32c': 'AAAAAA==' };
    assert.equal(codeOf(await send(open, { ...put, headers: two })), '400 InvalidRequest');
    const announced = { 'x-amz-sdk-checksum-algorithm': 'CRC32' };
    assert.equal(codeOf(await send(open, { ...put, headers: announced })), '400 InvalidRequest');
    const huge = { 'x-amz-decoded-content-length': String(6 * 1024 ** 3) };
    const framed = { ...put, headers: huge };
    assert.equal(codeOf(await send(open, framed, { payload: 'STREAMING-UNSIGNED-PAYLOAD-TRAILER' })), '400 EntityTooLarge'); // prettier-ignore
  });

  test('with Expect: 100-continue is refused before it sends its body', async () => {
    await using open = await openS3();
    const { hostname, port } = new URL(open.s3.endpoint);
    const ask = async (headers: Record<string, string>): Promise<[status: number, continued: boolean]> => {
      const request = httpRequest({ hostname, port, method: 'PUT', path: PATH, headers });
      let continued = false;
      request.on('continue', () => {
        continued = true;
        request.end('v');
      });
      request.flushHeaders();
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      response.resume();
      request.destroy();
      return [response.statusCode ?? 0, continued];
    };
    const waiting = { expect: '100-continue', 'content-length': '1' };
    assert.deepEqual(await ask(waiting), [403, false]);
    const raw = signed(open.s3, { method: 'PUT', path: PATH, body: 'v' });
    assert.deepEqual(await ask({ ...raw.headers, ...waiting }), [200, true]);
  });

  test('leaves nothing when it is cut in the middle of its body', async () => {
    await using open = await openWithObject();
    const { hostname, port } = new URL(open.s3.endpoint);
    const raw = signed(open.s3, { method: 'PUT', path: PATH, body: 'v' }, { payload: 'UNSIGNED-PAYLOAD' });
    const head = Object.entries({ ...raw.headers, 'content-length': '2000000' }).map(([name, v]) => `${name}: ${v}`);
    const socket = connect(Number(port), hostname);
    socket.write(`PUT ${PATH} HTTP/1.1\r\n${head.join('\r\n')}\r\n\r\n`);
    socket.write(randomBytes(1_000_000));
    socket.end();
    socket.resume();
    await once(socket, 'close');
    await open.s3.close(); // waits for the request to have ended
    assert.equal((await readdir(join(open.dir, 'data'))).length, 1);
    await using again = await openS3({ dir: open.dir });
    assert.equal((await send(again, { path: PATH })).body, 'content');
  });

  test('leaves nothing open when it is aborted in the middle of its answer', async () => {
    await using open = await openS3();
    await open.client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'k', Body: randomBytes(8_000_000) }));
    const { hostname, port } = new URL(open.s3.endpoint);
    const request = httpRequest({ hostname, port, ...signed(open.s3, { path: PATH }) }).end();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    await once(response, 'readable');
    request.destroy();
    await send(open, { method: 'DELETE', path: PATH });
    await open.s3.close();
    assert.deepEqual(await readdir(join(open.dir, 'data')), []);
  });

  test('leaves the connection to the next one when it is refused in the middle of its body', async () => {
    await using open = await openS3();
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const bytes = chunked(randomBytes(5_000_000), 1000);
    const headers = { 'x-amz-decoded-content-length': '5000000' };
    const raw = { method: 'PUT', path: PATH, headers, body: bytes };
    const put = signed(open.s3, raw, { payload: 'STREAMING-UNSIGNED-PAYLOAD-TRAILER' });
    const ports = new Set<number | undefined>();
    for (const expected of [403, 200]) {
      const { hostname, port } = new URL(open.s3.endpoint);
      const get = signed(open.s3, { path: `/${BUCKET}?location=` });
      const { body, ...options } = expected === 403 ? put : { ...get, body: undefined };
      const request = httpRequest({ hostname, port, agent, ...options }).end(body);
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      response.resume();
      await once(response, 'end');
      assert.equal(response.statusCode, expected);
      ports.add(request.socket?.localPort);
    }
    assert.equal(ports.size, 1);
    agent.destroy();
  });

  test('keeps its connection open when it is refused', async () => {
    await using open = await openS3();
    const body = randomBytes(3_000_000);
    const wrong = { Bucket: BUCKET, Key: 'k', Body: body, ContentMD5: 'AAAAAAAAAAAAAAAAAAAAAA==' };
    for (let i = 0; i < 3; i++) {
      assert.equal(await refusal(open.client.send(new PutObjectCommand(wrong))), '400 BadDigest');
      const lost = { Bucket: 'none', Key: 'k', Body: body };
      assert.equal(await refusal(open.client.send(new PutObjectCommand(lost))), '404 NoSuchBucket');
    }
    await open.client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'k', Body: body }));
  });

  test('is recorded with its operation, answer and bytes', async () => {
    await using open = await openWithObject();
    await open.client.send(new GetObjectCommand({ Bucket: BUCKET, Key: 'k', Range: 'bytes=1-3' }));
    await refusal(open.client.send(new HeadObjectCommand({ Bucket: BUCKET, Key: 'none' })));
    const rows = open.s3.requests.map((r) => [r.method, r.operation, r.bucket, r.key, r.status, r.receivedBytes, r.sentBytes]); // prettier-ignore
    assert.deepEqual(rows, [
      ['PUT', 'CreateBucket', BUCKET, '', 200, 0, 0],
      ['PUT', 'PutObject', BUCKET, 'k', 200, 7, 0],
      ['GET', 'GetObject', BUCKET, 'k', 206, 0, 3],
      ['HEAD', 'HeadObject', BUCKET, 'none', 404, 0, 0],
    ]);
  });
});
