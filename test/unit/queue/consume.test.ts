import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { consume, type ConsumeOptions, type Handle } from '../../../worker/queue/consume.ts';
import type { Delivery, Outcome, Queue } from '../../../worker/queue/queue.ts';
import { aborted, orAborted } from '../../../worker/util/abort.ts';
import { Failure } from '../../../worker/util/failure.ts';
import type { Event } from '../../../worker/util/events.ts';
import { manualClock, type ManualClock } from '../../support/clock.ts';
import { MemoryQueue } from '../../support/memory-queue.ts';

const DONE: Outcome = { type: 'done' };
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

/** A job that a test controls. */
interface Job {
  readonly delivery: Delivery;
  readonly signal: AbortSignal;
  end(outcome?: Outcome): void;
  fail(error: unknown): void;
}

let clock: ManualClock;
let queue: MemoryQueue;
let events: Event[];
let jobs: Job[];
let running: { readonly stopping: AbortController; readonly signal: AbortController; readonly done: Promise<void> }[];

beforeEach(() => {
  clock = manualClock();
  queue = new MemoryQueue({ clock });
  events = [];
  jobs = [];
  running = [];
});
afterEach(async () => {
  for (const { stopping, signal } of running) {
    stopping.abort();
    signal.abort();
  }
  for (const left of jobs) left.end();
  await clock.advance(MINUTE);
  await Promise.all(running.map(async ({ done }) => done));
  // nothing waits any more
  expect(clock.sleeping).toBe(0);
});

/** Starts to consume, with jobs that end when a test decides. */
async function start(
  o: Partial<ConsumeOptions> & { readonly queue?: Queue; readonly handle?: Handle } = {},
): Promise<(typeof running)[number] & { ended: boolean }> {
  const stopping = new AbortController();
  const signal = new AbortController();
  const done = consume(o.queue ?? queue, o.handle ?? held, {
    slots: 2,
    stopping: stopping.signal,
    signal: signal.signal,
    clock,
    report: (event) => events.push(event),
    ...o,
  });
  const consuming = { stopping, signal, done, ended: false };
  void done.then(() => (consuming.ended = true));
  running.push(consuming);
  await clock.advance(0);
  return consuming;
}

async function held(delivery: Delivery, { signal }: { readonly signal: AbortSignal }): Promise<Outcome> {
  const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
  jobs.push({ delivery, signal, end: (outcome = DONE) => resolve(outcome), fail: reject });
  return promise;
}

/** Ends when it is aborted, as jobs should. */
async function obedient(delivery: Delivery, { signal }: { readonly signal: AbortSignal }): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  signal.addEventListener('abort', () => resolve(undefined));
  jobs.push({ delivery, signal, end: () => resolve(undefined), fail: () => undefined });
  if (!signal.aborted) await promise;
  if (signal.aborted) throw aborted(signal);
  return DONE;
}

async function send(...bodies: readonly string[]): Promise<void> {
  await queue.send(bodies.map((body) => ({ body })));
  await clock.advance(0);
}

function job(index: number): Job {
  const found = jobs[index];
  if (found === undefined) throw new Error(`job ${index} of ${jobs.length} has not started`);
  return found;
}

const bodies = (): readonly string[] => jobs.map(({ delivery }) => delivery.body);
const callsOf = (action: string): readonly string[] => queue.calls.filter((call) => call.startsWith(action));
const warnings = (): readonly string[] => events.flatMap((event) => (event.type === 'warning' ? [event.message] : []));

/** The same queue with parts replaced. */
function instead(o: Partial<Queue>): Queue {
  return {
    name: queue.name,
    receive: async (max, at) => queue.receive(max, at),
    send: async (messages, at) => queue.send(messages, at),
    count: async (at) => queue.count(at),
    ...o,
  };
}

/** The same queue with parts of its deliveries replaced. */
function delivering(change: (delivery: Delivery) => Partial<Delivery>): Queue {
  return instead({
    receive: async (max, at) =>
      (await queue.receive(max, at)).map((delivery) => Object.assign({}, delivery, change(delivery))),
  });
}

