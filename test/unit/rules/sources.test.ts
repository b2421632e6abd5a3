import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { matchesPattern } from '../../../worker/oci/location.ts';
import { expandBraces, formatSource, parseSource, sourcesOf } from '../../../worker/rules/sources.ts';

const ECR = '111111111111.dkr.ecr.us-east-1.amazonaws.com';

describe('a source', () => {
  test.each([
    ['alpine', ['docker.io/library/alpine']],
    ['docker://docker.io/alpine', ['docker.io/library/alpine']],
    ['index.docker.io/bitnami/*', ['docker.io/bitnami/*']],
    ['{alpine,bitnami/redis}', ['docker.io/library/alpine', 'docker.io/bitnami/redis']],
    ['docker.io/library/{alpine,node}', ['docker.io/library/alpine', 'docker.io/library/node']],
    ['r.example/{a,b{c,d}}/*', ['r.example/a/*', 'r.example/bc/*', 'r.example/bd/*']],
    ['localhost:5000/x', ['localhost:5000/x']],
    ['localhost:5000/*', ['localhost:5000/*']],
    [ECR, [`${ECR}/*`]],
    [`${ECR}/`, [`${ECR}/*`]],
    [`${ECR}/*`, [`${ECR}/*`]],
  ])('%s', (text, expected) => expect(parseSource(text).map(formatSource)).toEqual(expected));

  test.each([
    ['r.example', 'stands for all of that registry'],
    ['alpine:3.20', 'tags go under "tags"'],
    ['r.example/{a,b}:v*', 'tags go under "tags"'],
    [`r.example/x@sha256:${'0'.repeat(64)}`, 'by digest'],
    ['library/*', 'names its registry'],
    ['r.example/{a', 'a brace is not closed'],
    ['r.example/A*', 'cannot match a repository'],
    ['https://r.example/x', 'not a URL'],
    ['s3://bucket/x', 'not a URL'],
    [`r.example/${'{a,b}'.repeat(10)}`, 'more than 1000 names'],
  ])('%s is refused', (text, why) => {
    expect(() => parseSource(text)).toThrow(
      expect.objectContaining({ code: 'INVALID', message: expect.stringContaining(why) }),
    );
  });

  test('has a common prefix of its names, and the full name where there is only one', () => {
    expect(parseSource('r.example/a/{b*,c}').map(({ prefix }) => prefix)).toEqual(['a/b', 'a/c']);
  });
});

test('is listed once in a rule', () => {
  const from = ['alpine', 'docker.io/library/{alpine,node}', ECR, `${ECR}/*`];
  expect(sourcesOf({ from }).map(formatSource)).toEqual([
    'docker.io/library/alpine',
    'docker.io/library/node',
    `${ECR}/*`,
  ]);
});

test('matches the repositories of its own registry', () => {
  const sources = sourcesOf({ from: [`${ECR}/product/*`, 'alpine'] });
  const matching = (repository: string): readonly string[] =>
    sources.filter(({ pattern }) => matchesPattern(pattern, repository)).map(({ registry }) => registry);
  expect(matching('product/a/b')).toEqual([ECR]);
  expect(matching('product')).toEqual([]);
  expect(matching('library/alpine')).toEqual(['docker.io']);
});

test('with braces expanded matches what the pattern matches', () => {
  const plain = fc.constantFrom('a', 'b', '*', '/');
  const braces = <T>(of: fc.Arbitrary<T>): fc.Arbitrary<string> =>
    fc.array(of, { minLength: 1, maxLength: 3 }).map((parts) => `{${parts.join(',')}}`);
  const inner = fc.array(fc.oneof(plain, braces(plain)), { maxLength: 2 }).map((pieces) => pieces.join(''));
  const pattern = fc.array(fc.oneof(plain, braces(inner)), { maxLength: 2 }).map((pieces) => pieces.join(''));
  const name = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 5 });
  fc.assert(
    fc.property(pattern, fc.array(name, { maxLength: 10 }), (p, names) => {
      const expanded = expandBraces(p);
      for (const n of names) {
        expect([p, n, expanded.some((e) => matchesPattern(e, n))]).toEqual([p, n, matchesPattern(p, n)]);
      }
    }),
    { numRuns: 300 },
  );
});
