/** A private registry of Amazon ECR, as its host names it. */
export interface EcrHost {
  readonly account: string;
  readonly region: string;
}

// https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-requests.html
const CLASSIC =
  /^([0-9]{12})\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.(amazonaws\.com(?:\.cn)?|sc2s\.sgov\.gov|c2s\.ic\.gov)$/;
const DUAL_STACK = /^([0-9]{12})\.dkr-ecr(?:-fips)?\.([a-z0-9-]+)\.on\.(?:aws|amazonwebservices\.com\.cn)$/;

/** The account and region of a private ECR registry; undefined for every other host. */
export function ecrHost(host: string): EcrHost | undefined {
  const match = CLASSIC.exec(host) ?? DUAL_STACK.exec(host);
  const [, account, region] = match ?? [];
  return account === undefined || region === undefined ? undefined : { account, region };
}

/** The canonical name of a private ECR registry, which also answers at hosts for FIPS and dual stack; every other host is unchanged. */
export function canonicalHost(host: string): string {
  const ecr = ecrHost(host);
  if (ecr === undefined) return host;
  const suffix = CLASSIC.exec(host)?.[3] ?? (host.endsWith('.cn') ? 'amazonaws.com.cn' : 'amazonaws.com');
  return `${ecr.account}.dkr.ecr.${ecr.region}.${suffix}`;
}
