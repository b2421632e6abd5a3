import { parseMessage } from '../../queue/job.ts';
import type { Delivery } from '../../queue/queue.ts';
import type { StateStore } from '../../state/state.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { ifFound, toFailure } from '../../util/failure.ts';
import type { Report } from '../../util/events.ts';
import type { Service } from '../service.ts';

/** Which dead letters are redriven. Default: all. */
export interface RedriveChoice {
  /** Only jobs of this rule. */
  readonly rule?: string | undefined;
  /** Only jobs of this run. */
  readonly run?: string | undefined;
}

/** What a redrive came to, in messages. */
export interface RedriveResult {
  readonly redriven: number;
  /** Dead letters that stay: those of other rules or runs, and messages that ask for nothing that a worker does. */
  readonly left: number;
}

/** Dead letters at once: what one receive gives at most. */
const BATCH = 10;

/**
 * Puts dead letters back to the queue, and their jobs back to waiting: jobs, and pushes that could not be planned. What is neither stays
 * where it is. Safe to repeat, and to stop: a message is in one of the queues at any time, for a moment in both.
 */
export async function redrive(
  choice: RedriveChoice,
  { state, queue, deadLetters }: Service,
  options: Abortable & { readonly report?: Report | undefined },
): Promise<RedriveResult> {
  const left = new Map<string, Delivery>();
  // one that fails at once is a dead letter again before we are done
  const redriven = new Set<string>();
  try {
    for (;;) {
      checkAborted(options);
      const deliveries = await deadLetters.receive(BATCH, { ...options, waitSeconds: 1 });
      // where there are so many that the first are visible again, all were seen
      if (deliveries.every(({ id }) => left.has(id))) return { redriven: redriven.size, left: left.size };
      for (const delivery of deliveries) {
        const job = jobOf(delivery.body);
        const key = job?.id ?? delivery.body;
        if (job === undefined || redriven.has(key) || !isChosen(job, choice)) {
          left.set(delivery.id, delivery);
          continue;
        }
        await revive(job, state, options);
        await queue.send([{ body: delivery.body }], options);
        await delivery.settle({ type: 'done' });
        redriven.add(key);
      }
    }
  } finally {
    // held until now, so that the loop above meets each once
    for (const delivery of left.values()) {
      await delivery.settle({ type: 'again', seconds: 0 }).catch((error: unknown) => {
        options.report?.({
          type: 'warning',
          message: `a dead letter stays hidden for a while: ${toFailure(error).message}`,
        });
      });
    }
  }
}

/** A job that the state does not know is made known by the worker that does it. */
async function revive({ run, id }: Named, state: StateStore, options: Abortable): Promise<void> {
  if (id === undefined || run === undefined) return;
  await ifFound(state.runs.reviveJob(run, id, options));
}

interface Named {
  readonly id?: string | undefined;
  readonly run?: string | undefined;
  readonly rule?: string | undefined;
}

function jobOf(body: string): Named | undefined {
  try {
    const message = parseMessage(body);
    if (message.type === 'ignored') return undefined;
    return message.type === 'job' ? message.job : {};
  } catch {
    return undefined;
  }
}

function isChosen(job: Named, choice: RedriveChoice): boolean {
  return (
    (choice.rule === undefined || job.rule === choice.rule) && (choice.run === undefined || job.run === choice.run)
  );
}
