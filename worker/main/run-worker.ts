import { consume, type ConsumeOptions, type Handle } from '../queue/consume.ts';
import { requestsFirst } from '../queue/requests-first.ts';
import { protectTask } from './task-protection.ts';
import { startHealth } from './health.ts';
import { openBackendPool } from '../service/backend-pool.ts';
import { RecentRules } from '../service/recent-rules.ts';
import { expectService } from '../service/expect-service.ts';
import type { Service } from '../service/service.ts';
import type { WorkContext } from '../service/worker/work-context.ts';
import { work } from '../service/worker/work.ts';
import type { Settings } from './settings.ts';
import { startTelemetry } from '../telemetry/telemetry.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import { Failure } from '../util/failure.ts';
import { connect, connectService } from './wire.ts';

export interface WorkerOptions {
  readonly settings: Settings;
  readonly version: string;
  /** Jobs at once. Default: the setting in the environment. */
  readonly slots?: number | undefined;
  /** Does large jobs, and nothing else. Default: everything else. */
  readonly large?: boolean | undefined;
  /** Takes no more work, and gives back what is under way. */
  readonly signal: AbortSignal;
  /** Takes lines of logs and metrics. */
  readonly write: (line: string) => void;
  readonly clock?: Clock | undefined;
}

/** Leases last half the visibility timeout, so the lease of a crashed worker has expired before its message is redelivered, even with clock skew. */
const LEASES_IN_VISIBILITY = 2;

/**
 * Does the jobs of the queue until the signal fires and what is under way was given back. INVALID, at once, for settings that do not name the
 * deployed system; NOT_FOUND, DENIED or UNAUTHENTICATED for a table or a queue that cannot be reached and never will be.
 */
export async function runWorker(options: WorkerOptions): Promise<void> {
  const { settings, signal, clock = systemClock, slots = options.settings.slots } = options;
  const { concurrency, lookEveryHours, ecsAgentUri, healthPort, pushWindowSeconds, visibilitySeconds } = settings;
  const telemetry = startTelemetry({ write: options.write, level: settings.logLevel, clock });
  const report = telemetry.reportOf(undefined);
  try {
    await using opened = new AsyncDisposableStack();
    const service = opened.use(connectService(settings, { clock, report }));
    const queues = options.large === true ? largeOnly(service) : service;
    const backends = opened.use(
      openBackendPool({
        rules: service.state.rules,
        connect: (access) => connect(settings, options.version, { access, concurrency, report }, clock),
        clock,
        report,
      }),
    );
    const worker: WorkContext = {
      service,
      backends,
      clock,
      reportOf: telemetry.reportOf,
      concurrency,
      tool: `transship ${options.version}`,
      lookEveryHours,
      leaseSeconds: visibilitySeconds / LEASES_IN_VISIBILITY,
      pushWindowSeconds,
      pushRules: new RecentRules(service.state.rules, clock),
    };
    const protection =
      ecsAgentUri === undefined ? undefined : opened.use(protectTask({ agentUri: ecsAgentUri, clock, report }));
    const health = healthPort === undefined ? undefined : opened.use(await startHealth({ port: healthPort, clock }));
    const onStop = (): void => report({ type: 'note', message: 'worker stops: what is under way is given back' });
    signal.addEventListener('abort', onStop, { once: true });
    opened.defer(() => signal.removeEventListener('abort', onStop));
    await expectService(service, { signal, clock });
    report({
      type: 'note',
      message: `worker ${options.version} does up to ${slots} jobs at once of ${queues.queue.name}`,
    });
    const handle: Handle = async (delivery, taskOptions) =>
      telemetry.inJob(async () => work(delivery, worker, taskOptions));
    const { alive } = health ?? {};
    const { busy } = protection ?? {};
    const common = { slots, visibilitySeconds, stopping: signal, signal, clock, report };
    await consumeAll(queues, handle, { ...common, alive, busy });
    report({ type: 'note', message: 'worker stopped' });
  } finally {
    telemetry.flush();
  }
}

/** The queue of a large worker. INVALID where the settings do not name it. */
function largeOnly({ large }: Service): Pick<Service, 'queue' | 'requests'> {
  if (large === undefined)
    throw new Failure(
      'INVALID',
      '`worker --large` needs TRANSSHIP_LARGE_QUEUE_URL: set it to the URL of the queue of large jobs',
    );
  return { queue: large.queue };
}

/** Consumes requests before jobs. One more slot takes requests alone, so that a request does not wait for the end of a copy. */
async function consumeAll(
  { queue, requests }: Pick<Service, 'queue' | 'requests'>,
  handle: Handle,
  { alive, busy, ...options }: ConsumeOptions,
): Promise<void> {
  if (requests === undefined) return consume(queue, handle, { alive, busy, ...options });
  const running = { all: 0, reserved: 0 };
  const busyWith = (part: Partial<typeof running>): void => {
    Object.assign(running, part);
    busy?.(running.all + running.reserved);
  };
  await Promise.all([
    consume(requestsFirst(requests, queue, options.clock), handle, {
      ...options,
      alive,
      busy: (all) => busyWith({ all }),
    }),
    consume(requests, handle, { ...options, slots: 1, busy: (reserved) => busyWith({ reserved }) }),
  ]);
}