describe('slots', () => {
  test('are each filled at once, and none twice', async () => {
    await start({ slots: 3 });
    await send('a', 'b', 'c', 'd', 'e');
    expect(bodies()).toEqual(['a', 'b', 'c']);
    job(1).end();
    await clock.advance(0);
    expect(bodies()).toEqual(['a', 'b', 'c', 'd']);
    job(0).end();
    job(3).end();
    await clock.advance(0);
    expect(bodies()).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect(queue.bodies).toEqual(['c', 'e']);
  });

  test('limit a receive to the number of free slots, and to ten', async () => {
    await start({ slots: 25 });
    await send(...Array.from({ length: 30 }, (_, n) => `${n}`));
    expect(jobs).toHaveLength(25);
    expect(callsOf('Receive')).toEqual(['ReceiveMessage 10', 'ReceiveMessage 10', 'ReceiveMessage 5']);
    await clock.advance(5 * MINUTE);
    expect(callsOf('Receive')).toHaveLength(3);
    for (const index of [3, 7]) job(index).end();
    await clock.advance(0);
    expect(callsOf('Receive').slice(3)).toEqual(['ReceiveMessage 2']);
    for (let index = 0; index < jobs.length; index++) job(index).end();
    await clock.advance(0);
  });

  test('cause one receive at a time, whatever ends meanwhile', async () => {
    let open = 0;
    let most = 0;
    const counting = instead({
      receive: async (max, at) => {
        most = Math.max(most, ++open);
        try {
          return await queue.receive(max, at);
        } finally {
          open--;
        }
      },
    });
    await start({ slots: 4, queue: counting });
    await send('a', 'b', 'c');
    for (const index of [0, 1, 2]) {
      job(index).end();
      await clock.advance(5 * SECOND);
    }
    expect({ open, most }).toEqual({ open: 1, most: 1 });
  });

  test('do not make a queue busy that returns without waiting', async () => {
    let asked = 0;
    await start({
      queue: instead({
        receive: async () => {
          asked++;
          return [];
        },
      }),
    });
    await clock.advance(10 * SECOND);
    expect(asked).toBeGreaterThan(5);
    expect(asked).toBeLessThan(15);
  });

  test('report with every change how many are busy', async () => {
    const busy: number[] = [];
    await start({ busy: (count) => busy.push(count) });
    await send('a', 'b');
    job(1).end();
    await clock.advance(0);
    job(0).end();
    await clock.advance(0);
    expect(busy).toEqual([1, 2, 1, 0]);
  });
});

describe('an outcome', () => {
  test('settles the message in the queue', async () => {
    await start();
    await send('a', 'b');
    job(0).end();
    job(1).end({ type: 'again', seconds: 45 });
    await clock.advance(44 * SECOND);
    expect(queue.bodies).toEqual(['b']);
    expect(jobs).toHaveLength(2);
    await clock.advance(SECOND);
    expect(job(2).delivery).toMatchObject({ body: 'b', receiveCount: 2 });
    expect(events).toEqual([]);
  });

  test('is sent again when the queue does not accept it at first', async () => {
    await start();
    await send('a');
    queue.faults.add({ operation: 'DeleteMessage', times: 3 }, { kind: 'cut-request' });
    job(0).end();
    await clock.advance(10 * SECOND);
    expect(queue.bodies).toEqual([]);
    expect(events).toMatchObject(
      [1, 2, 3].map((attempt) => ({ type: 'retry', what: 'settle message message-1', attempt })),
    );
  });

  test('is reported when the queue never accepts it, and the slot is free', async () => {
    await start({ slots: 1 });
    await send('a', 'b');
    queue.faults.add({ operation: 'DeleteMessage', times: 5 }, { kind: 'cut-request' });
    job(0).end();
    await clock.advance(MINUTE);
    expect(warnings()).toEqual([
      'settle message message-1: DeleteMessage of memory: cut before; it is redelivered when its visibility ends',
    ]);
    expect(job(1).delivery.body).toBe('b');
  });
});

