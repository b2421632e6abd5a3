import { codeOfName, codeOfRetryableStatus, isExpiry, isUnnamed } from '../../util/aws-errors.ts';
import { connectionSentence, networkCode } from '../../util/connection.ts';
import { Failure, type Code } from '../../util/failure.ts';

/** What was being done when S3 refused it. */
interface S3Call {
  /** `read`, `write`, … */
  readonly doing: string;
  readonly bucket: string;
  /** `s3://bucket/key` or `s3://bucket`. */
  readonly url: string;
  /** The IAM action that it takes. */
  readonly action: string;
  /** True for a HEAD, whose answer has no code even when it comes from S3, so that its status decides. Default false. */
  readonly withoutBody?: boolean | undefined;
  /** The KMS key that encrypts what is written; absent: as the bucket is set. */
  readonly kmsKeyId?: string | undefined;
  /** Whether the request said that we pay for it. Default false. */
  readonly requesterPays?: boolean | undefined;
}

/**
 * What the SDK threw as a Failure: the code that S3 sent decides, then the HTTP status, then the kind of network error. `context.error` is
 * S3's code, `context.noCredentials` where the SDK found none, `context.expiredCredentials` where they have expired, `context.unsupported` where
 * the server does not know what a header asks for. Nothing of the request is kept, since S3 repeats key ids and what was signed in its answers.
 */
export function s3Failure(thrown: unknown, call: S3Call): Failure {
  if (thrown instanceof Failure) return thrown;
  const error = parseError(thrown, call);
  const { code, what } = error.status === undefined ? fromNetwork(error) : fromService(error, call);
  const { name, status, requestId, retryAfterMs } = error;
  return new Failure(code, `${call.doing} ${call.url}: ${what}`, {
    // a network error names only hosts and sockets
    ...(status === undefined ? { cause: thrown } : {}),
    context: {
      location: call.url,
      status,
      error: name,
      requestId,
      retryAfterMs,
      ...(name === 'CredentialsProviderError' ? { noCredentials: true } : {}),
      ...(isExpiry(thrown) ? { expiredCredentials: true } : {}),
      ...(isOfHeader(error) ? { unsupported: true } : {}),
    },
  });
}

/** Whether the server refused the request because it does not know what one of its headers asks for. */
export function isUnsupported(error: unknown): error is Failure {
  return error instanceof Failure && error.context['unsupported'] === true;
}

/** Amazon and most others answer 501. Backblaze answers 400 "Unsupported header 'x-amz-checksum-crc32' received for this API call.". */
function isOfHeader({ name, status, message }: S3Error): boolean {
  if (codeOfName(name) !== undefined) return false;
  return status === 501 || (status === 400 && /unsupported|not (?:supported|implemented)/iu.test(message));
}

/** Whether S3 answered with one of these codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html */
export function isS3Error(error: unknown, ...names: readonly string[]): boolean {
  return error instanceof Failure && names.includes(String(error.context['error']));
}

/** Whether S3 refused the request because a condition does not hold. */
export function isRefusal(error: unknown): error is Failure {
  // If-Match on what is not there: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
  return isS3Error(error, 'PreconditionFailed', 'NoSuchKey');
}

/** CONFLICT of a write to `url` that S3 refused. */
export function refused(url: string, cause: Failure): Failure {
  const what = isS3Error(cause, 'NoSuchKey') ? 'removed' : 'wrote';
  return new Failure('CONFLICT', `write ${url}: another process ${what} it in the meantime`, {
    context: cause.context,
  });
}

interface S3Error {
  readonly name: string;
  readonly message: string;
  /** Absent when no answer came. */
  readonly status: number | undefined;
  /** Node's code of a network error. */
  readonly errno: string | undefined;
  /** The sentence for a network error. */
  readonly connection: string | undefined;
  readonly requestId: string | undefined;
  readonly region: string | undefined;
  readonly retryAfterMs: number | undefined;
}

interface Verdict {
  readonly code: Code;
  readonly what: string;
}

/** What S3 answered to a call. */
interface Answer {
  readonly name: string;
  /** The sentence that came with it, as part of one of ours. */
  readonly said: string;
  readonly region: string | undefined;
  readonly call: S3Call;
}

