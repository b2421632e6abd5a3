// Where the Lambda that verifies restore tests begins. EventBridge calls it when AWS Backup has restored a bucket for a test.
import { openRestoreResults, type RestoreVerdict } from '../vault/restore-results.ts';
import { trustAuthorities } from './authorities.ts';
import { judgeRestore, readRestoreJob } from './judge-restore.ts';
import { readSettings } from './settings.ts';
import { connect } from './wire.ts';
import { startTelemetry } from '../telemetry/telemetry.ts';
import { systemClock } from '../util/clock.ts';
import { deadline } from '../util/deadline.ts';
import { Failure } from '../util/failure.ts';

/** The time that is kept for recording the verdict; a third of the time where that is less. */
const MARGIN_MS = 30_000;

/** The part of https://docs.aws.amazon.com/lambda/latest/dg/nodejs-context.html that is needed. */
interface LambdaContext {
  getRemainingTimeInMillis(): number;
}

trustAuthorities(process.env);

/** Verifies what the restore job of the event restored. Fails unless the verdict is SUCCESSFUL: the alarm watches Lambda's count of errors. */
export async function handler(event: unknown, context: LambdaContext): Promise<RestoreVerdict> {
  const job = readRestoreJob(event);
  const settings = readSettings(process.env);
  const clock = systemClock;
  const telemetry = startTelemetry({
    write: (line) => void process.stdout.write(line),
    level: settings.logLevel,
    clock,
  });
  const report = telemetry.reportOf(undefined);
  const version = process.env['AWS_LAMBDA_FUNCTION_VERSION'] ?? 'lambda';
  const leftMs = context.getRemainingTimeInMillis();
  const over = (): Failure => new Failure('ABORTED', 'verify: the time of the Lambda is over');
  await using end = deadline(leftMs - Math.min(MARGIN_MS, leftMs / 3), over, clock);
  await using backends = connect(settings, version, { report, create: false }, clock);
  try {
    const results = openRestoreResults({ proxies: settings.proxies });
    return await judgeRestore(job, results, backends, { clock, report, until: end.signal });
  } finally {
    telemetry.flush();
  }
}
