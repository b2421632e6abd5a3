import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseDigest } from '../../../worker/oci/digest.ts';
import {
  formatReference,
  formatRepository,
  isTag,
  parseReference,
  parseRepository,
  type Reference,
} from '../../../worker/oci/reference.ts';
import { isFailure } from '../../../worker/util/failure.ts';

const HEX = '0123456789abcdef'.repeat(4);
const DIGEST = `sha256:${HEX}`;

// what docker reads: https://github.com/distribution/reference/blob/v0.6.0/normalize_test.go
const READ_AS: readonly (readonly [string, string])[] = [
  ['ubuntu', 'docker.io/library/ubuntu:latest'],
  ['ubuntu:22.04', 'docker.io/library/ubuntu:22.04'],
  ['library/ubuntu', 'docker.io/library/ubuntu:latest'],
  ['docker.io/ubuntu', 'docker.io/library/ubuntu:latest'],
  ['docker.io/library/ubuntu:x', 'docker.io/library/ubuntu:x'],
  ['index.docker.io/ubuntu', 'docker.io/library/ubuntu:latest'],
  ['index.docker.io/a/b', 'docker.io/a/b:latest'],
  ['registry-1.docker.io/library/ubuntu', 'docker.io/library/ubuntu:latest'],
  ['bitnami/redis', 'docker.io/bitnami/redis:latest'],
  ['a/b/c', 'docker.io/a/b/c:latest'],
  ['localhost', 'docker.io/library/localhost:latest'],
  ['localhost:5000', 'docker.io/library/localhost:5000'],
  ['localhost/x', 'localhost/x:latest'],
  ['localhost:5000/x', 'localhost:5000/x:latest'],
  ['localhost:5000/x:y', 'localhost:5000/x:y'],
  ['127.0.0.1:5000/x/y', '127.0.0.1:5000/x/y:latest'],
  ['[::1]:5000/x:y', '[::1]:5000/x:y'],
  ['[2001:db8::1]/x', '[2001:db8::1]/x:latest'],
  ['host.docker.internal/x', 'host.docker.internal/x:latest'],
  ['UPPER/x', 'UPPER/x:latest'],
  ['GHCR.io/a/b', 'GHCR.io/a/b:latest'],
  ['xn--n3h.com/myimage:xn--n3h.com', 'xn--n3h.com/myimage:xn--n3h.com'],
  ['a.b/c:UPPER_Tag-1.0', 'a.b/c:UPPER_Tag-1.0'],
  ['a.b/c__d/e-f/g---h/i.j', 'a.b/c__d/e-f/g---h/i.j:latest'],
  [`a.b/c@${DIGEST}`, `a.b/c@${DIGEST}`],
  [`a.b/c:d@${DIGEST}`, `a.b/c:d@${DIGEST}`],
  [`ubuntu@${DIGEST}`, `docker.io/library/ubuntu@${DIGEST}`],
  [`a.b/c@sha512:${HEX}${HEX}`, `a.b/c@sha512:${HEX}${HEX}`],
  [
    '111111111111.dkr.ecr.us-east-1.amazonaws.com/team/app:v1',
    '111111111111.dkr.ecr.us-east-1.amazonaws.com/team/app:v1',
  ],
  ['public.ecr.aws/nginx/nginx', 'public.ecr.aws/nginx/nginx:latest'],
];