describe('a job that throws', () => {
  const secondsAfter = async (receiveCount: number): Promise<number> => {
    const settled: Outcome[] = [];
    const { signal, stopping } = await start({
      slots: 1,
      queue: delivering((delivery) => ({
        receiveCount,
        settle: async (outcome) => {
          settled.push(outcome);
          await delivery.settle(outcome);
        },
      })),
      handle: async () => {
        throw new Failure('UNAVAILABLE', 'the registry is away');
      },
    });
    await send('a');
    stopping.abort();
    signal.abort();
    await clock.advance(0);
    const [outcome] = settled;
    if (outcome?.type !== 'again') throw new Error('it was not given back');
    return outcome.seconds;
  };

  test.each([
    [1, 30, 36],
    [2, 60, 72],
    [4, 240, 288],
    [6, 900, 1080],
    [50, 900, 1080],
  ])('for the time number %i is redelivered in %i to %i seconds', async (receiveCount, least, most) => {
    const seconds = await secondsAfter(receiveCount);
    expect(seconds).toBeGreaterThanOrEqual(least);
    expect(seconds).toBeLessThanOrEqual(most);
    expect(warnings()).toEqual([
      `message message-1${receiveCount === 1 ? '' : `, delivery ${receiveCount}`}: the registry is away; it is redelivered in ${seconds} seconds`,
    ]);
  });

  test.each<[string, Handle]>([
    [
      'at once',
      () => {
        throw new Error('at once');
      },
    ],
    ['what is not an error', async () => Promise.reject(new Error('later'))],
    // oxlint-disable-next-line typescript/prefer-promise-reject-errors -- what others throw is the point here
    ['nothing at all', async () => Promise.reject(undefined)],
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a broken promise of a handler
    ['or gives no outcome', async () => undefined as unknown as Outcome],
  ])('%s does not end the others', async (_, broken) => {
    await start({
      handle: async (delivery, at) => (delivery.body === 'broken' ? broken(delivery, at) : held(delivery, at)),
    });
    await send('broken', 'a', 'b');
    expect(bodies()).toEqual(['a', 'b']);
    job(0).end();
    await clock.advance(0);
    expect(warnings()).toHaveLength(1);
    expect(queue.bodies).toEqual(['broken', 'b']);
  });
});

