import { regionOf } from './arn.ts';
import type { Refuse } from './refuse.ts';
import type { InfraSettings } from './schema.ts';

/** The Regions where Amazon ECR has FIPS endpoints; there the other services have them too: https://docs.aws.amazon.com/general/latest/gr/ecr.html */
const FIPS_REGIONS = ['us-east-1', 'us-east-2', 'us-west-1', 'us-west-2', 'us-gov-east-1', 'us-gov-west-1'];

/** The environment variable of the AWS SDK for FIPS endpoints, where the settings ask for them. */
export function environmentOfFips({ fips }: Pick<InfraSettings, 'fips'>): Readonly<Record<string, string>> {
  return fips ? { AWS_USE_FIPS_ENDPOINT: 'true' } : {};
}

/** Refuses what has no FIPS endpoint, or none that workers can reach. */
export function checkFips(settings: InfraSettings, refuse: Refuse): void {
  const { access, fips, network, prune, region } = settings;
  if (!fips) return;
  const regions = FIPS_REGIONS.join(', ');
  if (!FIPS_REGIONS.includes(region))
    refuse(['fips'], `Amazon ECR has no FIPS endpoints in ${region}: expected false, or one of the Regions ${regions}`);
  const expected = `AWS is reached at FIPS endpoints only, with fips: true: expected one of the Regions ${regions}`;
  const check = (path: readonly (string | number)[], other: string | undefined): void => {
    if (other !== undefined && other !== region && !FIPS_REGIONS.includes(other)) refuse(path, expected);
  };
  access.repositories.forEach((some, i) => check(['access', 'repositories', i, 'region'], some.region));
  access.secrets.forEach((arn, i) => check(['access', 'secrets', i], regionOf(arn)));
  prune?.repositories.forEach((some, i) => check(['prune', 'repositories', i, 'region'], some.region));
  prune?.scratch.forEach((some, i) => check(['prune', 'scratch', i, 'region'], some.region));
  prune?.secrets.forEach((arn, i) => check(['prune', 'secrets', i], regionOf(arn)));
  // https://github.com/aws/containers-roadmap/issues/1002
  if (network.type === 'own' && network.natGateways === 0)
    refuse(
      ['network', 'natGateways'],
      'with fips: true, workers reach ECR through NAT, because AWS PrivateLink has no FIPS endpoints of ECR: expected 1 to 3',
    );
}
