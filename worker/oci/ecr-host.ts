import { quote } from '../util/text.ts';

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

/** Hosts that only Amazon ECR has, as far as their names show it. */
const LIKE_ECR =
  /^([^./]*)\.dkr[.-]ecr(?:-fips)?\..*(?:amazonaws\.com(?:\.cn)?|on\.aws|on\.amazonwebservices\.com\.cn)(?::[0-9]+)?$/;

/** What is wrong with a host that looks like one of Amazon ECR and cannot be one; undefined for every other host. */
export function ecrHostFault(host: string): string | undefined {
  const account = ecrHost(host) === undefined ? LIKE_ECR.exec(host)?.[1] : undefined;
  if (account === undefined) return undefined;
  const why =
    /^[0-9]+$/.test(account) && account.length !== 12
      ? `its account has ${account.length} digits instead of 12`
      : 'expected ACCOUNT.dkr.ecr.REGION.amazonaws.com, with the 12 digits of an account';
  return `${quote(host)} is not a host of Amazon ECR: ${why}`;
}

/**
 * The FIPS host of a private ECR registry; every other host is unchanged. Only some Regions have one:
 * https://docs.aws.amazon.com/general/latest/gr/ecr.html
 */
export function fipsHost(host: string): string {
  return ecrHost(host) === undefined ? host : host.replace(/\.(dkr[.-]ecr)\./, '.$1-fips.');
}

/** The canonical name of a private ECR registry, which also answers at hosts for FIPS and dual stack; every other host is unchanged. */
export function canonicalHost(host: string): string {
  const ecr = ecrHost(host);
  if (ecr === undefined) return host;
  const suffix = CLASSIC.exec(host)?.[3] ?? (host.endsWith('.cn') ? 'amazonaws.com.cn' : 'amazonaws.com');
  return `${ecr.account}.dkr.ecr.${ecr.region}.${suffix}`;
}
