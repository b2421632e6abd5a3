import { expect, test } from 'vitest';
import { canonicalHost, fipsHost } from '../../../worker/oci/ecr-host.ts';

test.each([
  ['111111111111.dkr.ecr.eu-west-1.amazonaws.com', '111111111111.dkr.ecr.eu-west-1.amazonaws.com'],
  ['111111111111.dkr.ecr-fips.us-east-1.amazonaws.com', '111111111111.dkr.ecr.us-east-1.amazonaws.com'],
  ['111111111111.dkr-ecr.eu-west-1.on.aws', '111111111111.dkr.ecr.eu-west-1.amazonaws.com'],
  ['111111111111.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn', '111111111111.dkr.ecr.cn-north-1.amazonaws.com.cn'],
  ['registry.example:5000', 'registry.example:5000'],
])('the settings of a registry that is reached as %s are those of %s', (host, canonical) => {
  expect(canonicalHost(host)).toBe(canonical);
});

test.each([
  ['111111111111.dkr.ecr.us-east-1.amazonaws.com', '111111111111.dkr.ecr-fips.us-east-1.amazonaws.com'],
  ['111111111111.dkr.ecr-fips.us-east-1.amazonaws.com', '111111111111.dkr.ecr-fips.us-east-1.amazonaws.com'],
  ['111111111111.dkr-ecr.us-west-2.on.aws', '111111111111.dkr-ecr-fips.us-west-2.on.aws'],
  ['registry.example:5000', 'registry.example:5000'],
  ['1111.dkr.ecr.example', '1111.dkr.ecr.example'],
])('the FIPS host of %s is %s', (host, fips) => {
  expect(fipsHost(host)).toBe(fips);
});
