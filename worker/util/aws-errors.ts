import type { Code } from './failure.ts';

/** What an error of AWS means, whichever service returned it. */
interface Row {
  /** The names of the error, without the ending `Exception`. A `*` at the start or the end stands for anything. */
  readonly names: readonly string[];
  readonly code: Code;
  readonly source: string;
}

const COMMON = 'https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html';
const RETRIES = 'https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html';
const S3 = 'https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html';
const DYNAMODB = 'https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html';
const SQS = 'https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html';
const SQS_SEND = 'https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html';
const SQS_EXTEND =
  'https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html';
const ECR = 'https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html';
const KMS = 'https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateDataKey.html';
const PROVIDERS = 'https://docs.aws.amazon.com/sdk-for-javascript/v3/developer-guide/setting-credentials-node.html';

/** Expired credentials: the provider may have new ones already. */
const EXPIRED: Row = { names: ['ExpiredToken', 'TokenRefreshRequired'], code: 'UNAUTHENTICATED', source: S3 };

/** Every error of AWS that is known. The first row that matches decides. */
const ROWS: readonly Row[] = [
  EXPIRED,
  // clock skew, or a slow request: the next attempt is signed with the time that the SDK has corrected
  { names: ['RequestExpired', 'RequestInTheFuture'], code: 'UNAVAILABLE', source: COMMON },
  { names: ['RequestTimeTooSkewed'], code: 'UNAVAILABLE', source: S3 },
  { names: ['RequestAborted'], code: 'UNAVAILABLE', source: SQS },
  { names: ['RequestTimeout', 'TimeoutError'], code: 'UNAVAILABLE', source: RETRIES },
  {
    names: ['InternalFailure', 'InternalError', 'InternalServerError', 'ServiceUnavailable'],
    code: 'UNAVAILABLE',
    source: COMMON,
  },
  { names: ['ReplicatedWriteConflict', 'TransactionConflict'], code: 'UNAVAILABLE', source: DYNAMODB },
  {
    names: ['BadDigest', 'IncompleteBody', 'NoSuchUpload', 'ConditionalRequestConflict', 'OperationAborted'],
    code: 'UNAVAILABLE',
    source: S3,
  },
  {
    names: [
      'Throttl*',
      'TooManyRequests',
      'RequestLimitExceeded',
      'RequestThrottled',
      'BandwidthLimitExceeded',
      'PriorRequestNotComplete',
      'EC2Throttled',
      'SlowDown',
      'TransactionInProgress',
    ],
    code: 'THROTTLED',
    source: RETRIES,
  },
  { names: ['ProvisionedThroughputExceeded'], code: 'THROTTLED', source: DYNAMODB },
  { names: ['KmsThrottled', 'KMS.Throttling'], code: 'THROTTLED', source: SQS_SEND },
  { names: ['OverLimit'], code: 'THROTTLED', source: SQS },
  { names: ['AccessDenied*', 'UnauthorizedOperation', 'OptInRequired'], code: 'DENIED', source: COMMON },
  { names: ['KmsAccessDenied'], code: 'DENIED', source: SQS_SEND },
  { names: ['BlockedByOrganizationPolicy'], code: 'DENIED', source: ECR },
  { names: ['AllAccessDisabled', 'AccountProblem', 'Forbidden'], code: 'DENIED', source: S3 },
  {
    names: ['CredentialsProviderError', 'TokenProviderError'],
    code: 'UNAUTHENTICATED',
    source: PROVIDERS,
  },
  {
    names: [
      'UnrecognizedClient',
      'InvalidClientTokenId',
      'IncompleteSignature',
      'MissingAuthenticationToken',
      'NotAuthorized',
    ],
    code: 'UNAUTHENTICATED',
    source: COMMON,
  },
  {
    names: ['InvalidSignature', 'InvalidAccessKeyId', 'InvalidToken', 'SignatureDoesNotMatch'],
    code: 'UNAUTHENTICATED',
    source: S3,
  },
  // of the key that encrypts an object: a key that does not exist must not pass for an object that does not
  { names: ['KMS.Internal', 'KMS.KMSInternal', 'KMS.DependencyTimeout'], code: 'UNAVAILABLE', source: KMS },
  { names: ['KMS.*'], code: 'INVALID', source: KMS },
  { names: ['NoSuchBucket', 'NoSuchKey', 'NoSuchVersion', '*NotFound'], code: 'NOT_FOUND', source: S3 },
  { names: ['QueueDoesNotExist'], code: 'NOT_FOUND', source: SQS },
  { names: ['PreconditionFailed'], code: 'CONFLICT', source: S3 },
  { names: ['*AlreadyExists'], code: 'CONFLICT', source: ECR },
  { names: ['MessageNotInflight'], code: 'CONFLICT', source: SQS_EXTEND },
  { names: ['InvalidObjectState'], code: 'UNSUPPORTED', source: S3 },
  { names: ['LimitExceeded'], code: 'UNSUPPORTED', source: ECR },
  {
    names: [
      'PermanentRedirect',
      'TemporaryRedirect',
      'IllegalLocationConstraint',
      'AuthorizationHeaderMalformed',
      'EntityTooLarge',
      'EntityTooSmall',
      'MetadataTooLarge',
      'KeyTooLongError',
      'InvalidBucketName',
    ],
    code: 'INVALID',
    source: S3,
  },
  { names: ['Validation*', 'InvalidParameter*', 'Serialization*'], code: 'INVALID', source: COMMON },
  { names: ['InvalidTag*', 'TooManyTags'], code: 'INVALID', source: ECR },
  { names: ['Kms*'], code: 'INVALID', source: SQS_SEND },
];

/** The names that the SDK gives to an answer without a code of its service: the answer of a proxy, or one without a body. */
const UNNAMED: ReadonlySet<string> = new Set(['', 'Unknown', 'UnknownError', 'Error', 'SyntaxError']);

/** The code of an error that AWS names; undefined for a name that is not in the table. */
export function codeOfName(name: string): Code | undefined {
  return ROWS.find((row) => isOneOf(name, row))?.code;
}

/** Whether no service named the error, so that a proxy answered, or there was no body. */
export function isUnnamed(name: string): boolean {
  return UNNAMED.has(name);
}

/** THROTTLED or UNAVAILABLE for an HTTP status that asks for another attempt, whatever the name of the error; undefined for others. */
export function codeOfRetryableStatus(status: number | undefined): Code | undefined {
  // https://www.rfc-editor.org/rfc/rfc9110#section-15.5.9 and https://www.rfc-editor.org/rfc/rfc8470#section-5.2
  if (status === 408 || status === 425) return 'UNAVAILABLE';
  // https://www.rfc-editor.org/rfc/rfc6585#section-4
  return status === 429 ? 'THROTTLED' : undefined;
}

/** Whether AWS answered that the credentials have expired. */
export function isExpiry(error: unknown): boolean {
  return error instanceof Error && isOneOf(error.name, EXPIRED);
}

function isOneOf(name: string, { names }: Row): boolean {
  const short = name.replace(/Exception$/u, '');
  return names.some((wanted) => {
    if (wanted.startsWith('*')) return short.endsWith(wanted.slice(1));
    return wanted.endsWith('*') ? short.startsWith(wanted.slice(0, -1)) : short === wanted;
  });
}
