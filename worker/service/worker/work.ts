import { jobId, parseMessage, type Job, type JobRequest, type ParsedMessage } from '../../queue/job.ts';
import { fingerprintOf } from '../../queue/fingerprint.ts';
import type { Delivery, Outcome } from '../../queue/queue.ts';
import { MAX_ATTEMPTS, mayPass, retryLater, isTooOld, replace, waitSeconds } from '../../queue/redelivery.ts';
import { describeFailure, isFailure, toFailure, type Failure } from '../../util/failure.ts';
import { isRecord } from '../../util/record.ts';
import type { JobName } from '../../util/events.ts';
import { disagreementOf } from '../disagreement.ts';
import { JobDelivery, makeKnown } from './deliver-job.ts';
import { gatherObject, gatherPush, type PushOptions } from '../planner/push-event.ts';
import { deadLetterReason } from './send-dead-letter.ts';
import type { WorkContext } from './work-context.ts';
import type { Service } from '../service.ts';

/** How much is kept of a message that no queue takes whole. */
const KEPT_CHARACTERS = 100_000;

const DONE: Outcome = { type: 'done' };
const AT_ONCE: Outcome = { type: 'again', seconds: 0 };

/**
 * Does what one message asks for, and returns what should become of the message. Never throws. What it did is in the state before it returns: if it
 * is killed anywhere, the message is redelivered, and doing it again is safe. Two deliveries of one job never write at once: each destination is
 * written under a lease. When `signal` fires, the job is handed back; `signal` is that of `consume`, and its reason is why.
 */
export async function work(
  delivery: Delivery,
  context: WorkContext,
  options: { readonly signal: AbortSignal },
): Promise<Outcome> {
  try {
    return options.signal.aborted && !isTooOld(options.signal) ? AT_ONCE : await workOn(delivery, context, options);
  } catch (error) {
    if (options.signal.aborted) return AT_ONCE;
    // the table or a queue does not answer: nothing was recorded of the job, so nothing is lost
    const failure = toFailure(error);
    context.reportOf(undefined)({
      type: 'warning',
      message: `message ${delivery.id} is redelivered: ${describeFailure(failure)}`,
    });
    return { type: 'again', seconds: waitSeconds(delivery.receiveCount, failure, context.clock) };
  }
}

async function workOn(
  delivery: Delivery,
  context: WorkContext,
  options: { readonly signal: AbortSignal },
): Promise<Outcome> {
  let message: ParsedMessage;
  try {
    message = parseMessage(delivery.body);
  } catch (error) {
    return refuse(delivery, context, toFailure(error));
  }
  switch (message.type) {
    case 'ignored':
      return DONE;
    case 'push':
    case 'object':
      return isTooOld(options.signal)
        ? replace(delivery.body, 0, context.service.queue)
        : workOnEvent(delivery, context, message, options);
    case 'request':
      return workOnJob(await toJob(message.request, delivery, context), delivery, context, options);
    case 'job':
      return workOnJob(message.job, delivery, context, options);
    default:
      return message satisfies never;
  }
}

/** Begins the job of a message, where the state has the same job, and does it. */
async function workOnJob(
  job: Job,
  delivery: Delivery,
  context: WorkContext,
  options: { readonly signal: AbortSignal },
): Promise<Outcome> {
  const one = new JobDelivery(delivery, context, job, options);
  // with an old message nothing is begun: the one that replaces it is compared
  if (isTooOld(options.signal)) return one.replace();
  const taken = await context.service.state.runs.takeJob(job.run, job.id, fingerprintOf(job), options);
  switch (taken.state) {
    case 'taken':
      return one.run(taken);
    case 'open':
      return one.run(undefined);
    case 'ended':
      return DONE;
    case 'other':
    case 'unknown':
      return refuse(delivery, context, disagreementOf(job, taken.state));
    default:
      return taken satisfies never;
  }
}

