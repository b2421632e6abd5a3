import type { Clock } from '../util/clock.ts';
import { Failure, isFailure } from '../util/failure.ts';
import type { Delivery, Outcome, Queue } from './queue.ts';

/** Attempts of one job, including those in which the worker crashed. */
export const MAX_ATTEMPTS = 8;
/** Between attempts: doubled each time. */
const FIRST_WAIT_SECONDS = 30;
const MAX_WAIT_SECONDS = 900;
/** Deliveries of one message. Well below the queue's maxReceiveCount, which is for messages that end their workers. */
const MAX_DELIVERIES = 10;
/** https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html */
const MAX_DELAY_SECONDS = 900;

/** Whether the message has been delivered so often that the next retry replaces it by another. */
export function isReplacedNext({ receiveCount }: Delivery): boolean {
  return receiveCount >= MAX_DELIVERIES;
}

/** The message is redelivered, or replaced by another after too many deliveries. */
export async function retryLater(delivery: Delivery, body: string, seconds: number, queue: Queue): Promise<Outcome> {
  const whole = Math.ceil(seconds);
  return isReplacedNext(delivery) ? replace(body, whole, queue) : { type: 'again', seconds: whole };
}

/** Another message in the place of this one. */
export async function replace(body: string, seconds: number, queue: Queue): Promise<Outcome> {
  await queue.send([{ body, delaySeconds: Math.min(seconds, MAX_DELAY_SECONDS) }]);
  return { type: 'done' };
}

/** Why the work stops whose message comes to the end of its twelve hours. */
export function tooOld(): Failure {
  const what = 'the message reaches the end of its twelve hours: its job is handed on to a new one';
  return new Failure('ABORTED', what, { context: { handover: true } });
}

/** Whether the work has to stop because its message comes to the end of its twelve hours: it goes on by another message. */
export function isTooOld(signal: AbortSignal): boolean {
  return signal.aborted && isFailure(signal.reason) && signal.reason.context['handover'] === true;
}

/**
 * Whether a worker may succeed with the same work later. Beyond what is `retryable`, missing or expired AWS credentials count, because they are
 * replaced while workers run; a command that a person runs fails at once.
 */
export function mayPass({ retryable, context }: Failure): boolean {
  return retryable || context['noCredentials'] === true || context['expiredCredentials'] === true;
}

/** Before the next attempt: at least what the other side asked for, and a fifth more by chance. */
export function waitSeconds(attempt: number, failure: Failure, clock: Clock): number {
  const backoff = Math.min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (attempt - 1));
  const asked = (failure.context.retryAfterMs ?? 0) / 1000;
  return Math.ceil(Math.max(backoff, asked) * (1 + clock.random() / 5));
}
