import type { Delivery, Outcome, Queue } from '../jobs/queue.ts';
import type { Clock } from '../util/clock.ts';
import { Failure } from '../util/failure.ts';

/** Tries of one job, those included that a worker did not survive. */
export const ATTEMPTS = 8;
/** Between tries: doubled each time. */
const FIRST_WAIT_SECONDS = 30;
const MAX_WAIT_SECONDS = 900;
/**
 * SQS keeps a message from others for 12 hours at most, counted from when it was first received: before that, the job goes on by a new one.
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html
 */
const LIFE_MS = 11.5 * 3600 * 1000;
/** Deliveries of one message. Well below the queue's maxReceiveCount, which is for messages that end their workers. */
const DELIVERIES = 10;
/** https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html */
const MAX_DELAY_SECONDS = 900;

/** The message comes again, or where it has come too often or for too long, another in its place. */
export async function comeAgain(
  d: Delivery,
  body: string,
  seconds: number,
  { queue, clock }: { readonly queue: Queue; readonly clock: Clock },
): Promise<Outcome> {
  const whole = Math.ceil(seconds);
  if (d.attempt < DELIVERIES && lifeLeftMs(d, clock) > whole * 1000) return { type: 'again', seconds: whole };
  await queue.send([{ body, delaySeconds: Math.min(whole, MAX_DELAY_SECONDS) }]);
  return { type: 'done' };
}

/** Until the end of the message's life. */
export function lifeLeftMs(d: Delivery, clock: Clock): number {
  return d.firstReceivedAtMs + LIFE_MS - clock.now();
}

/** `signal` fires at the end of the message's life. */
export function lifeOf(d: Delivery, clock: Clock): { readonly signal: AbortSignal } & AsyncDisposable {
  const over = new AbortController();
  const done = new AbortController();
  const timer = clock.sleep(lifeLeftMs(d, clock), { signal: done.signal }).then(
    () => over.abort(new Failure('ABORTED', 'the message came to the end of its life')),
    () => undefined,
  );
  return {
    signal: over.signal,
    [Symbol.asyncDispose]: async () => {
      done.abort();
      await timer;
    },
  };
}

/** Before the next attempt: at least what the other side asked for, and a fifth more by chance. */
export function waitSeconds(attempt: number, failure: Failure, clock: Clock): number {
  const backoff = Math.min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (attempt - 1));
  const asked = (failure.context.retryAfterMs ?? 0) / 1000;
  return Math.ceil(Math.max(backoff, asked) * (1 + clock.random() / 5));
}