/** Dead-letters a message that cannot be read or is not trusted: redelivery would not help. The job whose own message it is fails. */
async function refuse(delivery: Delivery, context: WorkContext, failure: Failure): Promise<Outcome> {
  const { deadLetters, state } = context.service;
  const reason = deadLetterReason(failure);
  try {
    await deadLetters.send([{ body: delivery.body, reason }]);
  } catch (error) {
    if (!isFailure(error, 'INVALID')) throw error;
    const begins = `${delivery.body.slice(0, KEPT_CHARACTERS).toWellFormed()}…`;
    await deadLetters.send([{ body: begins, reason: `the beginning of a message: ${reason}` }]);
  }
  try {
    const named = jobNamed(delivery.body);
    const job = named === undefined ? undefined : await state.runs.job(named.run, named.id);
    const end = { state: 'failed', code: failure.code, reason: describeFailure(failure) } as const;
    if (job?.body === delivery.body) await state.runs.endJob(job.run, job.id, end);
  } catch (error) {
    // it names no job that could exist
    if (!isFailure(error, 'NOT_FOUND', 'INVALID')) throw error;
  }
  context.reportOf(undefined)({
    type: 'message-refused',
    message: `message ${delivery.id}: ${describeFailure(failure)}`,
  });
  return DONE;
}

/** The job that an unreadable message names, such as one of a newer planner. Undefined where it names none. */
function jobNamed(body: string): { readonly run: string; readonly id: string } | undefined {
  let message: unknown;
  try {
    message = JSON.parse(body);
  } catch {
    return undefined;
  }
  if (!isRecord(message)) return undefined;
  const { run, id } = message;
  return typeof run === 'string' && typeof id === 'string' && run !== '' && id !== '' ? { run, id } : undefined;
}

/** The job of a request. It has a run of its own, named by the id of the message, so a redelivery finds the same run. */
async function toJob(request: JobRequest, delivery: Delivery, context: WorkContext): Promise<Job> {
  const run = `request-${delivery.id}`;
  const filledIn = { run, at: new Date(delivery.sentAtMs).toISOString() };
  const words = request.kind === 'plan' ? [request.rule] : [request.from, request.kind === 'verify' ? '' : request.to];
  const job: Job = { ...request, ...filledIn, id: jobId(run, request.kind, ...words.flat()) };
  const whole = request.kind === 'plan' && request.after.repository === '' && request.after.name === '';
  await makeKnown(job, context, { whole });
  return job;
}

/** Adds the event to a run of every rule that it starts. The deliveries of the message are its attempts, since it is not a job. */
async function workOnEvent(
  delivery: Delivery,
  context: WorkContext,
  message: EventMessage,
  options: { readonly signal: AbortSignal },
): Promise<Outcome> {
  const { id } = message.event;
  const name: JobName = { kind: 'push', id, run: `push-${id}`, title: titleOf(message) };
  const report = context.reportOf(name);
  const startedMs = context.clock.now();
  try {
    const { clock, pushRules: rules, pushWindowSeconds: windowSeconds } = context;
    await gatherEvent(message, context.service, { ...options, clock, report, rules, windowSeconds });
    return DONE;
  } catch (error) {
    if (options.signal.aborted) return AT_ONCE;
    const failure = toFailure(error);
    const { code } = failure;
    const why = describeFailure(failure);
    const again = mayPass(failure) && delivery.receiveCount < MAX_ATTEMPTS;
    if (!again) await context.service.deadLetters.send([{ body: delivery.body, reason: deadLetterReason(failure) }]);
    report({ type: 'job-failed', job: name, durationMs: context.clock.now() - startedMs, code, message: why, again });
    return again
      ? retryLater(
          delivery,
          delivery.body,
          waitSeconds(delivery.receiveCount, failure, context.clock),
          context.service.queue,
        )
      : DONE;
  }
}

type EventMessage = Extract<ParsedMessage, { readonly type: 'push' | 'object' }>;

async function gatherEvent(message: EventMessage, service: Service, options: PushOptions): Promise<void> {
  if (message.type === 'push') await gatherPush(message.event, service, options);
  else await gatherObject(message.event, service, options);
}

function titleOf(message: EventMessage): string {
  if (message.type === 'object') return `change of s3://${message.event.bucket}/${message.event.key}`;
  const { account, digest, region, repository, tag } = message.event;
  return `push of ${repository}${tag === undefined ? `@${digest}` : `:${tag}`} in ${account}, ${region}`;
}
