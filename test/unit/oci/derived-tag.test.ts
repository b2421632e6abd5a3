import { describe, expect, test } from 'vitest';
import { cosignSubject, isDerivedTag, referrersTag } from '../../../worker/oci/derived-tag.ts';
import { digestOf } from '../../../worker/oci/digest.ts';

describe('isDerivedTag', () => {
  const hex = '0f'.repeat(32);
  test.each([`sha256-${hex}.sig`, `sha256-${hex}.att`, `sha256-${hex}.sbom`, `sha256-${hex}`, `sha512-${hex}`])(
    'is true of %s',
    (name) => expect(isDerivedTag(name)).toBe(true),
  );
  test.each(['v1', `sha256-${hex}.vex`, `sha256-${hex.slice(1)}.sig`, `x-sha256-${hex}.sig`, `sha256-${hex}0`])(
    'is false of %s, which no tool looks for',
    (name) => expect(isDerivedTag(name)).toBe(false),
  );
});

describe('referrersTag', () => {
  test('is the digest as a tag, for sha512 its first 64 hex digits', () => {
    const sha256 = digestOf(Buffer.from('x'));
    expect(referrersTag(sha256)).toBe(sha256.replace(':', '-'));
    const sha512 = digestOf(Buffer.from('x'), 'sha512');
    expect(referrersTag(sha512)).toBe(sha512.slice(0, 7 + 64).replace(':', '-'));
  });
});

test('cosignSubject is the digest in a cosign tag, and undefined for other tags', () => {
  const hex = '0f'.repeat(32);
  expect(['sig', 'att', 'sbom'].map((suffix) => cosignSubject(`sha256-${hex}.${suffix}`))).toEqual(
    Array(3).fill(`sha256:${hex}`),
  );
  expect(['v1', `sha256-${hex}`, `sha256-${hex}.vex`].map(cosignSubject)).toEqual([undefined, undefined, undefined]);
});
