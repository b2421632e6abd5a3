import type * as Sdk from '@aws-sdk/client-ecr';
import { SDK_TIMEOUTS } from '../../util/sdk-timeouts.ts';

/** How the AWS APIs of a registry are reached. */
export interface AwsAccess {
  /** ARN of the role to assume; absent: as the AWS SDK finds credentials. */
  readonly assumeRole?: string | undefined;
  readonly externalId?: string | undefined;
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
      clientConfig: { ...SDK_TIMEOUTS, region },
    }),
  };
}