describe('while a job runs', () => {
  test('keeps its message', async () => {
    await start();
    await send('a');
    await clock.advance(2 * HOUR);
    expect(jobs).toHaveLength(1);
    const beats = callsOf('ChangeMessageVisibility');
    expect(new Set(beats)).toEqual(new Set(['ChangeMessageVisibility 120']));
    expect(beats.length).toBeGreaterThanOrEqual((2 * HOUR) / (40 * SECOND));
    expect(beats.length).toBeLessThanOrEqual((2 * HOUR) / (30 * SECOND));
    job(0).end();
    await clock.advance(HOUR);
    expect(callsOf('ChangeMessageVisibility')).toHaveLength(beats.length);
    expect(events).toEqual([]);
  });

  test('the visibility timeout is the requested one, not the one of the queue', async () => {
    await start({ visibilitySeconds: 600 });
    await send('a');
    await clock.advance(150 * SECOND);
    expect(callsOf('ChangeMessageVisibility')).toEqual([]);
    expect(jobs).toHaveLength(1);
    await clock.advance(60 * SECOND);
    expect(callsOf('ChangeMessageVisibility')).toEqual(['ChangeMessageVisibility 600']);
  });

  test('aborts it when another worker holds its message, and leaves the message alone', async () => {
    queue.deliveryFaults.add({}, { kind: 'reappear', afterSeconds: 10 });
    await start({ slots: 1, handle: obedient });
    await start({ slots: 1, handle: held });
    await send('a');
    await clock.advance(41 * SECOND);
    const [first, second] = jobs;
    expect(first?.signal.reason).toMatchObject({ code: 'CONFLICT' });
    expect(second).toMatchObject({ delivery: { receiveCount: 2 }, signal: { aborted: false } });
    expect(callsOf('DeleteMessage')).toEqual([]);
    expect(callsOf('ChangeMessageVisibility 0')).toEqual([]);
    expect(warnings()).toEqual([
      'set the visibility of message-1 of memory: another consumer holds it now; its job is stopped, and another worker does it',
    ]);
    second?.end();
    await clock.advance(0);
    expect(queue.bodies).toEqual([]);
  });

  test('does not settle a message that was lost', async () => {
    queue.deliveryFaults.add({}, { kind: 'reappear', afterSeconds: 10 });
    await start({ slots: 1 });
    await send('a');
    await clock.advance(41 * SECOND);
    expect(job(0).signal.aborted).toBe(true);
    job(0).end();
    await clock.advance(0);
    expect(callsOf('DeleteMessage')).toEqual([]);
    expect(job(1).delivery).toMatchObject({ body: 'a', receiveCount: 2 });
  });

  test('repeats a beat that fails', async () => {
    await start();
    await send('a');
    queue.faults.add({ operation: 'ChangeMessageVisibility', times: 4 }, { kind: 'answer' });
    await clock.advance(10 * MINUTE);
    expect(jobs).toHaveLength(1);
    expect(job(0).signal.aborted).toBe(false);
  });

  test('keeps its message while the answers to extensions take longer than the time between two of them', async () => {
    await start({ queue: delivering(() => ({ extend: async () => clock.sleep(45 * SECOND) })) });
    await send('a');
    await clock.advance(20 * MINUTE);
    expect(job(0).signal.aborted).toBe(false);
    job(0).end();
    await clock.advance(MINUTE);
  });

  test.each<[string, () => Queue]>([
    [
      'fails',
      () => {
        queue.faults.add({ operation: 'ChangeMessageVisibility', times: 40 }, { kind: 'cut-request' });
        return queue;
      },
    ],
    ['is refused', () => delivering(() => ({ extend: async () => Promise.reject(new Failure('DENIED', 'no')) }))],
    ['is never answered', () => delivering(() => ({ extend: async () => new Promise(() => undefined) }))],
  ])('a beat that %s until the visibility ends aborts it before that', async (_, make) => {
    await start({ queue: make() });
    await send('a');
    await clock.advance(100 * SECOND);
    expect(job(0).signal.aborted).toBe(false);
    await clock.advance(19 * SECOND);
    expect(job(0).signal.reason).toMatchObject({ code: 'CONFLICT' });
    job(0).end();
    await clock.advance(0);
    expect(callsOf('DeleteMessage')).toEqual([]);
    queue.faults.clear();
  });

  test('frees its slot after a while if it continues after its message was lost', async () => {
    queue.deliveryFaults.add({}, { kind: 'reappear', afterSeconds: 10 });
    await start({ slots: 1 });
    await send('a', 'b');
    await clock.advance(36 * SECOND);
    expect(job(0).signal.aborted).toBe(true);
    await clock.advance(9 * SECOND);
    expect(jobs).toHaveLength(1);
    await clock.advance(2 * SECOND);
    expect(jobs).toHaveLength(2);
    expect(warnings()).toContain(
      'message message-1: its job still runs 10 seconds after it was stopped, and is abandoned',
    );
  });
});

describe('twelve hours', () => {
  const handover = { code: 'ABORTED', context: { handover: true } };

  test('leave time to hand over before they are over', async () => {
    await start();
    await send('a');
    await clock.advance(11 * HOUR + 44 * MINUTE);
    expect(job(0).signal.aborted).toBe(false);
    await clock.advance(2 * MINUTE);
    expect(job(0).signal.reason).toMatchObject(handover);
    await clock.advance(10 * MINUTE);
    job(0).end();
    await clock.advance(0);
    expect(queue.bodies).toEqual([]);
    expect(warnings()).toEqual([]);
  });

  test('end the job, which is left running', async () => {
    await start({ slots: 1 });
    await send('a');
    await clock.advance(12 * HOUR + MINUTE);
    expect(jobs).toHaveLength(2);
    expect(job(1).delivery).toMatchObject({ body: 'a', receiveCount: 2 });
    expect(callsOf('DeleteMessage')).toEqual([]);
  });

  test('are over before the job begins when the message is that old', async () => {
    const queueOfOld = delivering(() => ({ firstReceivedAtMs: clock.now() - 12 * HOUR }));
    await start({ queue: queueOfOld });
    await send('a');
    expect(job(0).signal.reason).toMatchObject(handover);
    job(0).end();
    await clock.advance(0);
    expect(queue.bodies).toEqual([]);
  });

  test('redeliver a job later that does not hand over', async () => {
    await start({ handle: obedient });
    await send('a');
    await clock.advance(11 * HOUR + 45 * MINUTE);
    expect(warnings()).toEqual([
      expect.stringMatching(/^message message-1: .* its job is handed on .*; it is redelivered in \d+ seconds$/),
    ]);
    expect(queue.bodies).toEqual(['a']);
  });
});