const REFUSED: readonly (readonly [string, string])[] = [
  ['', 'nothing'],
  [':', 'no name'],
  ['@', 'no name, no digest'],
  ['/', 'no host, no name'],
  ['a.b/', 'no name'],
  ['/x', 'no host'],
  ['a.b//c', 'an empty component'],
  ['a.b/c/', 'an empty component at the end'],
  ['UPPER', 'a repository in upper case'],
  ['a.b/Upper', 'a repository in upper case'],
  ['a.b/_c', 'a separator in front'],
  ['a.b/c_', 'a separator at the end'],
  ['a.b/c..d', 'two dots'],
  ['a.b/c___d', 'three underscores'],
  ['a.b/../etc/passwd', 'a way out'],
  ['a.b/c:', 'an empty tag'],
  ['a.b/c:-tag', 'a dash before the tag'],
  ['a.b/c:.tag', 'a dot before the tag'],
  [`a.b/c:${'t'.repeat(129)}`, 'a tag that is too long'],
  ['a.b/c:täg', 'a letter outside of the alphabet'],
  ['a.b/c:x y', 'a space'],
  ['a.b/c\n', 'a newline'],
  ['a.b/c@', 'an empty digest'],
  ['a.b/c@latest', 'a tag behind the @'],
  ['a.b/c@sha256:0123', 'a digest too short'],
  [`a.b/c@SHA256:${HEX}`, 'a digest in upper case'],
  [`a.b/c@${DIGEST}@${DIGEST}`, 'two digests'],
  [`a.b/c@${DIGEST}:tag`, 'a tag behind the digest'],
  ['-a.b/c', 'a host that begins with a dash'],
  ['a..b/c', 'a host with an empty label'],
  ['a_b.c/d', 'an underscore in a host'],
  ['localhost:/x', 'an empty port'],
  ['localhost:99999/x', 'a port that cannot be'],
  ['localhost:port/x', 'a port that is no number'],
  ['[::::]/x', 'a malformed address'],
  ['300.300.300.300/x', 'a malformed address'],
  ['https://a.b/c', 'a URL'],
  ['docker://a.b/c', 'a transport'],
  ['a.b/c?tag=d', 'a query'],
  [`a.b/${'c'.repeat(257)}`, 'a name that is too long'],
  [HEX, 'the ID of an image'],
];

describe('parseReference', () => {
  test.each(READ_AS)('reads %s as %s', (text, expected) => {
    expect(formatReference(parseReference(text))).toBe(expected);
  });

  test('has tag and digest both, or latest when it names neither', () => {
    expect(parseReference(`a.b/c:d@${DIGEST}`)).toEqual({ registry: 'a.b', repository: 'c', tag: 'd', digest: DIGEST });
    expect(parseReference(`a.b/c@${DIGEST}`)).toEqual({ registry: 'a.b', repository: 'c', digest: DIGEST });
    expect(parseReference('a.b/c')).toEqual({ registry: 'a.b', repository: 'c', tag: 'latest' });
  });

  test.each(REFUSED)('refuses %j: %s', (text) => {
    expect(() => parseReference(text)).toThrow(
      expect.objectContaining({
        code: 'INVALID',
        message: expect.stringMatching(/^"[^\n]*" is not an image reference: [^\n]+$/),
      }),
    );
  });

  test('accepts the longest repository of ECR in the longest of its hosts', () => {
    const repository = `${'a'.repeat(127)}/${'b'.repeat(128)}`;
    const host = '111111111111.dkr-ecr.ap-southeast-1.on.amazonwebservices.com.cn';
    expect(parseReference(`${host}/${repository}:v1`)).toEqual({ registry: host, repository, tag: 'v1' });
  });

  test.each([
    'AWS:hunter2@a.b/c',
    'AWS:hunter2@a.b:5000/c:d',
    'https://AWS:hunter2@a.b/c',
    'https://AWS:hunt?er2/@a.b/c',
    'AWS:hunter2@localhost:5000',
    'AWS:hunter2@a.b',
    'AWS:hun@ter2@a.b/c',
    'https://b.s3.amazonaws.com/k.tar?X-Amz-Signature=hunter2',
    'b.s3.amazonaws.com/k.tar?X-Amz-Signature=hunter2',
    'a.b/c:d?hunter2',
    `a.b/c?hunter2@${DIGEST}`,
  ])('never repeats a password or a query: %s', (text) => {
    for (const parse of [parseReference, parseRepository]) {
      expect(() => parse(text)).toThrow(
        expect.objectContaining({ code: 'INVALID', message: expect.not.stringMatching(/hunt|er2/) }),
      );
    }
  });

  test('keeps its message short and harmless however long and wild the text is', () => {
    for (const text of [
      `a.b/c:${'x'.repeat(100_000)}`,
      'A'.repeat(100_000),
      `${'x'.repeat(100_000)}.b/c!`,
      '\u001b]0;x\u0007/\u009b',
    ]) {
      try {
        parseReference(text);
        expect.unreachable();
      } catch (error) {
        expect(isFailure(error, 'INVALID')).toBe(true);
        expect(String(error).length).toBeLessThan(1000);
        // oxlint-disable-next-line eslint/no-control-regex -- they are what must not be there
        expect(String(error)).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
      }
    }
  });
});

