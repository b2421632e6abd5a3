import { orAborted } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { isFailure } from '../../util/failure.ts';
import type { Report } from '../../util/events.ts';
import { renewingCredentials } from '../../util/renew-credentials.ts';
import { calling } from '../../util/sdk-failure.ts';
import { sdkRequests } from '../../util/sdk-requests.ts';
import { SharedPromise } from '../../util/shared-promise.ts';
import type { CredentialLookup } from '../credentials.ts';
import { credentialsOf, type AwsAccess } from './aws-access.ts';

export interface EcrPublicOptions extends AwsAccess {
  readonly credentials: CredentialLookup;
  readonly clock: Clock;
  readonly report?: Report | undefined;
}

interface PublicToken {
  /** Undefined where there are no AWS credentials, or they do not allow it. */
  readonly password: string | undefined;
  readonly untilMs: number;
}

export const ECR_PUBLIC_HOST = 'public.ecr.aws';
/** The only region that has this API: https://docs.aws.amazon.com/AmazonECR/latest/public/public-registry-auth.html */
const REGION = 'us-east-1';
/** How long an answer is kept, a refusal included. Less than the token's twelve hours, so that changed permissions are noticed. */
const REUSE_MS = 600_000;

/**
 * Credentials for ECR Public from its own API, for sign-in by challenge. Where there are no AWS credentials, or they do not allow it, returns
 * those of `options.credentials`; without any the image is read anonymously. With `fips` its API is not asked: no FIPS endpoint of it is documented.
 */
export function ecrPublicCredentials(options: EcrPublicOptions): CredentialLookup {
  if (options.fips === true) return options.credentials;
  const token = new SharedPromise<PublicToken>();
  return async (host, repository, taskOptions) => {
    const kept = token.get(async () => fetchPublicToken(options));
    const { password, untilMs } = await orAborted(kept, taskOptions);
    if (untilMs <= options.clock.now()) token.forget(kept);
    return password === undefined ? options.credentials(host, repository, taskOptions) : { username: 'AWS', password };
  };
}

async function fetchPublicToken(options: EcrPublicOptions): Promise<PublicToken> {
  const what = `sign in to ${ECR_PUBLIC_HOST}`;
  const { ECRPUBLIC } = await import('@aws-sdk/client-ecr-public');
  const client = renewingCredentials(
    new ECRPUBLIC({
      ...sdkRequests(options.proxies),
      region: REGION,
      ...(await credentialsOf(options, REGION)),
    }),
  );
  const untilMs = options.clock.now() + REUSE_MS;
  try {
    const needed = 'ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken';
    const answer = await calling(what, needed, {}, async (sdkOptions) => client.getAuthorizationToken({}, sdkOptions));
    const decoded = Buffer.from(answer.authorizationData?.authorizationToken ?? '', 'base64').toString();
    return { password: decoded.slice(decoded.indexOf(':') + 1), untilMs };
  } catch (error) {
    if (!isFailure(error, 'UNAUTHENTICATED', 'DENIED')) throw error;
    if (error.context['noCredentials'] !== true)
      options.report?.({ type: 'warning', message: `${error.message}; going on without` });
    return { password: undefined, untilMs };
  } finally {
    client.destroy();
  }
}
