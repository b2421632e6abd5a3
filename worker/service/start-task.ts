import { checkAborted, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { within } from '../util/deadline.ts';
import type { Report } from '../util/events.ts';
import { describeFailure } from '../util/failure.ts';
import type { Service } from './service.ts';

/** Scaling does the same some minutes later, so no caller waits longer than this. */
const WAIT_MS = 10_000;

/**
 * Starts a task of the workers when none runs or starts. Jobs are queued already and scaling follows the queue in any case, so a failure is
 * reported as a warning. Returns whether it started one.
 */
export async function startTask(
  { tasks }: Pick<Service, 'tasks'>,
  options: Abortable & { readonly clock: Clock; readonly report?: Report | undefined },
): Promise<boolean> {
  if (tasks === undefined) return false;
  try {
    return await within(
      WAIT_MS,
      async ({ signal }) => {
        const { desired } = await tasks.count({ signal });
        if (desired > 0) return false;
        await tasks.scale(1, { signal });
        options.report?.({ type: 'note', message: `no worker was running: ECS starts a task of ${tasks.name} now` });
        return true;
      },
      options,
    );
  } catch (error) {
    checkAborted(options);
    const message = `start a worker: ${describeFailure(error)}; scaling starts one within three to five minutes`;
    options.report?.({ type: 'warning', message });
    return false;
  }
}
