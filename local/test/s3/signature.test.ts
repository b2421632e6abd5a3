// The worked examples of AWS: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html,
// …/sigv4-query-string-auth.html, …/sigv4-streaming.html and …/sigv4-streaming-trailers.html
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'vitest';
import { S3Error } from '../../s3/error.ts';
import { authenticate, type ChunkSignatures, type SignedParts } from '../../s3/signature.ts';

const SIGNER = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
  region: 'us-east-1',
};
const NOW_MS = Date.UTC(2013, 4, 24);
const SCOPE = 'AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request';
const EMPTY = createHash('sha256').digest('hex');

function parts(method: string, url: string, headers: Record<string, string>, signature?: string): SignedParts {
  const { pathname, searchParams } = new URL(url, 'http://host');
  const all: Record<string, string> = { host: 'examplebucket.s3.amazonaws.com', ...headers };
  const signed = Object.keys(all).sort().join(';');
  if (signature !== undefined)
    all['authorization'] = `AWS4-HMAC-SHA256 Credential=${SCOPE},SignedHeaders=${signed},Signature=${signature}`;
  return { method, path: pathname, query: [...searchParams], headers: new Map(Object.entries(all)) };
}

describe('the signature of a header', () => {
  test.each([
    [
      'a read of a range',
      parts('GET', '/test.txt', { range: 'bytes=0-9', 'x-amz-content-sha256': EMPTY, 'x-amz-date': '20130524T000000Z' }, 'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41'), // prettier-ignore
    ],
    [
      'a write',
      parts('PUT', '/test%24file.text', { date: 'Fri, 24 May 2013 00:00:00 GMT', 'x-amz-content-sha256': '44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072', 'x-amz-date': '20130524T000000Z', 'x-amz-storage-class': 'REDUCED_REDUNDANCY' }, '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd'), // prettier-ignore
    ],
    [
      'a parameter without a value',
      parts('GET', '/?lifecycle', { 'x-amz-content-sha256': EMPTY, 'x-amz-date': '20130524T000000Z' }, 'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543'), // prettier-ignore
    ],
    [
      'a list',
      parts('GET', '/?max-keys=2&prefix=J', { 'x-amz-content-sha256': EMPTY, 'x-amz-date': '20130524T000000Z' }, '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7'), // prettier-ignore
    ],
  ])('is that of %s', (_, request) => {
    assert.equal(authenticate(request, SIGNER, NOW_MS).kind, 'hashed');
    const other = { ...SIGNER, secretAccessKey: 'other' };
    assert.throws(() => authenticate(request, other, NOW_MS), { code: 'SignatureDoesNotMatch' });
  });
});

test('the signature of a presigned request is the one of the example, until it expires', () => {
  const query = `X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=${encodeURIComponent(SCOPE)}&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404`;
  const request = parts('GET', `/test.txt?${query}`, {});
  assert.deepEqual(authenticate(request, SIGNER, NOW_MS), { kind: 'unsigned' });
  assert.equal(authenticate(request, SIGNER, NOW_MS + 86_400_000).kind, 'unsigned');
  assert.throws(() => authenticate(request, SIGNER, NOW_MS + 86_400_001), { code: 'AccessDenied' });
});

const sha256 = (bytes: number): string => createHash('sha256').update('a'.repeat(bytes)).digest('hex');

function chunksOf(request: SignedParts): ChunkSignatures {
  const payload = authenticate(request, SIGNER, NOW_MS);
  assert.ok(payload.kind === 'chunked' && payload.chunks !== undefined);
  return payload.chunks;
}

const CHUNKED = {
  host: 's3.amazonaws.com',
  'content-encoding': 'aws-chunked',
  'x-amz-date': '20130524T000000Z',
  'x-amz-decoded-content-length': '66560',
  'x-amz-storage-class': 'REDUCED_REDUNDANCY',
};
const PATH = '/examplebucket/chunkObject.txt';

test('the signatures of chunks are those of the example, each over the previous one', () => {
  const headers = {
    ...CHUNKED,
    'content-length': '66824',
    'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
  };
  const request = parts('PUT', PATH, headers, '4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9');
  const chunks = chunksOf(request);
  chunks.verifyChunk(sha256(65_536), 'ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648');
  chunks.verifyChunk(sha256(1024), '0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497');
  chunks.verifyChunk(sha256(0), 'b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9');
  const again = chunksOf(request);
  assert.throws(
    () => again.verifyChunk(sha256(1024), '0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497'),
    (error) => error instanceof S3Error && error.status === 403,
  );
});

test('the signature of trailers is the one of the example', () => {
  const headers = {
    ...CHUNKED,
    'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER',
    'x-amz-trailer': 'x-amz-checksum-crc32c',
  };
  const request = parts('PUT', PATH, headers, '106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e');
  const chunks = chunksOf(request);
  chunks.verifyChunk(sha256(65_536), 'b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2');
  chunks.verifyChunk(sha256(1024), '1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7');
  chunks.verifyChunk(sha256(0), '2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992');
  const signature = 'd81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435';
  chunks.verifyTrailers('x-amz-checksum-crc32c:sOO8/Q==\n', signature);
});
