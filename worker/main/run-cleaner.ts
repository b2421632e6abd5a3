import { openBackendPool } from '../service/backend-pool.ts';
import { runCleaner, type CleanResult } from '../service/cleaner/pass.ts';
import { startTelemetry } from '../telemetry/telemetry.ts';
import type { Abortable } from '../util/abort.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import { isFailure } from '../util/failure.ts';
import { repeatPasses } from './repeat-passes.ts';
import type { Settings } from './settings.ts';
import { connectDeleting, connectState } from './wire.ts';

export interface CleanerOptions {
  readonly settings: Settings;
  readonly version: string;
  /** Takes lines of logs and metrics. */
  readonly write: (line: string) => void;
  readonly clock?: Clock | undefined;
}

/** What a Cleaner needs, opened once for many passes. */
export interface Cleaner extends AsyncDisposable {
  /** Asks the table once. Throws a permanent failure, such as NOT_FOUND or DENIED. */
  ready(options: Abortable): Promise<void>;
  /** As `runCleaner` of service/cleaner/pass.ts. Metrics are written at its end. */
  pass(options?: Abortable & { readonly untilMs?: number | undefined }): Promise<CleanResult>;
}

/** Opens a Cleaner: the table and what deletes, and no queue. Nothing is asked of them yet. INVALID for settings that name no table. */
export function openCleaner(options: CleanerOptions): Cleaner {
  const { settings, version, clock = systemClock } = options;
  const telemetry = startTelemetry({ write: options.write, level: settings.logLevel, clock });
  const report = telemetry.reportOf(undefined);
  const opened = new AsyncDisposableStack();
  const state = opened.use(connectState(settings, { clock, report }));
  const backends = opened.use(
    openBackendPool({
      rules: state.rules,
      connect: (access) => connectDeleting(settings, version, { access, report, create: false }, clock),
      clock,
      report,
    }),
  );
  return {
    ready: async ({ signal }) => {
      try {
        await state.rules.access({ signal });
      } catch (error) {
        if (signal?.aborted === true || !isFailure(error) || !error.retryable) throw error;
      }
    },
    pass: async (taskOptions = {}) => {
      try {
        return await runCleaner(state, backends, { ...taskOptions, clock, reportOf: telemetry.reportOf });
      } finally {
        telemetry.flush();
      }
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/**
 * Makes passes as `repeatPasses` does. INVALID for settings that name no table; NOT_FOUND, DENIED or UNAUTHENTICATED for a table that cannot
 * be reached.
 */
export async function cleanEvery(
  options: CleanerOptions & { readonly everySeconds: number; readonly signal: AbortSignal },
): Promise<void> {
  const { clock = systemClock, everySeconds, signal } = options;
  const report = startTelemetry({ write: options.write, level: options.settings.logLevel, clock }).reportOf(undefined);
  await using cleaner = openCleaner(options);
  await cleaner.ready({ signal });
  const message = `cleaner ${options.version} looks every ${everySeconds} seconds whether rules that prune are due`;
  report({ type: 'note', message });
  await repeatPasses(async () => cleaner.pass({ signal }), { name: 'cleaner', everySeconds, clock, report, signal });
}