/** The message for some of S3's codes. Their `Code` is in `aws-errors.ts`. */
interface Meaning {
  /** S3's codes. */
  readonly names: readonly string[];
  readonly what: string | ((answer: Answer) => string);
}

const MEANINGS: readonly Meaning[] = [
  {
    names: ['NoSuchBucket'],
    what: ({ call }) => `there is no bucket ${call.bucket}: check its name, or create it`,
  },
  { names: ['NoSuchKey', 'NotFound'], what: 'there is no such object' },
  { names: ['NoSuchVersion'], what: 'that version of it was deleted' },
  {
    names: ['NoSuchUpload'],
    what: 'another process aborted the unfinished upload: start it again',
  },
  { names: ['PreconditionFailed'], what: 'another process wrote it in the meantime' },
  {
    names: ['ConditionalRequestConflict', 'OperationAborted'],
    what: 'another process is changing it at this moment',
  },
  {
    names: ['InvalidObjectState'],
    what: 'it is archived in a Glacier storage class: restore the object first (aws s3api restore-object)',
  },
  {
    names: ['AccessDenied', 'AllAccessDisabled', 'AccountProblem', 'Forbidden'],
    what: accessDenied,
  },
  {
    names: ['NotImplemented'],
    what: ({ call, said }) =>
      call.kmsKeyId === undefined ? said : `${said}: this S3 may not know KMS keys: leave --s3-kms-key out`,
  },
  {
    names: ['ExpiredToken', 'TokenRefreshRequired'],
    what: 'the AWS credentials have expired: log in again, or renew them',
  },
  {
    names: ['InvalidAccessKeyId', 'InvalidToken', 'SignatureDoesNotMatch'],
    what: ({ name }) => `the AWS credentials are wrong (${name}): check key, secret and session token`,
  },
  {
    // the SDK has learnt the difference from this answer; the next attempt is signed with the right time
    names: ['RequestTimeTooSkewed'],
    what: "this machine's clock is off by more than S3 allows: set it",
  },
  {
    names: [
      'PermanentRedirect',
      'TemporaryRedirect',
      'IllegalLocationConstraintException',
      'AuthorizationHeaderMalformed',
    ],
    what: ({ region, said }) =>
      region === undefined
        ? `the bucket is in another region: set AWS_REGION to its region (${said})`
        : `the bucket is in ${region}: set AWS_REGION=${region}`,
  },
  {
    names: ['BadDigest', 'RequestTimeout', 'IncompleteBody'],
    what: ({ name }) => `the bytes did not arrive as they were sent (${name})`,
  },
  {
    names: ['SlowDown', 'ThrottlingException', 'Throttling', 'RequestLimitExceeded', 'KMS.ThrottlingException'],
    what: ({ name }) => `S3 asks for fewer requests (${name})`,
  },
  {
    names: ['EntityTooLarge', 'EntityTooSmall', 'MetadataTooLarge', 'KeyTooLongError', 'InvalidBucketName'],
    what: ({ said }) => `S3 does not take it: ${said}`,
  },
];

function accessDenied({ call, said }: Answer): string {
  const { kmsKeyId: key, requesterPays } = call;
  // https://docs.aws.amazon.com/AmazonS3/latest/userguide/troubleshoot-403-errors.html
  const missing = /not authorized to perform: ([\w-]+:\w+)/u.exec(said)?.[1];
  if (missing !== undefined || !/^access denied$/iu.test(said))
    return `access denied: ${missing ?? call.action} is needed (${said})`;
  const onKey = key === undefined ? '' : `, with kms:GenerateDataKey and kms:Decrypt on ${key}`;
  // https://docs.aws.amazon.com/AmazonS3/latest/userguide/ObjectsinRequesterPaysBuckets.html
  const payer = requesterPays === true ? '' : '; for a bucket whose requesters pay, set --s3-requester-pays';
  return `access denied: ${call.action} is needed${onKey}${payer}`;
}

/** https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateDataKey.html */
function unusableKey({ call, said }: Answer): string {
  return call.kmsKeyId === undefined
    ? `the KMS key that encrypts it cannot be used: enable it, or see what it is (${said})`
    : `the KMS key ${call.kmsKeyId} cannot be used: check --s3-kms-key or TRANSSHIP_S3_KMS_KEY; the key has to be enabled, and in the region of the bucket (${said})`;
}

