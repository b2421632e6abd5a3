import { openBackendPool } from '../service/backend-pool.ts';
import { expectService } from '../service/expect-service.ts';
import { runPass, type PassResult } from '../service/planner/pass.ts';
import { repeatPasses } from './repeat-passes.ts';
import type { Settings } from './settings.ts';
import { startTelemetry } from '../telemetry/telemetry.ts';
import type { Abortable } from '../util/abort.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import { connect, connectService } from './wire.ts';

export interface PlannerOptions {
  readonly settings: Settings;
  readonly version: string;
  /** Takes lines of logs and metrics. */
  readonly write: (line: string) => void;
  readonly clock?: Clock | undefined;
}

/** What a planner needs, opened once for many passes. */
export interface Planner extends AsyncDisposable {
  /** As `expectService` of service/expect-service.ts. */
  ready(options: Abortable): Promise<void>;
  /** As `runPass` of service/planner/pass.ts. Metrics are written at its end. */
  pass(options?: Abortable & { readonly untilMs?: number | undefined }): Promise<PassResult>;
}

/** Opens a planner. Nothing is asked of the queue or the table yet. INVALID for settings that do not name the deployed system. */
export function openPlanner(options: PlannerOptions): Planner {
  const { settings, clock = systemClock } = options;
  const telemetry = startTelemetry({ write: options.write, level: settings.logLevel, clock });
  const report = telemetry.reportOf(undefined);
  const opened = new AsyncDisposableStack();
  const service = opened.use(connectService(settings, { clock, report }));
  const backends = opened.use(
    openBackendPool({
      rules: service.state.rules,
      connect: (access) => connect(settings, options.version, { access, report }, clock),
      clock,
      report,
    }),
  );
  return {
    ready: async (taskOptions) => expectService(service, { ...taskOptions, clock }),
    pass: async (taskOptions = {}) => {
      try {
        return await runPass(service, backends, {
          ...taskOptions,
          clock,
          report,
          lookEveryHours: settings.lookEveryHours,
        });
      } finally {
        telemetry.flush();
      }
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** A pass leaves the rest to workers after this time, since the next pass waits for it. */
const MAX_PASS_MS = 5 * 60_000;

/**
 * Makes passes as `repeatPasses` does. INVALID, at once, for settings that do not name the deployed system; NOT_FOUND, DENIED or
 * UNAUTHENTICATED for a table or a queue that cannot be reached and never will be.
 */
export async function runPlanner(
  options: PlannerOptions & { readonly everySeconds: number; readonly signal: AbortSignal },
): Promise<void> {
  const { clock = systemClock, everySeconds, signal } = options;
  const report = startTelemetry({ write: options.write, level: options.settings.logLevel, clock }).reportOf(undefined);
  await using planner = openPlanner(options);
  await planner.ready({ signal });
  report({
    type: 'note',
    message: `planner ${options.version} looks every ${everySeconds} seconds whether rules are due`,
  });
  await repeatPasses(async (startedMs) => planner.pass({ signal, untilMs: startedMs + MAX_PASS_MS }), {
    name: 'planner',
    everySeconds,
    clock,
    report,
    signal,
  });
}
