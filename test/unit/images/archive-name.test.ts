import { describe, expect, test } from 'vitest';
import { isNamedByKey } from '../../../worker/images/archive-name.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import type { Reference } from '../../../worker/oci/reference.ts';

const PAYMENTS: Reference = {
  registry: '111111111111.dkr.ecr.us-east-1.amazonaws.com',
  repository: 'prod/payments',
  tag: 'latest',
};

function isNamed(key: string, prefix = '', image: Partial<Reference> = {}): boolean {
  return isNamedByKey({ transport: 's3', bucket: 'b', key }, prefix, { ...PAYMENTS, ...image });
}

describe('an archive of prod/payments:latest is named by its key', () => {
  test.each([
    ['us-east-1/prod/payments/latest.tar', ''],
    ['nightly/us-east-1/prod/payments/latest.tar.zst', ''],
    ['nightly/us-east-1/prod/payments/latest.tar.gz', 'nightly/'],
    ['us-east-1/prod/payments/latest.tar', 'us-east-1/prod/'],
    ['us-east-1/prod/payments/latest.tar', 'us-east-1/prod/payments/'],
    ['prod/payments/latest.tar', ''],
    ['x/prod/payments/latest.tar', 'x/'],
    ['111111111111/us-east-1/prod/payments/latest.tar', ''],
    [`${PAYMENTS.registry}/prod/payments/latest.tar`, ''],
    ['2026-11-30/prod/payments/latest.tar', ''],
    ['2026-11-30/us-east-1/prod/payments/latest.tar', ''],
    ['us-east-1/2026-11-30/prod/payments/latest.tar', ''],
    ['nightly/2026-11-30/prod/payments/latest.tar', 'nightly/'],
  ])('%s below "%s"', (key, prefix) => {
    expect(isNamed(key, prefix)).toBe(true);
  });

  test('in a folder of files', () => {
    const path = './out//us-east-1/prod/payments/latest.tar';
    expect(isNamedByKey({ transport: 'archive', path }, './out//', PAYMENTS)).toBe(true);
  });

  test('by its digest where it has no tag', () => {
    const digest = digestOf(Buffer.from('x'));
    const key = `us-east-1/prod/payments/${digest.replace(':', '-')}.tar`;
    expect(isNamed(key, '', { tag: undefined, digest })).toBe(true);
  });
});

describe('an archive of prod/payments:latest is not named by its key', () => {
  test.each([
    ['unimportant/x.tar', '', 'another name'],
    ['us-east-1/prod/payments/v1.tar', '', 'another tag'],
    ['us-east-1/other-prod/payments/latest.tar', '', 'the end of another name'],
    ['eu-west-1/prod/payments/latest.tar', '', 'another region'],
    ['unimportant/prod/payments/latest.tar', '', 'a folder that is not a registry'],
    ['us-east-1/unimportant/us-east-1/prod/payments/latest.tar', '', 'the folder of another repository'],
    ['z/us-east-1/unimportant/us-east-1/prod/payments/latest.tar', 'z/', 'the folder of another repository'],
    ['2026-11-30/unimportant/prod/payments/latest.tar', '', 'a date and a folder'],
    ['2026-11-30/eu-west-1/prod/payments/latest.tar', '', 'a date and another region'],
    ['2026-99-99/prod/payments/latest.tar', '', 'an impossible date'],
    ['us-east-1/prod/payments/latest', '', 'a key without the ending of an archive'],
  ])('%s below "%s": %s', (key, prefix) => {
    expect(isNamed(key, prefix)).toBe(false);
  });

  test('when the region of its invented registry is the folder of another repository', () => {
    const registry = '111111111111.dkr.ecr.unimportant.amazonaws.com';
    expect(isNamed('unimportant/prod/payments/latest.tar', '', { registry })).toBe(false);
  });
});
