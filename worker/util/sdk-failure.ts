import { aborted, type Abortable } from './abort.ts';
import { codeOfName, codeOfRetryableStatus, isExpiry, isUnnamed } from './aws-errors.ts';
import { connectionSentence } from './connection.ts';
import { Failure, type Code } from './failure.ts';
import { redacted } from './text.ts';

/**
 * One call of the AWS SDK. What it throws becomes a Failure that names the IAM action that is missing; `context.noCredentials` where the SDK
 * found none, `context.expiredCredentials` where they have expired.
 */
export async function calling<T>(
  what: string,
  action: string,
  options: Abortable,
  work: (sdkOptions: { abortSignal?: AbortSignal }) => Promise<T>,
): Promise<T> {
  try {
    return await work(options.signal === undefined ? {} : { abortSignal: options.signal });
  } catch (error) {
    if (options.signal?.aborted === true) throw aborted(options.signal);
    throw sdkFailure(what, action, error);
  }
}

/** An error of the SDK as a Failure, naming the IAM action that is missing. */
function sdkFailure(what: string, action: string, error: unknown): Failure {
  if (error instanceof Failure) return error;
  const { name, message } = error instanceof Error ? error : { name: 'Error', message: String(error) };
  const status = httpStatusOf(error);
  // as missing credentials: of the surroundings, not of what was asked for
  if (/^Region (?:is missing|not accepted)/.test(message))
    return new Failure('UNAUTHENTICATED', `${what}: there is no AWS region, or none that can be: set AWS_REGION`);
  const code = codeOfName(name) ?? codeOfRetryableStatus(status) ?? codeOfOther(name, status);
  // of AssumeRole it is another one than of the call itself
  const missing = /not authorized to perform: ([\w-]+:\w+)/.exec(message)?.[1] ?? action;
  const hint =
    code === 'DENIED'
      ? `; the caller needs ${missing}`
      : code === 'UNAUTHENTICATED'
        ? '; check the AWS credentials'
        : '';
  const connection = status === undefined ? connectionSentence(error, 'AWS') : undefined;
  const said =
    isUnnamed(name) && status !== undefined
      ? `the answer was HTTP ${status}, without an error code of AWS`
      : (connection ?? `${name}: ${redacted(message.replace(/[\p{Cc}\s]+/gu, ' ')).slice(0, 400)}`);
  return new Failure(code, `${what}: ${said}${hint}`, {
    cause: error,
    context: {
      ...(status === undefined ? {} : { status }),
      ...(name === 'CredentialsProviderError' ? { noCredentials: true } : {}),
      ...(isExpiry(error) ? { expiredCredentials: true } : {}),
    },
  });
}

/** An answer that no service named came from something in between, and the next one may differ. Below 400 the answer was cut off. */
function codeOfOther(name: string, status: number | undefined): Code {
  return status !== undefined && status >= 400 && status < 500 && !isUnnamed(name) ? 'INVALID' : 'UNAVAILABLE';
}

function httpStatusOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('$metadata' in error)) return undefined;
  const metadata = error.$metadata;
  if (typeof metadata !== 'object' || metadata === null || !('httpStatusCode' in metadata)) return undefined;
  return typeof metadata.httpStatusCode === 'number' ? metadata.httpStatusCode : undefined;
}
