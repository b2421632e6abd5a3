import type { Run } from '../state/state.ts';
import type { Event } from '../util/events.ts';

// Planners and Cleaners begin runs at scheduled times, and give them up, alike.

/** A run that is older is declared dead, and its rule is free again. */
export const DEAD_AFTER_SECONDS = 24 * 3600;

/** The id of the run of a rule at a scheduled time: the same in every process, so that one of them begins it. */
export function scheduledRunId(rule: string, scheduledAtMs: number): string {
  return `${rule}-${new Date(scheduledAtMs).toISOString().replace(/[-:]|\.000/g, '')}`;
}

/**
 * The event of a run that holds up the next one of its rule, or was declared dead (`dead`).
 *
 * @param left how much of it is left, as in `3 jobs left`
 */
export function lateRun(
  { id, startedAtMs }: Pick<Run, 'id' | 'startedAtMs'>,
  { rule, dead, left }: { readonly rule: string | undefined; readonly dead: boolean; readonly left: string },
): Event {
  const since = `the run ${id} began at ${new Date(startedAtMs).toISOString()} and has ${left}`;
  const message = dead
    ? `${since}: it counts as dead`
    : `${since}: it goes on, and the next one does not begin before it ends`;
  return { type: 'run-late', run: id, rule, dead, message };
}
