import type { Run } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { forEachOf } from '../../util/limit.ts';
import { countMessages, type Service } from '../service.ts';

/**
 * How much longer than its queue explains a job has to wait before its message counts as lost: longer than SQS takes to count right, than it
 * delivers out of order, and than a worker keeps a message that it could not begin.
 */
const LOST_AFTER_MS = 15 * 60_000;
const RESENT_AT_ONCE = 500;
const MARKS_AT_ONCE = 16;

/**
 * The latest time at which the messages of some run of these were sent, or later, that workers have begun: what was sent long before that and
 * still waits was overtaken. Messages of requests tell nothing, as they overtake all others.
 */
export function reachedMs(runs: Iterable<Run>): number {
  let latest = -Infinity;
  for (const { trigger, startedAtMs, jobs } of runs)
    if (trigger !== 'request' && jobs.running + jobs.done + jobs.skipped > 0) latest = Math.max(latest, startedAtMs);
  return latest;
}

/**
 * Sends the messages of jobs again that have waited 15 minutes longer than the queue explains: no message of it can be received, or
 * workers began jobs that were sent 15 minutes later. Returns how many. A message that was not lost after all makes a duplicate, which a worker
 * tells by its job. A job is sent again once in 15 minutes at most, however many planners look.
 */
export async function resendLost(
  runs: Iterable<Run>,
  reached: number,
  service: Service,
  options: Abortable & { readonly clock: Clock },
): Promise<number> {
  const nowMs = options.clock.now();
  const { queue, state } = service;
  const { visible } = await countMessages(service, options);
  const beforeMs = (visible === 0 ? nowMs : Math.min(nowMs, reached)) - LOST_AFTER_MS;
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
    for await (const job of state.runs.jobs(run.id, { signal: options.signal, state: 'waiting' })) {
      const { id, body, changedAtMs, dueAtMs = changedAtMs } = job;
      if (body === undefined || Math.max(changedAtMs, dueAtMs) > beforeMs) continue;
      lost.push({ run: run.id, id, body, changedAtMs });
      if (lost.length === RESENT_AT_ONCE) await send();
    }
  }
  await send();
  return resent;
}
