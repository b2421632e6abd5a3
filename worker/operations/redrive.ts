import { parseMessage } from '../jobs/job.ts';
import type { Delivery } from '../jobs/queue.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { toFailure } from '../util/failure.ts';
import type { Report } from '../util/report.ts';
import type { Service } from './service.ts';

export interface RedriveChoice {
  /** Only jobs of this rule. */
  readonly rule?: string | undefined;
  /** Only jobs of this run. */
  readonly run?: string | undefined;
}

export interface RedriveResult {
  readonly redriven: number;
  /** Dead letters that stay: of other rules or runs, or no jobs. */
  readonly left: number;
}

/** Dead letters at once: what one receive gives at most. */
const BATCH = 10;

/**
 * Puts dead letters back to the queue, and their jobs back to waiting. A dead letter that is no job stays where it is. Safe to repeat, and
 * to stop: a message is in one of the queues at any time, for a moment in both.
 */
export async function redrive(
  choice: RedriveChoice,
  { state, queue, deadLetters }: Service,
  o: Abortable & { readonly report?: Report | undefined },
): Promise<RedriveResult> {
  const left: Delivery[] = [];
  // one that fails at once is a dead letter again before we are done
  const redriven = new Set<string>();
  try {
    for (;;) {
      checkAborted(o);
      const deliveries = await deadLetters.receive(BATCH, { ...o, waitSeconds: 1 });
      if (deliveries.length === 0) return { redriven: redriven.size, left: left.length };
      for (const delivery of deliveries) {
        const job = jobOf(delivery.body);
        const key = job?.id ?? delivery.body;
        if (job === undefined || redriven.has(key) || !isChosen(job, choice)) {
          left.push(delivery);
          continue;
        }
        if (job.id !== undefined && job.run !== undefined) await state.runs.reviveJob(job.run, job.id, o);
        await queue.send([{ body: delivery.body }], o);
        await delivery.settle({ type: 'done' });
        redriven.add(key);
      }
    }
  } finally {
    // held until now, so that the loop above meets each once
    for (const delivery of left) {
      await delivery.settle({ type: 'again', seconds: 0 }).catch((error: unknown) => {
        o.report?.({ type: 'warning', message: `a dead letter stays hidden for a while: ${toFailure(error).message}` });
      });
    }
  }
}

interface Named {
  readonly id?: string | undefined;
  readonly run?: string | undefined;
  readonly rule?: string | undefined;
}

function jobOf(body: string): Named | undefined {
  try {
    const message = parseMessage(body);
    return message.type === 'job' ? message.job : message.type === 'request' ? {} : undefined;
  } catch {
    return undefined;
  }
}

function isChosen(job: Named, choice: RedriveChoice): boolean {
  return (
    (choice.rule === undefined || job.rule === choice.rule) && (choice.run === undefined || job.run === choice.run)
  );
}