function fromService(error: S3Error, call: S3Call): Verdict {
  const { name, status = 0, message, region } = error;
  const said = isUnnamed(name)
    ? `the answer was HTTP ${status}, without an error code of S3`
    : trimmed(message === '' || message === 'UnknownError' ? `S3 answered ${name}, HTTP ${status}` : message);
  const { what = name.startsWith('KMS.') ? unusableKey : said } =
    MEANINGS.find(({ names }) => names.includes(name)) ?? {};
  return {
    code: codeOfName(name) ?? codeOfRetryableStatus(status) ?? codeOfOther(error, call),
    what: typeof what === 'string' ? what : what({ name, said, region, call }),
  };
}

/** What has no code of S3 comes from something in between, and may be another answer next time. */
function codeOfOther(error: S3Error, { withoutBody = false }: S3Call): Code {
  const { name, status = 0 } = error;
  if (isOfHeader(error)) return 'UNSUPPORTED';
  if (isUnnamed(name) && !withoutBody && status >= 400 && status < 500) return 'UNAVAILABLE';
  return codeOfStatus(status);
}

function codeOfStatus(status: number): Code {
  switch (status) {
    case 301:
    case 307:
    case 400:
    case 405:
    case 411:
    case 416:
      return 'INVALID';
    case 401:
      return 'UNAUTHENTICATED';
    case 403:
      return 'DENIED';
    case 404:
      return 'NOT_FOUND';
    case 409:
    case 412:
      return 'CONFLICT';
    default:
      return status >= 400 && status < 500 ? 'INVALID' : 'UNAVAILABLE';
  }
}

function fromNetwork(error: S3Error): Verdict {
  const { name, errno = '', message, connection } = error;
  if (name === 'CredentialsProviderError')
    return {
      code: 'UNAUTHENTICATED',
      what: `no AWS credentials were found: log in, or set a profile (${trimmed(message)})`,
    };
  // as missing credentials: of the surroundings, not of what was asked for
  if (message === 'Region is missing') return { code: 'UNAUTHENTICATED', what: 'no AWS region is set: set AWS_REGION' };
  if (errno === 'ENOTFOUND')
    return {
      code: 'UNAVAILABLE',
      what: 'the host of the endpoint is not known: check AWS_REGION and AWS_ENDPOINT_URL_S3',
    };
  if (/CERT|SELF_SIGNED|UNABLE_TO_/u.test(errno))
    return { code: 'INVALID', what: `the certificate of the endpoint is not trusted (${errno})` };
  if (name === 'TimeoutError') return { code: 'UNAVAILABLE', what: `S3 did not answer in time (${trimmed(message)})` };
  if (connection !== undefined) return { code: 'UNAVAILABLE', what: connection };
  // an answer that is cut or no XML fails in the parser
  if (name === 'SyntaxError' || /deseriali[sz]ation/iu.test(message))
    return { code: 'UNAVAILABLE', what: 'the answer was not one of S3' };
  return { code: 'BUG', what: trimmed(message) };
}

function parseError(thrown: unknown, { withoutBody = false }: S3Call): S3Error {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  const metadata = record(field(error, '$metadata'));
  const headers = record(field(field(error, '$response'), 'headers'));
  const status = typeof metadata['httpStatusCode'] === 'number' ? metadata['httpStatusCode'] : undefined;
  const retryAfterSeconds = Number(headers['retry-after'] ?? Number.NaN);
  // the SDK gives this name to every 404 without a code, also to one that a proxy answers
  const isNamedBySdk = error.name === 'NotFound' && status === 404 && text(field(error, 'Code')) === undefined;
  return {
    name: isNamedBySdk && !withoutBody ? 'UnknownError' : error.name,
    message: error.message,
    status,
    errno: networkCode(error),
    connection: connectionSentence(error, 'S3'),
    requestId: text(metadata['requestId']),
    region: text(headers['x-amz-bucket-region']) ?? text(field(error, 'Region')),
    retryAfterMs: Number.isFinite(retryAfterSeconds) ? retryAfterSeconds * 1000 : undefined,
  };
}

function field(value: unknown, name: string): unknown {
  return record(value)[name];
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** A sentence of S3 as part of one of ours. */
function trimmed(said: string): string {
  return said.replaceAll(/\s+/gu, ' ').replace(/\.$/u, '');
}
