import { systemClock } from '../util/clock.ts';
import { Failure } from '../util/failure.ts';
import { STOP_SECONDS } from '../util/stop.ts';

/** Ctrl-C comes from the terminal, and again from npx or the launcher, which pass on what they got from it. Later it means: at once. */
const SAME_SIGNAL_MS = 500;

/**
 * Fires with the first SIGINT or SIGTERM. A second one ends the process at once, with 130. A process that has not ended `STOP_SECONDS` after
 * the first is ended with 1. Call this before anything is loaded: the first process of a container gets no signal that it does not wait for.
 */
export function stopOnSignals(): AbortSignal {
  const stop = new AbortController();
  let stoppedMs = 0;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      const nowMs = systemClock.now();
      if (stop.signal.aborted && nowMs - stoppedMs > SAME_SIGNAL_MS) process.exit(130);
      if (stop.signal.aborted) return;
      stoppedMs = nowMs;
      endLate(signal);
      stop.abort(new Failure('ABORTED', `stopped by ${signal}; run the same command again to go on`));
    });
  }
  return stop.signal;
}

/** Ends the process after `STOP_SECONDS`. The timer does not keep it from ending earlier. */
function endLate(signal: NodeJS.Signals): void {
  AbortSignal.timeout(STOP_SECONDS * 1000).addEventListener('abort', () => {
    process.stderr.write(
      `transship: stop after ${signal}: what was under way did not end within ${STOP_SECONDS} seconds and is left as it is: the leases and messages of a worker expire by themselves; run any other command again to go on\n`,
    );
    process.exit(1);
  });
}
