import { orAborted } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { keepSecret } from '../util/own-secrets.ts';
import { isRecord } from '../util/record.ts';
import type { Report } from '../util/events.ts';
import { renewingCredentials } from '../util/renew-credentials.ts';
import { calling } from '../util/sdk-failure.ts';
import { SharedPromise } from '../util/shared-promise.ts';
import type { Proxies } from '../util/proxies.ts';
import { sdkRequests } from '../util/sdk-requests.ts';
import type { CredentialLookup, Credentials } from './credentials.ts';

export interface SecretOptions {
  /** The secret, which is read in the region that this names. */
  readonly arn: string;
  readonly clock: Clock;
  readonly report?: Report | undefined;
  /** Default: none. */
  readonly proxies?: Proxies | undefined;
}

type UserPassword = Extract<Credentials, { readonly username: string }>;

/** A secret that is rotated is known by then even if the old one is still good. */
const REUSE_MS = 300_000;
/** Credentials that were refused are read again, but not for each of the requests that were refused at once. */
const REFUSED_REUSE_MS = 10_000;

/**
 * The credentials in a secret of AWS Secrets Manager, read when they are first needed and again every five minutes, or when they were refused. The
 * secret is JSON, `{"username": …, "password": …}`, or with `accessToken` instead of `password` as ECR's pull-through cache has it:
 * https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-creating-secret.html
 *
 * UNAUTHENTICATED, naming the secret and never what is in it, when it cannot be read or does not have that form. While Secrets Manager does not
 * answer, the credentials read before stay in use.
 */
export function secretCredentials(options: SecretOptions): CredentialLookup {
  const secret = new SharedPromise<UserPassword>();
  let readAtMs = -Infinity;

  const read = async (before: Promise<UserPassword> | undefined): Promise<UserPassword> => {
    try {
      return await readSecret(options);
    } catch (error) {
      if (before === undefined || !isFailure(error) || !error.retryable) throw error;
      options.report?.({ type: 'warning', message: `${error.message}; going on with what it was` });
      return before;
    }
  };

  return async (_host, _repository, taskOptions) => {
    const nowMs = options.clock.now();
    const reuseMs = taskOptions.refused === undefined ? REUSE_MS : REFUSED_REUSE_MS;
    const before = secret.current;
    if (before !== undefined && nowMs - readAtMs < reuseMs) return orAborted(before, taskOptions);
    readAtMs = nowMs;
    return orAborted(secret.replace(read(before)), taskOptions);
  };
}

async function readSecret({ arn, proxies }: SecretOptions): Promise<UserPassword> {
  const what = `read the secret ${arn}`;
  const { SecretsManager } = await import('@aws-sdk/client-secrets-manager');
  const region = regionOf(arn);
  const client = renewingCredentials(
    new SecretsManager({
      ...sdkRequests(proxies),
      maxAttempts: 4,
      ...(region === undefined ? {} : { region }),
    }),
  );
  try {
    const needed = 'secretsmanager:GetSecretValue, and kms:Decrypt where the secret has a key of its own';
    const answer = await calling(what, needed, {}, async (sdkOptions) =>
      client.getSecretValue({ SecretId: arn }, sdkOptions),
    );
    return parseSecret(what, answer.SecretString);
  } catch (error) {
    if (!isFailure(error) || error.retryable) throw error;
    // a secret that is not there is no image that is not there
    throw new Failure('UNAUTHENTICATED', error.message, { cause: error.cause, context: error.context });
  } finally {
    client.destroy();
  }
}

function parseSecret(what: string, text: string | undefined): UserPassword {
  const expected = 'expected JSON, {"username": …, "password": …} or {"username": …, "accessToken": …}';
  let body: unknown;
  try {
    body = JSON.parse(text ?? '');
  } catch {
    // the parser's own message quotes what is in it
    throw new Failure('UNAUTHENTICATED', `${what}: it is not JSON text; ${expected}`);
  }
  const { username, password, accessToken } = isRecord(body) ? body : {};
  const secret = password ?? accessToken;
  if (typeof secret === 'string') keepSecret(secret);
  if (typeof username === 'string' && username !== '' && typeof secret === 'string' && secret !== '')
    return { username, password: secret };
  throw new Failure('UNAUTHENTICATED', `${what}: a user name or a password is missing in it; ${expected}`);
}

/** `arn:aws:secretsmanager:REGION:account:secret:name-6letters` */
function regionOf(arn: string): string | undefined {
  const region = arn.split(':')[3];
  return region === undefined || region === '' ? undefined : region;
}
