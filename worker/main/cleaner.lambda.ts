// Where the Cleaner's Lambda begins. EventBridge Scheduler calls it every quarter of an hour; the event that it sends is ignored.
import type { CleanResult } from '../service/cleaner/pass.ts';
import { trustAuthorities } from './authorities.ts';
import { openCleaner } from './run-cleaner.ts';
import { readSettings } from './settings.ts';
import { systemClock } from '../util/clock.ts';
import { deadline } from '../util/deadline.ts';
import { Failure } from '../util/failure.ts';

/** How long before the end no more places are begun; a third of the time where that is less. */
const MARGIN_MS = 60_000;
/** How long before the end everything is broken off: groups of images that are being deleted end first, then leases are given back. */
const LAST_MS = 20_000;

/** The part of https://docs.aws.amazon.com/lambda/latest/dg/nodejs-context.html that is needed. */
interface LambdaContext {
  getRemainingTimeInMillis(): number;
}

trustAuthorities(process.env);
// connections are kept from one call to the next
const cleaner = openCleaner({
  settings: readSettings(process.env),
  version: process.env['AWS_LAMBDA_FUNCTION_VERSION'] ?? 'lambda',
  write: (line) => void process.stdout.write(line),
});

/** One pass. Fails only where no rule at all could be served, so that Lambda's own count of errors means just that; all else is in logs and metrics. */
export async function handler(_event: unknown, context: LambdaContext): Promise<CleanResult> {
  const leftMs = context.getRemainingTimeInMillis();
  const untilMs = systemClock.now() + leftMs - Math.min(MARGIN_MS, leftMs / 3);
  const over = (): Failure =>
    new Failure('ABORTED', 'prune: the time of this call of the Lambda is over: the next call continues');
  await using end = deadline(leftMs - LAST_MS, over, systemClock);
  const result = await cleaner.pass({ signal: end.signal, untilMs });
  if (result.rules > 0 && result.failed === result.rules)
    throw new Failure('UNAVAILABLE', `prune: all ${result.rules} rules failed: the log has the reason for each`);
  return result;
}
