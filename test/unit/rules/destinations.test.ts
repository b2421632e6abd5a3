import { describe, expect, test } from 'vitest';
import { digestOf } from '../../../worker/oci/digest.ts';
import { parseReference, type Reference } from '../../../worker/oci/reference.ts';
import { choicesKey, destinationKey, destinationsOf, parseTemplate } from '../../../worker/rules/destinations.ts';
import type { CopyRule } from '../../../worker/rules/rule.ts';

const ECR = '111111111111.dkr.ecr.us-east-1.amazonaws.com';
const NOW = Date.parse('2026-11-21T12:00:00Z');
const digest = digestOf(Buffer.from('x'));
const hex = digest.slice('sha256:'.length);
const image = parseReference(`${ECR}/team/app:v1`);
const untagged: Reference = { registry: ECR, repository: 'team/app', digest };

function locations(kind: CopyRule['kind'], to: string, of: Reference = image): string | undefined {
  return destinationsOf({ kind, to: [to] }, of, digest, NOW)[0]?.location;
}

describe('of a mirror', () => {
  test.each([
    ['r.example/hub/{repository}', 'docker://r.example/hub/team/app:v1'],
    ['r.example/hub/', 'docker://r.example/hub/team/app:v1'],
    ['docker://r.example/{repository}:{tag}', 'docker://r.example/team/app:v1'],
    ['r.example/{repository}:{tag}-{date}', 'docker://r.example/team/app:v1-2026-11-21'],
    ['r.example/{region}/{account}/{repository}', 'docker://r.example/us-east-1/111111111111/team/app:v1'],
    ['r.example/app:stable', 'docker://r.example/app:stable'],
    ['localhost:5000/x', 'docker://localhost:5000/x:v1'],
    ['index.docker.io/me/{repository}', 'docker://docker.io/me/team/app:v1'],
  ])('%s', (to, expected) => expect(locations('mirror', to)).toBe(expected));

  test('an untagged image is named by its digest, where the template has no tag of its own', () => {
    expect(locations('mirror', 'r.example/{repository}', untagged)).toBe(`docker://r.example/team/app@${digest}`);
    expect(locations('mirror', 'r.example/{repository}:{tag}', untagged)).toBe(`docker://r.example/team/app@${digest}`);
    expect(locations('mirror', 'r.example/x:a-{digest}', untagged)).toBe(`docker://r.example/x:a-${hex}`);
  });

  test.each([
    ['s3://bucket/x', 'written to a registry'],
    ['oci-archive://x', 'written to a registry'],
    ['{repository}', 'names no host'],
    ['{registry}/{repository}', 'names no host'],
    ['me/{repository}', 'names no host'],
    ['r.example', 'names no host'],
    ['{registry}.example/x', 'names no host'],
    [`r.example/x@${digest}`, 'cannot name a digest'],
    ['r.example/{name}', '{name} is not one of'],
    ['r.example/{repository', 'a brace is not closed'],
    ['r.example/UPPER', 'lower case'],
    ['r.example/x:-{tag}', 'cannot be a tag'],
  ])('%s is refused', (to, why) => {
    expect(() => parseTemplate('mirror', to)).toThrow(
      expect.objectContaining({ code: 'INVALID', message: expect.stringContaining(why) }),
    );
  });

  test('a password is not repeated', () => {
    expect(() => parseTemplate('mirror', 'me:hunter2@r.example/x')).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('hunter2') }),
    );
  });

  test('an impossible name of an image is reported', () => {
    const upper: Reference = { ...image, tag: 'V1' };
    expect(() => locations('mirror', 'r.example/{tag}', upper)).toThrow(expect.objectContaining({ code: 'INVALID' }));
    const long: Reference = { ...image, tag: 'a'.repeat(128) };
    expect(() => locations('mirror', 'r.example/x:{tag}-{date}', long)).toThrow('which cannot be a tag');
  });
});

describe('of a backup', () => {
  test.each([
    ['s3://bucket', 's3://bucket/us-east-1/team/app/v1.tar'],
    ['s3://bucket/', 's3://bucket/us-east-1/team/app/v1.tar'],
    ['s3://bucket/old/', 's3://bucket/old/us-east-1/team/app/v1.tar'],
    ['s3://bucket/{date}/{repository}-{digest}.tar', `s3://bucket/2026-11-21/team/app-${hex}.tar`],
  ])('%s', (to, expected) => expect(locations('backup', to)).toBe(expected));

  test('an untagged image has its digest in place of the tag', () => {
    expect(locations('backup', 's3://bucket/{repository}/{tag}.tar', untagged)).toBe(
      `s3://bucket/team/app/sha256-${hex}.tar`,
    );
  });

  test('an unknown digest, and a key that is too long, are reported', () => {
    const rule = { kind: 'backup', to: ['s3://bucket/{digest}'] } as const;
    expect(() => destinationsOf(rule, image, undefined, NOW)).toThrow('the image has no {digest}');
    expect(() => locations('backup', `s3://bucket/${'x'.repeat(1024)}/{tag}`, image)).toThrow('more than 1024 bytes');
  });

  test.each(['r.example/x', 'oci-archive:x.tar', 's3://UPPER/x', 's3://bucket/{x}'])('%s is refused', (to) => {
    expect(() => parseTemplate('backup', to)).toThrow(expect.objectContaining({ code: 'INVALID' }));
  });
});

test('a rule has a destination for each of its templates, in order', () => {
  const to = ['r.example/b/{repository}', 'r.example/a/{repository}'];
  expect(destinationsOf({ kind: 'mirror', to }, image, digest, NOW)).toEqual([
    { group: 'docker://r.example/b/team/app', name: 'v1', location: 'docker://r.example/b/team/app:v1' },
    { group: 'docker://r.example/a/team/app', name: 'v1', location: 'docker://r.example/a/team/app:v1' },
  ]);
});

describe('the key of a destination in the state', () => {
  test.each([
    ['docker://r.example/a/b:v1', 'docker://r.example/a/b', 'v1'],
    [`docker://r.example/a@${digest}`, 'docker://r.example/a', `@${digest}`],
    [
      'docker://111111111111.dkr.ecr-fips.us-east-1.amazonaws.com/a:v1',
      'docker://111111111111.dkr.ecr.us-east-1.amazonaws.com/a',
      'v1',
    ],
    ['s3://bucket/a/b/v1.tar', 's3://bucket/a/b', 'v1.tar'],
    ['s3://bucket/v1.tar', 's3://bucket', 'v1.tar'],
    ['s3://bucket//v1.tar', 's3://bucket/', 'v1.tar'],
  ])('%s', (location, group, name) => expect(destinationKey(location)).toEqual({ group, name }));

  test('does not exist for a file', () =>
    expect(() => destinationKey('oci-archive:x.tar')).toThrow('expected docker://'));

  test('has equal choices where the copied content is equal', () => {
    expect(choicesKey({})).toBe(choicesKey({ platforms: [], referrers: true }));
    expect(choicesKey({ platforms: ['linux/b', 'linux/a'] })).toBe(
      choicesKey({ platforms: ['linux/a', 'linux/b', 'linux/a'] }),
    );
    const different = [
      {},
      { referrers: false },
      { platforms: ['linux/a'] },
      { platforms: ['linux/a'], referrers: false },
    ];
    expect(new Set(different.map(choicesKey)).size).toBe(different.length);
  });
});
