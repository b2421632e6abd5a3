import { currentEnds } from '../service/backend-pool.ts';
import { tick, type TickResult } from '../service/planner/pass.ts';
import type { Settings } from './settings.ts';
import { startTelemetry } from '../telemetry/telemetry.ts';
import type { Abortable } from '../util/abort.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import { isFailure, toFailure } from '../util/failure.ts';
import { connect, connectService } from './wire.ts';

export interface PlannerOptions {
  readonly settings: Settings;
  readonly version: string;
  /** Takes lines of logs and metrics. */
  readonly write: (line: string) => void;
  readonly clock?: Clock | undefined;
}

/** What a planner needs, opened once for many ticks. */
export interface Planner extends AsyncDisposable {
  /** As `tick` of service/planner/pass.ts. What was counted is written at its end. */
  tick(o?: Abortable & { readonly untilMs?: number | undefined }): Promise<TickResult>;
}

/** Nothing is asked of anything yet. INVALID for settings that do not name the deployed system. */
export function openPlanner(o: PlannerOptions): Planner {
  const { settings, clock = systemClock } = o;
  const telemetry = startTelemetry({ write: o.write, level: settings.logLevel, clock });
  const report = telemetry.reportOf(undefined);
  const opened = new AsyncDisposableStack();
  const service = opened.use(connectService(settings, { clock, report }));
  const ends = opened.use(
    currentEnds({
      rules: service.state.rules,
      connect: (access) => connect(settings, o.version, { access, report }, clock),
      clock,
      report,
    }),
  );
  return {
    tick: async (at = {}) => {
      try {
        return await tick(service, async (work, under) => ends.use(work, under), { ...at, clock, report });
      } finally {
        telemetry.flush();
      }
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** A round is over by then: other rules wait for it. */
const MAX_ROUND_MS = 5 * 60_000;

/**
 * One tick after another, each so many seconds after the one before began, until the signal fires. A tick that fails is told, and the next one
 * is tried. INVALID, at once, for settings that do not name the deployed system.
 */
export async function runPlanner(
  o: PlannerOptions & { readonly everySeconds: number; readonly signal: AbortSignal },
): Promise<void> {
  const { clock = systemClock, everySeconds, signal } = o;
  const report = startTelemetry({ write: o.write, level: o.settings.logLevel, clock }).reportOf(undefined);
  await using planner = openPlanner(o);
  report({ type: 'note', message: `planner ${o.version} looks every ${everySeconds} seconds whether rules are due` });
  try {
    for (;;) {
      const startedMs = clock.now();
      try {
        await planner.tick({ signal, untilMs: startedMs + MAX_ROUND_MS });
      } catch (error) {
        if (signal.aborted) throw error;
        report({ type: 'warning', message: `no rule could be looked at: ${toFailure(error).message}` });
      }
      await clock.sleep(Math.max(0, startedMs + everySeconds * 1000 - clock.now()), { signal });
    }
  } catch (error) {
    if (!signal.aborted || !isFailure(error)) throw error;
    report({ type: 'note', message: 'planner stopped' });
  }
}
