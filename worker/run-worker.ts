import { consume } from './jobs/consume.ts';
import type { Delivery, Queue } from './jobs/queue.ts';
import { protectTask } from './ecs.ts';
import { startHealth } from './health.ts';
import { currentEnds } from './operations/current-ends.ts';
import { work, type Workshop } from './operations/work.ts';
import type { Settings } from './settings.ts';
import { startTelemetry } from './telemetry/telemetry.ts';
import { systemClock, type Clock } from './util/clock.ts';
import { connect, connectService } from './wire.ts';

export interface WorkerOptions {
  readonly settings: Settings;
  readonly version: string;
  /** Jobs at once. Default: as the settings say. */
  readonly slots?: number | undefined;
  /** Takes no more work, and gives back what is under way. */
  readonly signal: AbortSignal;
  /** Takes lines of logs and metrics. */
  readonly write: (line: string) => void;
  readonly clock?: Clock | undefined;
}

/**
 * Does the jobs of the queue until the signal fires and what is under way was given back. INVALID, at once, for settings that do not name the
 * deployed system.
 */
export async function runWorker(o: WorkerOptions): Promise<void> {
  const { settings, signal, clock = systemClock, slots = o.settings.slots } = o;
  const { concurrency, ecsAgentUri, healthPort } = settings;
  const telemetry = startTelemetry({ write: o.write, level: settings.logLevel, clock });
  const report = telemetry.reportOf(undefined);
  try {
    await using opened = new AsyncDisposableStack();
    const service = opened.use(connectService(settings, { clock, report }));
    const ends = opened.use(
      currentEnds({
        rules: service.state.rules,
        connect: (access) => connect(settings, o.version, { access, concurrency, report }, clock),
        clock,
        report,
      }),
    );
    const workshop: Workshop = { service, ends, clock, reportOf: telemetry.reportOf, concurrency };
    const protection =
      ecsAgentUri === undefined ? undefined : opened.use(protectTask({ agentUri: ecsAgentUri, clock, report }));
    const health = healthPort === undefined ? undefined : opened.use(await startHealth({ port: healthPort, clock }));
    const handle = async (delivery: Delivery, at: { readonly signal: AbortSignal }): ReturnType<typeof work> => {
      const release = protection?.hold();
      try {
        return await telemetry.inJob(async () => work(delivery, workshop, at));
      } finally {
        release?.();
      }
    };
    report({ type: 'note', message: `worker ${o.version} does up to ${slots} jobs at once of ${service.queue.name}` });
    const queue = health === undefined ? service.queue : watched(service.queue, health.alive);
    await consume(queue, handle, { slots, stopping: signal, signal, clock, report });
    report({ type: 'note', message: 'worker stopped: what was under way was given back' });
  } finally {
    telemetry.flush();
  }
}

/** The same queue. `alive` is called whenever a loop that consumes it goes round, or keeps what it has. */
function watched(queue: Queue, alive: () => void): Queue {
  const watchedDelivery = (d: Delivery): Delivery => ({
    ...d,
    extend: async (seconds, o) => {
      alive();
      await d.extend(seconds, o);
    },
  });
  return {
    name: queue.name,
    receive: async (max, o) => {
      alive();
      const received = await queue.receive(max, o);
      alive();
      return received.map(watchedDelivery);
    },
    send: async (messages, o) => queue.send(messages, o),
    count: async (o) => queue.count(o),
  };
}
