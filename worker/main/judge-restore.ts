import type { Backends, OperationOptions } from '../images/backends.ts';
import { verifyRestored, type RestoredResult } from '../images/verify-restored.ts';
import type { Looked } from '../images/verify-result.ts';
import { describeFailure, Failure, isFailure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { describeSample } from '../util/sample.ts';
import { quote } from '../util/text.ts';
import type { RestoreResults, RestoreVerdict } from '../vault/restore-results.ts';

/** A restore job that ended, as EventBridge reports it. */
export interface RestoreJob {
  readonly id: string;
  /** The bucket that was restored. */
  readonly bucket: string;
}

/** About the bytes that a Lambda reads and hashes within its 15 minutes, with a margin of a half. */
const BUDGET_BYTES = 32 * 1024 ** 3;
const GIB = 1024 ** 3;

/** Reads the event of a restore job. INVALID for any other event. https://docs.aws.amazon.com/aws-backup/latest/devguide/eventbridge.html */
export function readRestoreJob(event: unknown): RestoreJob {
  const detail = isRecord(event) ? event['detail'] : undefined;
  const { restoreJobId: id, createdResourceArn: arn } = isRecord(detail) ? detail : {};
  const bucket = typeof arn === 'string' ? /^arn:[^:]+:s3:::([a-z0-9.-]+)$/.exec(arn)?.[1] : undefined;
  if (typeof id === 'string' && id !== '' && bucket !== undefined) return { id, bucket };
  throw new Failure('INVALID', `${quote(event)} is not the event of a restore job that restored a bucket`);
}

/**
 * Verifies what a restore job restored, reports the verdict, and records it in AWS Backup. A bucket that could not be read has failed its test as
 * well. Rejects with CORRUPT after it recorded another verdict than SUCCESSFUL, so that the caller's count of errors is that of restores that did
 * not prove anything.
 */
export async function judgeRestore(
  job: RestoreJob,
  results: RestoreResults,
  backends: Backends,
  { until, ...options }: OperationOptions & { readonly until: AbortSignal },
): Promise<RestoreVerdict> {
  const verdict = await verdictOf(job, backends, { ...options, signal: until });
  // before it is recorded: the log has it where AWS Backup does not take it
  options.report?.({ type: 'note', message: `restore job ${job.id}: ${verdict.status}: ${verdict.message}` });
  await results.put(job.id, verdict, { signal: options.signal });
  if (verdict.status === 'SUCCESSFUL') return verdict;
  throw new Failure('CORRUPT', `verify the restored bucket ${job.bucket}: ${verdict.status}: ${verdict.message}`);
}

async function verdictOf(
  { bucket }: RestoreJob,
  backends: Backends,
  options: OperationOptions,
): Promise<RestoreVerdict> {
  try {
    return verdictAbout(await verifyRestored({ bucket, budgetBytes: BUDGET_BYTES }, backends, options));
  } catch (error) {
    if (options.signal?.aborted === true)
      return { status: 'TIMED_OUT', message: 'the time of the function was over before everything chosen was read' };
    const failure = isFailure(error) ? describeFailure(error) : String(error);
    return { status: 'FAILED', message: `it could not be verified: ${failure}` };
  }
}

/** The verdict, which claims no more than was looked at. */
function verdictAbout({ places }: RestoredResult): RestoreVerdict {
  if (places.length === 0) return { status: 'FAILED', message: 'the bucket has no archive and no store' };
  const findings = places.flatMap((place) => place.findings);
  const looked = places.map(({ place, depth, sample, names, blobs, hashedBytes }) => {
    const read =
      depth === 'tags'
        ? 'names only'
        : `${sample === undefined ? 'every byte' : describeSample(sample)}, ${(hashedBytes / GIB).toFixed(2)} GiB hashed`;
    return `${place}: ${read}, ${counts('names', names)}${blobs === undefined ? '' : `, ${counts('blobs', blobs)}`}`;
  });
  const [first] = findings;
  // of a store without snapshots nothing shows what is missing
  const unknown = places.find(({ snapshots }) => snapshots?.of === 0);
  if (first === undefined && unknown !== undefined)
    return { status: 'FAILED', message: `${unknown.place} has no snapshot; ${looked.join('; ')}` };
  if (first === undefined) return { status: 'SUCCESSFUL', message: `no finding; ${looked.join('; ')}` };
  const { kind, at, message } = first;
  return {
    status: 'FAILED',
    message: `findings: ${findings.length}, the first is ${kind}: ${at}: ${message}; ${looked.join('; ')}`,
  };
}

function counts(what: string, { checked, of }: Looked): string {
  return `${checked} of ${of} ${what}`;
}
