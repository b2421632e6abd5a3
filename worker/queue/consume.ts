import { anyOf, orAborted, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { describeFailure, Failure, isFailure, toFailure } from '../util/failure.ts';
import type { Event, Report } from '../util/events.ts';
import { retry, retryDelayMs } from '../util/retry.ts';
import { STOP_SECONDS } from '../util/stop.ts';
import type { Delivery, Outcome, Queue } from './queue.ts';
import { tooOld, waitSeconds } from './redelivery.ts';

export interface ConsumeOptions extends Abortable {
  /** Jobs at once. */
  readonly slots: number;
  /** How long a message is ours at a time; it is extended every third of that. Default 120, 10 at least. */
  readonly visibilitySeconds?: number | undefined;
  /** Takes no more messages; what runs goes on to its end. */
  readonly stopping: AbortSignal;
  readonly clock: Clock;
  readonly report?: Report | undefined;
  /** Called whenever the loop comes round: every 20 seconds, however long jobs or the queue take. */
  readonly alive?: (() => void) | undefined;
  /** Called with the number of jobs that run, whenever it changes. */
  readonly busy?: ((running: number) => void) | undefined;
}

/**
 * Does one message. It may run beside another delivery of the same message. When the signal fires, it ends soon. With CONFLICT as the reason, the
 * delivery belongs to another consumer, and its outcome is not sent to the queue; with a reason for which `isTooOld` is true, the message reaches
 * the end of its twelve hours; otherwise the worker stops. What it throws is reported, and the message is redelivered after a delay that grows with
 * its deliveries, or at once where the worker stops.
 */
export type Handle = (delivery: Delivery, options: { readonly signal: AbortSignal }) => Promise<Outcome>;

/** https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html */
const MAX_RECEIVE = 10;
const WAIT_SECONDS = 20;
const TICK_MS = 20_000;
/** A receive that takes longer has failed. */
const RECEIVE_TIMEOUT_MS = 120_000;
const MAX_BACKOFF_MS = 20_000;
const REPORT_AGAIN_MS = 5 * 60_000;
/** A queue that does not wait for messages is not asked more often. */
const MIN_ROUND_MS = 1000;
const DEFAULT_VISIBILITY_SECONDS = 120;
/** A delivery that could not be extended counts as lost when this much of its visibility is left. */
const MARGIN = 1 / 12;
/** A message is visible again 12 hours after it was received, however it is extended: API_ChangeMessageVisibility. */
const HANDOVER_MS = (11 * 60 + 45) * 60_000;
/** A job that has not ended this long after it had to is left behind. The rest of the time that a stop has is for giving the message back. */
const GRACE_MS = (STOP_SECONDS * 1000) / 2;
/** How long work of this process, once its signal has fired, may take to end. */
const SHORT_MS = 5000;
const SETTLE_ATTEMPTS = 5;

/**
 * Does the messages of a queue, as many at once as there are slots, until `stopping` fires and what ran has ended. A slot that is free is
 * filled at once, whatever the others do; there is one receive at a time, and none without a free slot. The visibility of each message is
 * extended while its job runs; where that fails, the job is aborted, and another worker gets the message.
 *
 * `signal` aborts what runs and gives it back as soon as it has ended, or after 10 seconds. Never rejects but for options that are INVALID:
 * neither a job nor the queue can end it.
 */
export async function consume(queue: Queue, handle: Handle, options: ConsumeOptions): Promise<void> {
  const { slots, visibilitySeconds = DEFAULT_VISIBILITY_SECONDS } = options;
  if (!Number.isInteger(slots) || slots < 1) throw new Failure('INVALID', `${slots} slots: expected one at least`);
  if (!(visibilitySeconds >= 10)) {
    throw new Failure('INVALID', `messages visible again after ${visibilitySeconds} seconds: expected 10 at least`);
  }
  await new Consumer(queue, handle, options, visibilitySeconds).run();
}

class Consumer {
  readonly #queue: Queue;
  readonly #handle: Handle;
  readonly #options: ConsumeOptions;
  readonly #visibilitySeconds: number;
  /** Fires when the consumer must take no more messages. */
  readonly #stop: AbortSignal;
  readonly #running = new Set<Promise<void>>();
  /** Receives that failed in a row. */
  #failures = 0;
  #failingSinceMs = 0;
  #reportedMs = 0;

  constructor(queue: Queue, handle: Handle, options: ConsumeOptions, visibilitySeconds: number) {
    this.#queue = queue;
    this.#handle = handle;
    this.#options = options;
    this.#visibilitySeconds = visibilitySeconds;
    this.#stop = anyOf(options.stopping, options.signal);
  }

  async run(): Promise<void> {
    while (!this.#stop.aborted) {
      this.#alive();
      const free = this.#options.slots - this.#running.size;
      if (free > 0) await this.#fill(Math.min(free, MAX_RECEIVE));
      else await this.#within(TICK_MS, Promise.race(this.#running), this.#stop);
    }
    while (this.#running.size > 0) {
      this.#alive();
      await this.#within(TICK_MS, Promise.all(this.#running));
    }
  }

  /** Takes messages for free slots, or waits a while where the queue fails. */
  async #fill(max: number): Promise<void> {
    const { clock } = this.#options;
    const startedMs = clock.now();
    const received = await this.#receive(max);
    if ('error' in received) {
      if (!this.#stop.aborted) await this.#backOff(toFailure(received.error));
      return;
    }
    this.#recovered();
    const { value: deliveries } = received;
    if (this.#stop.aborted) return this.#giveBack(deliveries);
    for (const delivery of deliveries) this.#start(delivery);
    const leftMs = startedMs + MIN_ROUND_MS - clock.now();
    if (deliveries.length === 0 && leftMs > 0) await this.#pause(leftMs);
  }

  async #receive(max: number): Promise<Ended<readonly Delivery[]>> {
    const { clock } = this.#options;
    const enough = new AbortController();
    const options = { signal: enough.signal, waitSeconds: WAIT_SECONDS, visibilitySeconds: this.#visibilitySeconds };
    const receiving = ended(async () => this.#queue.receive(max, options));
    const untilMs = clock.now() + RECEIVE_TIMEOUT_MS;
    let received = await this.#within(TICK_MS, receiving, this.#stop);
    while (received === undefined && !this.#stop.aborted && clock.now() < untilMs) {
      this.#alive();
      received = await this.#within(TICK_MS, receiving, this.#stop);
    }
    if (received !== undefined) return received;
    enough.abort();
    received = await this.#within(SHORT_MS, receiving);
    if (received !== undefined && 'value' in received) return received;
    // a receive that heeds no signal: what it still brings is given back
    if (received === undefined)
      void receiving.then(async (later) => ('value' in later ? this.#giveBack(later.value) : undefined));
    const what = `receive from queue ${this.#queue.name}: no answer within ${RECEIVE_TIMEOUT_MS / 1000} seconds`;
    return { error: new Failure('UNAVAILABLE', what) };
  }

  async #backOff(failure: Failure): Promise<void> {
    const { clock } = this.#options;
    const nowMs = clock.now();
    this.#failures++;
    if (this.#failures === 1) this.#failingSinceMs = nowMs;
    const delayMs = Math.min(MAX_BACKOFF_MS, retryDelayMs(failure, this.#failures, clock, MAX_BACKOFF_MS));
    if (this.#failures === 1 || nowMs - this.#reportedMs >= REPORT_AGAIN_MS) {
      this.#reportedMs = nowMs;
      const { code, message } = failure;
      const what = `receive from queue ${this.#queue.name}`;
      this.#report({ type: 'retry', what, attempt: this.#failures, delayMs, code, message });
    }
    await this.#pause(delayMs);
  }

  #recovered(): void {
    if (this.#failures > 1) {
      const seconds = Math.round((this.#options.clock.now() - this.#failingSinceMs) / 1000);
      const message = `queue ${this.#queue.name} answers again, after ${this.#failures} failures in ${seconds} seconds`;
      this.#report({ type: 'note', message });
    }
    this.#failures = 0;
  }

  async #giveBack(deliveries: readonly Delivery[]): Promise<void> {
    await Promise.all(deliveries.map(async (delivery) => this.#settle(delivery, { type: 'again', seconds: 0 })));
  }

  #start(delivery: Delivery): void {
    const job = this.#do(delivery)
      .catch((error: unknown) => this.#warn(`${named(delivery)}: ${toFailure(error).message}`))
      .finally(() => {
        this.#running.delete(job);
        this.#busy();
      });
    this.#running.add(job);
    this.#busy();
  }

  /** One message, from its receipt to its settlement. Must not throw: nothing else settles it. */
  async #do(delivery: Delivery): Promise<void> {
    const { signal: stop } = this.#options;
    const lost = new AbortController();
    const handover = new AbortController();
    const over = new AbortController();
    const keeping = this.#keep(delivery, lost, over.signal);
    void this.#handOver(delivery, handover, over.signal);
    const signal = anyOf(lost.signal, handover.signal, stop);
    const working = ended(async () => this.#handle(delivery, { signal }));

    // a handover leaves the job its time, up to the end of the twelve hours, when the delivery is lost
    const mustEnd = anyOf(lost.signal, stop);
    const result =
      (await orAborted(working, { signal: mustEnd }).catch(() => undefined)) ?? (await this.#within(GRACE_MS, working));
    over.abort();
    await this.#within(SHORT_MS, keeping);

    if (result === undefined) {
      const seconds = GRACE_MS / 1000;
      this.#warn(`${named(delivery)}: its job still runs ${seconds} seconds after it was stopped, and is abandoned`);
    }
    if (!lost.signal.aborted) await this.#settle(delivery, this.#outcomeOf(delivery, result));
  }

  #outcomeOf(delivery: Delivery, result: Ended<Outcome> | undefined): Outcome {
    const { signal: stop, clock } = this.#options;
    if (result === undefined) return { type: 'again', seconds: 0 };
    if ('value' in result) return result.value;
    const failure = toFailure(result.error);
    const isStopped = stop?.aborted === true;
    const seconds = isStopped ? 0 : waitSeconds(delivery.receiveCount, failure, clock);
    if (!isStopped || failure.code !== 'ABORTED')
      this.#warn(`${named(delivery)}: ${describeFailure(failure)}; it is redelivered in ${seconds} seconds`);
    return { type: 'again', seconds };
  }

  /** Never rejects. */
  async #settle(delivery: Delivery, outcome: Outcome): Promise<void> {
    const { clock } = this.#options;
    const what = `settle ${named(delivery)}`;
    const report = (event: Event): void => this.#report(event);
    try {
      await retry(what, async () => delivery.settle(outcome), { attempts: SETTLE_ATTEMPTS, clock, report });
    } catch (error) {
      this.#warn(`${what}: ${toFailure(error).message}; it is redelivered when its visibility ends`);
    }
  }

  /** Extends the visibility until it is over, or the delivery is lost. Never rejects. */
  async #keep(delivery: Delivery, lost: AbortController, over: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const keptMs = this.#visibilitySeconds * 1000 * (1 - MARGIN);
    let askedMs = clock.now();
    try {
      for (;;) {
        const waitMs = ((this.#visibilitySeconds * 1000) / 3) * (0.8 + 0.2 * clock.random());
        // counted from the request: a late answer must not delay the next one
        const leftMs = Math.max(0, askedMs + waitMs - clock.now());
        await clock.sleep(Math.min(waitMs, leftMs), { signal: over });
        askedMs = await this.#extend(delivery, askedMs + keptMs, over);
      }
    } catch (error) {
      if (over.aborted) return;
      const failure = isFailure(error, 'CONFLICT') ? error : conflict(delivery, error);
      this.#warn(`${failure.message}; its job is stopped, and another worker does it`);
      lost.abort(failure);
    }
  }

  /** Returns when it asked for what it got. CONFLICT when that did not succeed before `untilMs`. */
  async #extend(delivery: Delivery, untilMs: number, over: AbortSignal): Promise<number> {
    const { clock } = this.#options;
    let last: Failure | undefined;
    for (let attempt = 1; ; attempt++) {
      const askedMs = clock.now();
      if (askedMs >= untilMs) throw conflict(delivery, last);
      const late = new AbortController();
      const signal = anyOf(over, late.signal);
      const extending = ended(async () => delivery.extend(this.#visibilitySeconds, { signal }));
      const extended = await this.#within(untilMs - askedMs, extending, over);
      late.abort();
      if (over.aborted || extended === undefined) throw conflict(delivery, last);
      if ('value' in extended) return askedMs;
      last = toFailure(extended.error);
      if (last.code === 'CONFLICT') throw last;
      const delayMs = retryDelayMs(last, attempt, clock, SHORT_MS);
      await clock.sleep(Math.max(0, Math.min(delayMs, untilMs - clock.now())), { signal: over });
    }
  }

  /** Never rejects. At once for a message that is too old already. */
  async #handOver(delivery: Delivery, handover: AbortController, over: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const leftMs = delivery.firstReceivedAtMs + HANDOVER_MS - clock.now();
    if (leftMs > 0) await clock.sleep(leftMs, { signal: over }).catch(() => undefined);
    if (over.aborted) return;
    handover.abort(tooOld());
  }

  /** What `work` gives, or undefined after `ms`, or when the signal fires. `work` never rejects. */
  async #within<T>(ms: number, work: Promise<T>, signal?: AbortSignal): Promise<T | undefined> {
    const done = new AbortController();
    const pause = this.#options.clock.sleep(ms, { signal: anyOf(done.signal, signal) }).catch(() => undefined);
    try {
      return (await Promise.race([work, pause])) ?? undefined;
    } finally {
      done.abort();
    }
  }

  /** Waits until the consumer stops taking messages, `ms` at most. */
  async #pause(ms: number): Promise<void> {
    await this.#options.clock.sleep(ms, { signal: this.#stop }).catch(() => undefined);
  }

  #alive(): void {
    safely(() => this.#options.alive?.());
  }

  #busy(): void {
    safely(() => this.#options.busy?.(this.#running.size));
  }

  #warn(message: string): void {
    this.#report({ type: 'warning', message });
  }

  #report(event: Event): void {
    safely(() => this.#options.report?.(event));
  }
}

type Ended<T> = { readonly value: T } | { readonly error: unknown };

/** How `work` ended: never rejects. */
async function ended<T>(work: () => Promise<T>): Promise<Ended<T>> {
  try {
    return { value: await work() };
  } catch (error) {
    return { error };
  }
}

/** A fault in a reporter must not hurt the work that it observes. */
function safely(call: () => void): void {
  try {
    call();
  } catch {
    // there is nowhere left to report it
  }
}

function named({ id, receiveCount }: Delivery): string {
  return receiveCount === 1 ? `message ${id}` : `message ${id}, delivery ${receiveCount}`;
}

function conflict(delivery: Delivery, cause: unknown): Failure {
  const why = cause === undefined ? '' : `: ${toFailure(cause).message}`;
  const what = `${named(delivery)} could not be kept while its job ran${why}`;
  return new Failure('CONFLICT', what, cause === undefined ? {} : { cause });
}
