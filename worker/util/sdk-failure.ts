import { aborted, type Abortable } from './abort.ts';
import { Failure, type Code } from './failure.ts';
import { redacted } from './text.ts';

/**
 * One call of the AWS SDK. What it throws becomes a Failure that names the IAM action that is missing; `context.noCredentials` where the SDK
 * found none.
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

const BY_NAME: readonly (readonly [RegExp, Code])[] = [
  [/^(?:AccessDenied|KmsAccessDenied|UnauthorizedOperation|BlockedByOrganizationPolicy)/, 'DENIED'],
  [
    /^(?:CredentialsProviderError|TokenProviderError|UnrecognizedClient|InvalidSignature|SignatureDoesNotMatch)/,
    'UNAUTHENTICATED',
  ],
  [
    /^(?:ExpiredToken|InvalidClientTokenId|IncompleteSignature|MissingAuthenticationToken|NotAuthorized)/,
    'UNAUTHENTICATED',
  ],
  [/NotFoundException$|^QueueDoesNotExist$/, 'NOT_FOUND'],
  [/AlreadyExistsException$|^MessageNotInflight$/, 'CONFLICT'],
  [
    /^(?:Throttl|TooManyRequests|RequestLimitExceeded|ProvisionedThroughputExceeded|RequestThrottled|KmsThrottled|OverLimit$)/,
    'THROTTLED',
  ],
  [/^LimitExceeded/, 'UNSUPPORTED'],
  [/^(?:InvalidParameter|Validation|InvalidTag|TooManyTags|Kms|Serialization)/, 'INVALID'],
];

/** An error of the SDK as a Failure, naming the IAM action that is missing. */
function sdkFailure(what: string, action: string, error: unknown): Failure {
  if (error instanceof Failure) return error;
  const { name, message } = error instanceof Error ? error : { name: 'Error', message: String(error) };
  const status = httpStatusOf(error);
  // as missing credentials: of the surroundings, not of what was asked for
  if (/^Region (?:is missing|not accepted)/.test(message))
    return new Failure('UNAUTHENTICATED', `${what}: there is no AWS region, or none that can be: set AWS_REGION`);
  const code =
    BY_NAME.find(([pattern]) => pattern.test(name))?.[1] ??
    // below 400 the answer was cut
    (status !== undefined && status >= 400 && status < 500 ? 'INVALID' : 'UNAVAILABLE');
  // of AssumeRole it is another one than of the call itself
  const missing = /not authorized to perform: ([\w-]+:\w+)/.exec(message)?.[1] ?? action;
  const hint =
    code === 'DENIED'
      ? `; the caller needs ${missing}`
      : code === 'UNAUTHENTICATED'
        ? '; check the AWS credentials'
        : '';
  const said = redacted(message.replace(/[\p{Cc}\s]+/gu, ' ')).slice(0, 400);
  return new Failure(code, `${what}: ${name}: ${said}${hint}`, {
    cause: error,
    context: {
      ...(status === undefined ? {} : { status }),
      ...(name === 'CredentialsProviderError' ? { noCredentials: true } : {}),
    },
  });
}

function httpStatusOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('$metadata' in error)) return undefined;
  const metadata = error.$metadata;
  if (typeof metadata !== 'object' || metadata === null || !('httpStatusCode' in metadata)) return undefined;
  return typeof metadata.httpStatusCode === 'number' ? metadata.httpStatusCode : undefined;
}
