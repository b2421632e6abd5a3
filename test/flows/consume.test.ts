// Consuming a queue over the real SDK and the embedded SQS, with the behaviour of standard queues and networks.
import { SQSClient } from '@aws-sdk/client-sqs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { consume, type ConsumeOptions } from '../../worker/queue/consume.ts';
import type { Outcome, Queue } from '../../worker/queue/queue.ts';
import { openSqs } from '../../worker/queue/sqs.ts';
import { startSqs, type LocalSqs } from '../../local/sqs/sqs.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { isFailure, type Code } from '../../worker/util/failure.ts';
import type { Event } from '../../worker/util/events.ts';

const DONE: Outcome = { type: 'done' };

describe('consuming SQS', () => {
  let sqs: LocalSqs;
  let opened: AsyncDisposableStack;
  let queue: Queue;
  let events: Event[];
  /** Bodies of the messages whose work began, in order. */
  let begun: string[];
  let stopping: AbortController;
  let signal: AbortController;

  beforeEach(async () => {
    opened = new AsyncDisposableStack();
    sqs = opened.use(
      await startSqs({
        queues: [{ name: 'dead' }, { name: 'jobs', deadLetters: { queue: 'dead', maxReceiveCount: 5 } }],
      }),
    );
    events = [];
    begun = [];
    stopping = new AbortController();
    signal = new AbortController();
    queue = open('jobs');
  });
  afterEach(async () => {
    stopping.abort();
    signal.abort();
    await opened[Symbol.asyncDispose]();
  });

  function open(name: string): Queue {
    const client = new SQSClient({
      endpoint: sqs.endpoint,
      region: 'us-east-1',
      credentials: { accessKeyId: 'local', secretAccessKey: 'local-secret' },
      maxAttempts: 1,
    });
    opened.defer(() => client.destroy());
    return openSqs({ queueUrl: sqs.queueUrl(name), clock: systemClock, client });
  }
  const start = async (
    work: (body: string, signal: AbortSignal) => Promise<Outcome>,
    o: Partial<ConsumeOptions> = {},
  ): Promise<void> =>
    consume(
      open('jobs'),
      async ({ body }, at) => {
        begun.push(body);
        return work(body, at.signal);
      },
      {
        slots: 4,
        visibilitySeconds: 10,
        stopping: stopping.signal,
        signal: signal.signal,
        clock: systemClock,
        report: (event) => events.push(event),
        ...o,
      },
    );
  const send = async (count: number): Promise<readonly string[]> => {
    const bodies = Array.from({ length: count }, (_, n) => `job ${n}`);
    await queue.send(bodies.map((body) => ({ body })));
    return bodies;
  };
  const until = async (isSo: () => boolean | Promise<boolean>): Promise<void> => {
    while (!(await isSo())) await delay(10);
  };
  const isEmpty = async (): Promise<boolean> => {
    const { visible, inFlight, delayed } = await queue.count();
    return visible + inFlight + delayed === 0;
  };

  test('two consumers do every message of many, with nothing left', async () => {
    const bodies = await send(60);
    // no message is visible again because a busy machine was slow
    const hour = { visibilitySeconds: 3600 };
    const both = [start(async () => DONE, hour), start(async () => DONE, hour)];
    await until(async () => begun.length >= 60 && (await isEmpty()));
    stopping.abort();
    await Promise.all(both);
    expect(begun.toSorted()).toEqual(bodies.toSorted());
    expect(events).toEqual([]);
  });

  test('each message is done and none is lost with duplicates, another order, throttles and broken connections', async () => {
    const bodies = await send(40);
    sqs.deliveryFaults.add({ share: 0.2 }, { kind: 'duplicate' });
    sqs.deliveryFaults.add({ share: 0.3 }, { kind: 'reorder' });
    sqs.faults.add({ operation: 'ReceiveMessage', share: 0.2 }, { kind: 'answer' });
    sqs.faults.add({ operation: 'DeleteMessageBatch', share: 0.2 }, { kind: 'answer' });
    sqs.faults.add({ operation: 'DeleteMessageBatch', share: 0.1 }, { kind: 'cut-request' });
    sqs.faults.add({ operation: 'DeleteMessageBatch', share: 0.1 }, { kind: 'lose-answer' });
    const both = [start(async () => DONE, { slots: 10 }), start(async () => DONE, { slots: 10 })];
    await until(async () => new Set(begun).size === 40 && (await isEmpty()));
    stopping.abort();
    await Promise.all(both);
    expect(new Set(begun)).toEqual(new Set(bodies));
    expect(begun.length).toBeGreaterThan(40);
    expect(begun).not.toEqual(bodies);
  });

  test('a message that another consumer received stops its first job, which settles nothing', async () => {
    sqs.deliveryFaults.add({}, { kind: 'reappear', afterSeconds: 0.5 });
    await send(1);
    const codes: Code[] = [];
    const gate = Promise.withResolvers<Outcome>();
    const consuming = start(async (_, at) => {
      if (begun.length > 1) return gate.promise;
      await new Promise((resolve) => at.addEventListener('abort', resolve));
      if (isFailure(at.reason)) codes.push(at.reason.code);
      return DONE;
    });
    await until(() => codes.length > 0);
    expect(codes).toEqual(['CONFLICT']);
    expect(await queue.count()).toMatchObject({ inFlight: 1 });
    gate.resolve(DONE);
    await until(isEmpty);
    stopping.abort();
    await consuming;
    expect(begun).toHaveLength(2);
    expect(sqs.calls.filter(({ action }) => action === 'DeleteMessageBatch')).toHaveLength(1);
  });

  test.each(['reset', 'unavailable'] as const)('a queue that is away for a while (%s)', async (how) => {
    await send(3);
    const consuming = start(async () => delay(50, DONE), { slots: 1 });
    await until(() => begun.length > 0);
    sqs.faults.goAway(how);
    await delay(1500);
    sqs.faults.comeBack();
    await until(async () => begun.length >= 3 && (await isEmpty()));
    stopping.abort();
    await consuming;
    expect(new Set(begun).size).toBe(3);
  });

  test('stopping makes messages in work visible to others at once', async () => {
    await send(2);
    // so long that none becomes visible before the test is over, unless it is given back
    const hour = { visibilitySeconds: 3600 };
    const consuming = start(async (_, at) => {
      await new Promise((resolve) => at.addEventListener('abort', resolve));
      throw at.reason;
    }, hour);
    await until(() => begun.length === 2);
    stopping.abort();
    signal.abort();
    await consuming;
    await until(async () => (await queue.count()).visible === 2);
    // one more where they met the receive that was being stopped
    for (const { receiveCount } of await queue.receive(10)) expect([2, 3]).toContain(receiveCount);
  });

  test('stopping in the middle of a long poll loses no message', async () => {
    for (let round = 0; round < 10; round++) {
      const here = new AbortController();
      const consuming = start(async () => DONE, { stopping: here.signal });
      await delay(20);
      const sent = send(1);
      here.abort();
      await Promise.all([consuming, sent]);
    }
    // a message whose answer was in transit becomes visible later
    const { visible, inFlight } = await queue.count();
    expect(visible + inFlight + begun.length).toBe(10);
  });
});
