import type * as Sdk from '@aws-sdk/client-ecr';
import type { Proxies } from '../../util/proxies.ts';
import { sdkRequests } from '../../util/sdk-requests.ts';

/** How the AWS APIs of a registry are reached. */
export interface AwsAccess {
  /** ARN of the role to assume; absent: as the AWS SDK finds credentials. */
  readonly assumeRole?: string | undefined;
  readonly externalId?: string | undefined;
  /** Whether ECR is reached at its FIPS endpoints, under whichever host a registry is named. Default: only one that is named by its FIPS host. */
  readonly fips?: boolean | undefined;
  /** Default: none. */
  readonly proxies?: Proxies | undefined;
}

/** The options of a client that assumes the role of `access`; empty where none is named. */
export async function credentialsOf(
  access: AwsAccess,
  region: string,
): Promise<Pick<Sdk.ECRClientConfig, 'credentials'>> {
  if (access.assumeRole === undefined) return {};
  const { fromTemporaryCredentials } = await import('@aws-sdk/credential-providers');
  return {
    credentials: fromTemporaryCredentials({
      params: {
        RoleArn: access.assumeRole,
        RoleSessionName: 'transship',
        ...(access.externalId === undefined ? {} : { ExternalId: access.externalId }),
      },
      clientConfig: { ...sdkRequests(access.proxies), region },
    }),
  };
}