describe('parseRepository', () => {
  test('reads a repository alone', () => {
    expect(parseRepository('ubuntu')).toEqual({ registry: 'docker.io', repository: 'library/ubuntu' });
    expect(parseRepository('localhost:5000/a/b')).toEqual({ registry: 'localhost:5000', repository: 'a/b' });
  });

  test.each(['ubuntu:latest', `ubuntu@${DIGEST}`, 'localhost:5000', 'a.b/c:d', ''])('refuses %j', (text) => {
    expect(() => parseRepository(text)).toThrow(expect.objectContaining({ code: 'INVALID' }));
  });
});

describe('isTag', () => {
  test.each([
    ['v1', true],
    ['_', true],
    ['1.0-rc_2', true],
    ['t'.repeat(128), true],
    ['t'.repeat(129), false],
    ['', false],
    ['.x', false],
    ['-x', false],
    ['a/b', false],
    ['x\n', false],
    [`sha256-${HEX}.sig`, true],
    [DIGEST, false],
  ])('of %j is %s', (text, expected) => {
    expect(isTag(text)).toBe(expected);
  });
});

const word = fc.stringMatching(/^[a-z0-9]{1,8}$/);
const component = fc
  .array(fc.tuple(fc.constantFrom('.', '_', '__', '-', '---'), word), { maxLength: 2 })
  .chain((rest) => word.map((first) => first + rest.map(([separator, next]) => separator + next).join('')));
const host = fc.oneof(
  fc.constantFrom('localhost', 'docker.io', '127.0.0.1', '[::1]', 'ghcr.io'),
  fc.tuple(word, word).map(([a, b]) => `${a}-x.${b}.example`),
);
const registry = fc.oneof(
  host,
  fc.tuple(host, fc.integer({ min: 0, max: 65_535 })).map(([h, port]) => `${h}:${port}`),
);
const tag = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,20}$/);
const digest = fc.stringMatching(/^sha256:[0-9a-f]{64}$/).map(parseDigest);
const named = fc.oneof(
  fc.record({ tag, digest: fc.constant(undefined) }),
  fc.record({ tag: fc.constant(undefined), digest }),
  fc.record({ tag, digest }),
);
const reference = fc
  .tuple(registry, fc.array(component, { minLength: 1, maxLength: 4 }), named)
  .map(([registryName, components, name]): Reference => {
    const path = components.join('/');
    const repository = registryName === 'docker.io' && components.length === 1 ? `library/${path}` : path;
    return { registry: registryName, repository, tag: name.tag, digest: name.digest };
  });

describe('references', () => {
  test('are the same when written and read again', () => {
    fc.assert(
      fc.property(reference, (r) => {
        expect(parseReference(formatReference(r))).toEqual(r);
        expect(parseRepository(formatRepository(r))).toEqual({ registry: r.registry, repository: r.repository });
      }),
      { numRuns: 300 },
    );
  });

  test('are the same when read, written and read again, and their host can be connected to', () => {
    const text = fc.oneof(
      fc.stringMatching(/^[aZ0.:/@\-_[\]%?#\\ ]{0,20}$/),
      fc.tuple(reference, fc.nat(), fc.string({ unit: 'grapheme', maxLength: 2 })).map(([r, at, noise]) => {
        const whole = formatReference(r);
        const place = at % whole.length;
        return whole.slice(0, place) + noise + whole.slice(place + 1);
      }),
      fc.string({ unit: 'binary' }),
    );
    fc.assert(
      fc.property(text, (t) => {
        let read: Reference;
        try {
          read = parseReference(t);
        } catch (error) {
          expect(isFailure(error, 'INVALID')).toBe(true);
          return;
        }
        expect(parseReference(formatReference(read))).toEqual(read);
        expect(new URL(`https://${read.registry}/v2/${read.repository}/`).pathname).toBe(`/v2/${read.repository}/`);
      }),
      { numRuns: 500 },
    );
  });
});
