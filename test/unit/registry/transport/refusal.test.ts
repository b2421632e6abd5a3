import { describe, expect, test } from 'vitest';
import { failureOf, parseRefusal, retryAfterMs, type Refusal } from '../../../../worker/registry/transport/refusal.ts';
import type { Code } from '../../../../worker/util/failure.ts';

function refusal(status: number, text: string, more: Partial<Refusal> = {}): Refusal {
  return {
    what: 'push manifest r.example/app:v1',
    method: 'PUT',
    status,
    header: () => undefined,
    text,
    nowMs: 0,
    renewed: false,
    ...more,
  };
}

const spec = (code: string, message = 'its message'): string => JSON.stringify({ errors: [{ code, message }] });
const IMMUTABLE =
  "The image tag 'v1' already exists in the 'app' repository and cannot be overwritten because the repository is immutable.";

describe('failureOf', () => {
  test('explains a HEAD without a body: the name does not exist', () => {
    expect(failureOf(refusal(404, '', { method: 'HEAD', what: 'resolve r.example/app:v1' })).message).toBe(
      'resolve r.example/app:v1: the registry answered 404: it does not have this: check the repository, and the tag or digest',
    );
  });

  test.each<[string, number, string, Code]>([
    ['a wrong password', 401, spec('UNAUTHORIZED'), 'UNAUTHENTICATED'],
    ['a missing permission', 403, spec('DENIED'), 'DENIED'],
    ['an unknown manifest', 404, spec('MANIFEST_UNKNOWN'), 'NOT_FOUND'],
    ['a 404 without a body', 404, '', 'NOT_FOUND'],
    ['a blob that a manifest names and the registry misses', 400, spec('MANIFEST_BLOB_UNKNOWN'), 'NOT_FOUND'],
    [
      'the same in words of ECR',
      400,
      spec('X', "Layers with digests '[a]' required for pushing image into repository with name 'b' do not exist"),
      'NOT_FOUND',
    ],
    ['a repository that does not exist', 404, spec('NAME_UNKNOWN'), 'NOT_FOUND'],
    ['an immutable tag of ECR', 400, spec('TAG_INVALID', IMMUTABLE), 'CONFLICT'],
    ['an immutable tag of Harbor', 412, spec('PRECONDITION', 'configured as immutable'), 'CONFLICT'],
    ['an invalid tag', 400, spec('TAG_INVALID', 'bad tag name'), 'INVALID'],
    ['a conflict', 409, '', 'CONFLICT'],
    ['other bytes than the digest', 400, spec('DIGEST_INVALID'), 'CORRUPT'],
    [
      'other bytes, in words of ECR',
      400,
      spec('BLOB_UPLOAD_INVALID', 'None of the provided layer digests match the computed layer digest'),
      'CORRUPT',
    ],
    [
      'a session out of step',
      416,
      spec('BLOB_UPLOAD_INVALID', 'First byte of the layer part is 0 instead of 5'),
      'UNAVAILABLE',
    ],
    ['a missing session', 404, spec('BLOB_UPLOAD_UNKNOWN'), 'UNAVAILABLE'],
    ['a parameter that ECR does not take', 405, spec('UNSUPPORTED'), 'UNSUPPORTED'],
    ['a malformed manifest', 400, spec('MANIFEST_INVALID'), 'INVALID'],
    ['a body that is too large', 413, '<html>', 'UNSUPPORTED'],
    ['throttling', 429, spec('TOOMANYREQUESTS'), 'THROTTLED'],
    ['throttling under another status', 400, spec('TOOMANYREQUESTS'), 'THROTTLED'],
    ['a timeout', 408, '', 'UNAVAILABLE'],
    ['a broken registry', 500, '', 'UNAVAILABLE'],
    ['a bad gateway', 502, '<html><body>Bad Gateway</body></html>', 'UNAVAILABLE'],
    ['an overloaded registry', 503, '', 'UNAVAILABLE'],
    ['a slow gateway', 504, '', 'UNAVAILABLE'],
    ['what is not implemented', 501, '', 'UNSUPPORTED'],
    ['a redirect of an upload', 307, '', 'UNSUPPORTED'],
    ['an unknown refusal', 418, '', 'INVALID'],
  ])('%s', (_, status, text, code) => {
    expect(failureOf(refusal(status, text))).toMatchObject({ code, context: { status } });
  });

  test('a range beyond the end of a blob means that the blob is shorter', () => {
    expect(failureOf(refusal(416, '', { method: 'GET' })).code).toBe('CORRUPT');
    expect(failureOf(refusal(416, '', { method: 'PATCH' })).code).toBe('UNAVAILABLE');
  });

  test('names the action, the server with its answer, and advice', () => {
    const hint = (code: Code): string | undefined => (code === 'DENIED' ? 'the caller needs ecr:PutImage' : undefined);
    expect(failureOf(refusal(403, spec('DENIED', 'not you'), { hint })).message).toBe(
      'push manifest r.example/app:v1: the registry answered 403 DENIED: not you; the caller needs ecr:PutImage',
    );
    expect(failureOf(refusal(503, '<html>', { elsewhere: 'bucket.example' })).message).toBe(
      'push manifest r.example/app:v1: bucket.example, where the registry sent us, answered 503',
    );
  });

  test("storage's own codes are not confused with the registry's", () => {
    const slow =
      '<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>';
    const failure = failureOf(refusal(503, slow, { elsewhere: 'bucket.example' }));
    expect(failure).toMatchObject({ code: 'UNAVAILABLE', context: { registryCode: 'SlowDown' } });
    expect(failure.message).toContain('503 SlowDown: Please reduce your request rate.');
  });

  test('keeps how long to wait, and that credentials were renewed', () => {
    const header = (name: string): string | undefined => (name === 'retry-after' ? '7' : undefined);
    expect(failureOf(refusal(429, '', { header, renewed: true })).context).toMatchObject({
      retryAfterMs: 7000,
      renewed: true,
    });
  });
});

