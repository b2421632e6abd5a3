import { isLargeJob } from '../../queue/large-jobs.ts';
import type { Run } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { forEachOf } from '../../util/limit.ts';
import { isSnapshotJobId } from './many-jobs.ts';
import { isOver } from './plan-many.ts';
import { countMessages, type Service } from '../service.ts';

/**
 * How much longer than its queue explains a job waits before its message counts as lost. It is longer than the counts of SQS lag, than its
 * messages are out of order, and than a worker holds a message that it could not begin.
 */
const LOST_AFTER_MS = 15 * 60_000;
const RESENT_AT_ONCE = 500;
const MARKS_AT_ONCE = 16;

/**
 * The start of the latest run of which a worker has begun a job, in milliseconds since 1970; -Infinity before any job was begun. A message that was
 * sent long before that and still waits was overtaken. Runs of requests do not count, since requests overtake all others; nor do failed jobs, which
 * may never have had a message.
 */
export function reachedMs(runs: Iterable<Run>): number {
  let latest = -Infinity;
  for (const { trigger, startedAtMs, jobs } of runs) {
    const begun = jobs.running + jobs.done + jobs.skipped + jobs.gone;
    if (trigger !== 'request' && begun > 0) latest = Math.max(latest, startedAtMs);
  }
  return latest;
}

/**
 * As `reachedMs`, of the workers that take jobs from the queue of small ones. Large workers have a queue of their own, and may be far ahead: where
 * there are some, only jobs count that run and are not large.
 */
export async function reachedByOthersMs(
  runs: Iterable<Run>,
  { large, state }: Pick<Service, 'large' | 'state'>,
  options: Abortable,
): Promise<number> {
  if (large === undefined) return reachedMs(runs);
  const running = [...runs].filter(({ trigger, jobs }) => trigger !== 'request' && jobs.running > 0);
  for (const { id, startedAtMs } of running.sort((a, b) => b.startedAtMs - a.startedAtMs))
    for await (const { body } of state.runs.jobs(id, { signal: options.signal, state: 'running' }))
      if (body !== undefined && !isLargeJob(body)) return startedAtMs;
  return -Infinity;
}

/**
 * Sends the messages of jobs again that have waited 15 minutes longer than the queue explains: it has no message that can be received, or
 * workers began jobs that were sent 15 minutes later (`reached`, from `reachedByOthersMs`). Returns how many. If a message was not lost after all, a
 * worker recognizes the duplicate by its job. A job is sent again once in 15 minutes at most, however many planners look.
 */
export async function resendLost(
  runs: Iterable<Run>,
  reached: number,
  service: Service,
  options: Abortable & { readonly clock: Clock },
): Promise<number> {
  const nowMs = options.clock.now();
  const { large, queue, state } = service;
  const { visible } = await countMessages(service, options);
  const beforeMs = (visible === 0 ? nowMs : Math.min(nowMs, reached)) - LOST_AFTER_MS;
  const largeBeforeMs = large === undefined ? beforeMs : await lostBeforeMs(large, nowMs, options);
  let resent = 0;
  let lost: { readonly run: string; readonly id: string; readonly body: string; readonly changedAtMs: number }[] = [];
  const send = async (): Promise<void> => {
    const messages: { readonly body: string }[] = [];
    await forEachOf(
      lost,
      MARKS_AT_ONCE,
      async ({ run, id, body, changedAtMs }, taskOptions) => {
        if (await state.runs.resendJob(run, id, changedAtMs, taskOptions)) messages.push({ body });
      },
      options,
    );
    if (messages.length > 0) await queue.send(messages, options);
    resent += messages.length;
    lost = [];
  };
  for (const run of runs) {
    if (run.jobs.waiting === 0) continue;
    let over: boolean | undefined;
    for await (const job of state.runs.jobs(run.id, { signal: options.signal, state: 'waiting' })) {
      const { id, body, changedAtMs, dueAtMs = changedAtMs } = job;
      if (body === undefined) continue;
      if (Math.max(changedAtMs, dueAtMs) > (isLargeJob(body) ? largeBeforeMs : beforeMs)) continue;
      // it has no message before every other job of the run has ended
      if (isSnapshotJobId(id) && !(over ??= await isOver(run.id, state.runs, options))) continue;
      lost.push({ run: run.id, id, body, changedAtMs });
      if (lost.length === RESENT_AT_ONCE) await send();
    }
  }
  await send();
  return resent;
}

/** The time before which large jobs count as lost. Other jobs overtake them, so only an empty queue shows that their messages are lost. */
async function lostBeforeMs(
  { queue }: NonNullable<Service['large']>,
  nowMs: number,
  options: Abortable,
): Promise<number> {
  return (await queue.count(options)).visible === 0 ? nowMs - LOST_AFTER_MS : -Infinity;
}
