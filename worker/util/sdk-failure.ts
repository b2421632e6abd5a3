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

/** The name that the SDK gives to missing credentials. */
const NO_CREDENTIALS = 'CredentialsProviderError';

/** An error of the SDK as a Failure, naming the IAM action that is missing. */
function sdkFailure(what: string, action: string, error: unknown): Failure {
  if (error instanceof Failure) return error;
  const { name, message } = error instanceof Error ? error : { name: 'Error', message: String(error) };
  const status = httpStatusOf(error);
  // as missing credentials: of the surroundings, not of what was asked for
  if (/^Region (?:is missing|not accepted)/.test(message))
    return new Failure('UNAUTHENTICATED', `${what}: there is no AWS region, or none that can be: set AWS_REGION`);
  const code = codeOfName(name) ?? codeOfRetryableStatus(status) ?? codeOfOther(name, status);
  // a refused AssumeRole names another action than that of the call
  const missing = /not authorized to perform: ([\w-]+:\w+)/.exec(message)?.[1] ?? action;
  const hint =
    code === 'DENIED'
      ? `; the caller needs ${missing}`
      : code === 'UNAUTHENTICATED' && name !== NO_CREDENTIALS
        ? '; check the AWS credentials'
        : '';
  return new Failure(code, `${what}: ${sentenceOf(error, { name, message, status })}${hint}`, {
    cause: error,
    context: {
      ...(status === undefined ? {} : { status }),
      ...(name === NO_CREDENTIALS ? { noCredentials: true } : {}),
      ...(isExpiry(error) ? { expiredCredentials: true } : {}),
    },
  });
}

/** What went wrong, in the words of the service where it answered. */
function sentenceOf(
  error: unknown,
  { name, message, status }: { readonly name: string; readonly message: string; readonly status: number | undefined },
): string {
  if (isUnnamed(name) && status !== undefined) return `the answer was HTTP ${status}, without an error code of AWS`;
  const said = redacted(message.replace(/[\p{Cc}\s]+/gu, ' ')).slice(0, 400);
  if (name === NO_CREDENTIALS)
    return `no AWS credentials were found: log in, or set a profile (${said.replace(/\.$/, '')})`;
  return (status === undefined ? connectionSentence(error, 'AWS') : undefined) ?? `${name}: ${said}`;
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