describe('parseRefusal', () => {
  test.each([
    [
      'the first of several errors',
      JSON.stringify({ errors: [{ code: 'A', message: 'one' }, { code: 'B' }] }),
      { code: 'A', message: 'one' },
    ],
    [
      'its detail',
      JSON.stringify({ errors: [{ code: 'A', message: 'm', detail: { digest: 'd' } }] }),
      { code: 'A', message: 'm, digest=d' },
    ],
    [
      'a list of details, without members that are secret',
      JSON.stringify({
        errors: [
          { code: 'A', message: 'm', detail: [{ Type: 'repository', Class: '', Name: 'a', token: 'hunter22' }] },
        ],
      }),
      { code: 'A', message: 'm, Type=repository Name=a' },
    ],
    ['no errors', JSON.stringify({ errors: [] }), {}],
    ['errors that are null', '{"errors":null}', {}],
    [
      'what Docker Hub answers for tokens',
      '{"details":"incorrect username or password"}',
      { message: 'incorrect username or password' },
    ],
    [
      'an OAuth error',
      '{"error":"invalid_grant","error_description":"too old"}',
      { message: 'too old, invalid_grant' },
    ],
    [
      'plain text, as ECR',
      'Your Authorization Token has expired.\n',
      { message: 'Your Authorization Token has expired.' },
    ],
    ['JSON that is cut', '{"errors":[{"code":"DEN', {}],
    ['a web page', '<!DOCTYPE html><title>502</title>', {}],
    ['nothing', '', {}],
  ])('%s', (_, text, expected) => expect(parseRefusal(text)).toEqual(expected));

  test('keeps signatures and credentials out', () => {
    const { message = '' } = parseRefusal(
      'see https://bucket.example/a?X-Amz-Signature=abcdef&x=1 and Authorization: Bearer abcdefghijkl or Basic dXNlcjpwYXNz',
    );
    expect(message).toBe('see https://bucket.example/a and Authorization: Bearer … or Basic …');
  });

  test('leaves out details that are nested too deep to be written', () => {
    const detail = '['.repeat(20_000) + ']'.repeat(20_000);
    const text = `{"errors":[{"code":"TAG_INVALID","message":"no","detail":${detail}}]}`;
    expect(parseRefusal(text)).toEqual({ code: 'TAG_INVALID', message: 'no' });
  });

  test('is one line of bounded length that controls no terminal', () => {
    const { message = '' } = parseRefusal(`a\u001b[31m\r\nb\u202ec ${'x'.repeat(1000)}`);
    expect(message).toMatch(/^a \[31m b c x+…$/);
    expect(message.length).toBeLessThan(410);
  });
});

describe('retryAfterMs', () => {
  const now = Date.UTC(2026, 10, 21, 12, 0, 0);
  test.each([
    [undefined, undefined],
    ['0', 0],
    ['120', 120_000],
    ['Sat, 21 Nov 2026 12:00:30 GMT', 30_000],
    ['Sat, 21 Nov 2026 11:00:00 GMT', 0],
    ['soon', undefined],
    ['-5', undefined],
  ])('%s', (header, expected) => expect(retryAfterMs(header, now)).toBe(expected));
});