describe('stopping', () => {
  test('ends at once where nothing runs', async () => {
    const consuming = await start();
    await clock.advance(5 * SECOND);
    consuming.stopping.abort();
    await clock.advance(0);
    expect(consuming.ended).toBe(true);
  });

  test('receives nothing more, and lets running jobs continue', async () => {
    const consuming = await start();
    await send('a');
    consuming.stopping.abort();
    await send('b');
    await clock.advance(HOUR);
    expect(bodies()).toEqual(['a']);
    expect(job(0).signal.aborted).toBe(false);
    expect(consuming.ended).toBe(false);
    expect(queue.calls.filter((call) => call.startsWith('ChangeMessageVisibility')).length).toBeGreaterThan(80);
    job(0).end();
    await clock.advance(0);
    expect(consuming.ended).toBe(true);
    expect(queue.bodies).toEqual(['b']);
  });

  test('releases at once what it received meanwhile', async () => {
    const consuming = await start({
      queue: instead({
        receive: async (max) => {
          // its answer was in transit
          await clock.sleep(SECOND);
          return queue.receive(max, { waitSeconds: 0 });
        },
      }),
    });
    await send('a', 'b');
    consuming.stopping.abort();
    await clock.advance(SECOND);
    expect(consuming.ended).toBe(true);
    expect(jobs).toEqual([]);
    expect(await queue.count()).toMatchObject({ visible: 2, inFlight: 0 });
  });

  test('aborts running jobs when the signal aborts, and releases them at once', async () => {
    const consuming = await start({ handle: obedient });
    await send('a', 'b');
    consuming.signal.abort();
    await clock.advance(0);
    expect(consuming.ended).toBe(true);
    expect(await queue.count()).toMatchObject({ visible: 2, inFlight: 0 });
    expect(events).toEqual([]);
  });

  test('settles as done what ends well in spite of the signal', async () => {
    const consuming = await start();
    await send('a', 'b');
    consuming.signal.abort();
    job(0).end();
    job(1).fail(new Failure('UNAVAILABLE', 'the socket is closed'));
    await clock.advance(0);
    expect(consuming.ended).toBe(true);
    expect(queue.bodies).toEqual(['b']);
    expect(await queue.count()).toMatchObject({ visible: 1 });
    expect(warnings()).toEqual(['message message-2: the socket is closed; it is redelivered in 0 seconds']);
  });

  test('leaves a job that ignores the signal after 10 seconds, and releases it', async () => {
    const consuming = await start({ slots: 1 });
    await send('a');
    consuming.signal.abort();
    await clock.advance(9 * SECOND);
    expect(consuming.ended).toBe(false);
    expect(await queue.count()).toMatchObject({ inFlight: 1 });
    await clock.advance(SECOND);
    expect(consuming.ended).toBe(true);
    expect(await queue.count()).toMatchObject({ visible: 1, inFlight: 0 });
    expect(warnings()).toEqual([
      'message message-1: its job still runs 10 seconds after it was stopped, and is abandoned',
    ]);
  });

  test('ends while the queue is unavailable', async () => {
    const consuming = await start({ handle: obedient });
    await send('a');
    queue.faults.goAway();
    consuming.signal.abort();
    await clock.advance(30 * SECOND);
    expect(consuming.ended).toBe(true);
    expect(warnings()).toHaveLength(1);
  });

  test('before the start receives nothing', async () => {
    await send('a');
    const consuming = await start({ stopping: AbortSignal.abort() });
    expect(consuming.ended).toBe(true);
    expect(callsOf('Receive')).toEqual([]);
  });
});

