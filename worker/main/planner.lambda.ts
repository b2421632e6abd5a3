// Where the planner's Lambda begins. EventBridge Scheduler calls it every few minutes; the event that it sends is ignored.
import type { PassResult } from '../service/planner/pass.ts';
import { trustAuthorities } from './authorities.ts';
import { openPlanner } from './run-planner.ts';
import { readSettings } from './settings.ts';
import { systemClock } from '../util/clock.ts';
import { deadline } from '../util/deadline.ts';
import { Failure } from '../util/failure.ts';

/** How long before the end no more planning is begun; a third of the time where that is less. */
const MARGIN_MS = 60_000;
/** How long before the end everything is broken off, to give back leases before Lambda ends the process. */
const LAST_MS = 3000;

/** The part of https://docs.aws.amazon.com/lambda/latest/dg/nodejs-context.html that is needed. */
interface LambdaContext {
  getRemainingTimeInMillis(): number;
}

trustAuthorities(process.env);
// connections are kept from one call to the next
const planner = openPlanner({
  settings: readSettings(process.env),
  version: process.env['AWS_LAMBDA_FUNCTION_VERSION'] ?? 'lambda',
  write: (line) => void process.stdout.write(line),
});

/** One pass. Fails only where no rule at all could be served, so that Lambda's own count of errors means just that; all else is in logs and metrics. */
export async function handler(_event: unknown, context: LambdaContext): Promise<PassResult> {
  const leftMs = context.getRemainingTimeInMillis();
  const untilMs = systemClock.now() + leftMs - Math.min(MARGIN_MS, leftMs / 3);
  const over = (): Failure =>
    new Failure('ABORTED', 'plan: the time of this call of the Lambda is over: the next call continues');
  await using end = deadline(leftMs - LAST_MS, over, systemClock);
  const result = await planner.pass({ signal: end.signal, untilMs });
  if (result.rules > 0 && result.failed === result.rules)
    throw new Failure('UNAVAILABLE', `plan: all ${result.rules} rules failed: the log has the reason for each`);
  return result;
}
