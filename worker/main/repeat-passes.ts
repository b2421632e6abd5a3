import type { Clock } from '../util/clock.ts';
import { describeFailure, isFailure } from '../util/failure.ts';
import type { Report } from '../util/events.ts';

export interface RepeatOptions {
  /** Whose passes they are, as it is named in notes. */
  readonly name: 'planner' | 'cleaner';
  readonly everySeconds: number;
  readonly clock: Clock;
  readonly report: Report;
  /** Ends it. */
  readonly signal: AbortSignal;
}

/**
 * Makes one pass after another, each `everySeconds` after the one before began, until the signal fires. A pass that fails is reported, and the
 * next one is tried.
 *
 * @param pass gets when it begins, in milliseconds since 1970
 */
export async function repeatPasses(
  pass: (startedMs: number) => Promise<unknown>,
  { name, everySeconds, clock, report, signal }: RepeatOptions,
): Promise<void> {
  try {
    for (;;) {
      const startedMs = clock.now();
      try {
        await pass(startedMs);
      } catch (error) {
        if (signal.aborted) throw error;
        report({ type: 'warning', message: `no rule could be looked at: ${describeFailure(error)}` });
      }
      await clock.sleep(Math.max(0, startedMs + everySeconds * 1000 - clock.now()), { signal });
    }
  } catch (error) {
    if (!signal.aborted || !isFailure(error)) throw error;
    report({ type: 'note', message: `${name} stopped` });
  }
}