describe('an unavailable queue', () => {
  test('is asked for ever, every 20 seconds in the end, and reported now and then', async () => {
    await start();
    queue.faults.goAway();
    await clock.advance(30 * MINUTE);
    const calls = callsOf('Receive').length;
    expect(calls).toBeGreaterThan((30 * MINUTE) / (20 * SECOND));
    expect(calls).toBeLessThan((30 * MINUTE) / (10 * SECOND) + 20);
    expect(events.length).toBeGreaterThan(3);
    expect(events.length).toBeLessThan(9);
    expect(events[0]).toMatchObject({ type: 'retry', what: 'receive from queue memory', code: 'UNAVAILABLE' });
    queue.faults.comeBack();
    await send('a');
    await clock.advance(20 * SECOND);
    expect(bodies()).toEqual(['a']);
    expect(events.at(-1)).toMatchObject({
      type: 'note',
      message: expect.stringMatching(/^queue memory answers again, after \d+ failures in 1[78]\d\d seconds$/),
    });
  });

  test('is asked for ever even if it refuses', async () => {
    let asked = 0;
    await start({
      queue: instead({
        receive: async () => {
          asked++;
          throw new Failure('DENIED', 'receive: access denied');
        },
      }),
    });
    await clock.advance(10 * MINUTE);
    expect(asked).toBeGreaterThan(30);
    expect(events).toMatchObject([{ code: 'DENIED' }, { code: 'DENIED' }]);
  });

  test('is asked again if it never answers, and what it delivers later is released', async () => {
    const { promise: later, resolve } = Promise.withResolvers<undefined>();
    const signals: (AbortSignal | undefined)[] = [];
    await start({
      queue: instead({
        receive: async (max, at) => {
          if (signals.push(at?.signal) > 1) return queue.receive(max, at);
          const late = await queue.receive(1);
          await later;
          return late;
        },
      }),
    });
    await send('a');
    await clock.advance(3 * MINUTE);
    expect(events).toMatchObject([
      { type: 'retry', code: 'UNAVAILABLE', message: 'receive from queue memory: no answer within 120 seconds' },
    ]);
    expect(signals.map((signal) => signal?.aborted).slice(0, 2)).toEqual([true, false]);
    expect(bodies()).toEqual(['a']);
    job(0).end({ type: 'again', seconds: 600 });
    await clock.advance(0);
    resolve(undefined);
    await send('b');
    expect(bodies()).toEqual(['a', 'b']);
    expect(callsOf('ChangeMessageVisibility 0')).toHaveLength(1);
  });
});

describe('the sign of life of the loop', () => {
  let silent = false;
  afterEach(() => {
    silent = false;
  });

  test.each<[string, () => void]>([
    ['nothing comes', () => undefined],
    ['all slots are taken', () => void send('a', 'b')],
    ['the queue is away', () => queue.faults.goAway()],
    ['the queue does not answer', () => (silent = true)],
  ])('is reported every 25 seconds while %s', async (_, prepare) => {
    const times = [clock.now()];
    prepare();
    const never = instead({ receive: async (_max, at) => orAborted(new Promise<never>(() => undefined), at) });
    await start({ alive: () => times.push(clock.now()), ...(silent ? { queue: never } : {}) });
    const untilMs = clock.now() + 10 * MINUTE;
    await clock.advance(10 * MINUTE);
    const gaps = times.slice(1).map((atMs, index) => atMs - (times[index] ?? 0));
    expect(Math.max(...gaps, untilMs - (times.at(-1) ?? 0))).toBeLessThanOrEqual(25 * SECOND);
  });

  test('is reported while the last jobs end', async () => {
    let told = 0;
    const { stopping } = await start({ alive: () => told++ });
    await send('a');
    stopping.abort();
    await clock.advance(0);
    const before = told;
    await clock.advance(2 * MINUTE);
    expect(told - before).toBeGreaterThanOrEqual(5);
  });
});

test('errors of observers cannot end it', async () => {
  const broken = (): never => {
    throw new Error('a bug of an observer');
  };
  await start({ alive: broken, busy: broken, report: broken, handle: async () => Promise.reject(new Error('x')) });
  queue.faults.goAway();
  await clock.advance(MINUTE);
  queue.faults.comeBack();
  await send('a', 'b');
  await clock.advance(MINUTE);
  expect(queue.bodies).toEqual(['a', 'b']);
  expect(callsOf('ChangeMessageVisibility').length).toBeGreaterThanOrEqual(2);
});

test.each([{ slots: 0 }, { slots: 1.5 }, { visibilitySeconds: 5 }, { visibilitySeconds: Number.NaN }])(
  'INVALID: %o',
  async (o) => {
    await expect(
      consume(queue, held, { slots: 1, stopping: new AbortController().signal, clock, ...o }),
    ).rejects.toMatchObject({ code: 'INVALID' });
  },
);
