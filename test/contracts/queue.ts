import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Delivery, Queue } from '../../worker/queue/queue.ts';

interface QueueUnderTest extends AsyncDisposable {
  /** Empty. */
  readonly queue: Queue;
  /** The clock that messages use. */
  now(): number;
  /** Advances the clock. */
  pass(seconds: number): Promise<void>;
}

/** What every Queue promises. `make` is called before each test. */
export function queueSuite(name: string, make: () => Promise<QueueUnderTest>): void {
  describe(`${name} as a queue`, () => {
    let made: QueueUnderTest;
    let queue: Queue;

    beforeEach(async () => {
      made = await make();
      ({ queue } = made);
    });
    afterEach(async () => made[Symbol.asyncDispose]());

    const send = async (...bodies: readonly string[]): Promise<void> => queue.send(bodies.map((body) => ({ body })));
    const receive = async (options: { visibilitySeconds?: number; max?: number } = {}): Promise<readonly Delivery[]> =>
      queue.receive(options.max ?? 10, { waitSeconds: 0, ...options });
    const receiveOne = async (options: { visibilitySeconds?: number } = {}): Promise<Delivery> => {
      const [delivery, ...others] = await receive(options);
      expect(others).toEqual([]);
      if (delivery === undefined) throw new Error('no message came');
      return delivery;
    };
    const bodiesOf = (deliveries: readonly Delivery[]): readonly string[] =>
      deliveries.map(({ body }) => body).sort((a, b) => a.localeCompare(b));

    test('a sent message is received with its attributes', async () => {
      const beforeMs = made.now();
      await send('{"a":"ä €\\u0000"}\n\t');
      const delivery = await receiveOne();
      expect(delivery).toMatchObject({ body: '{"a":"ä €\\u0000"}\n\t', receiveCount: 1, reason: undefined });
      expect(delivery.id).not.toBe('');
      for (const atMs of [delivery.sentAtMs, delivery.firstReceivedAtMs]) {
        expect(atMs).toBeGreaterThanOrEqual(beforeMs);
        expect(atMs).toBeLessThanOrEqual(made.now());
      }
    });

    test('a message is hidden from other consumers once it is received, and gone once it is done', async () => {
      await send('a');
      const delivery = await receiveOne();
      expect(await receive()).toEqual([]);
      expect(await queue.count()).toEqual({ visible: 0, inFlight: 1, delayed: 0 });
      await delivery.settle({ type: 'done' });
      expect(await queue.count()).toEqual({ visible: 0, inFlight: 0, delayed: 0 });
      await delivery.settle({ type: 'done' });
    });

    test('a message that is released is redelivered at once, as another delivery of the same message', async () => {
      await send('a');
      const first = await receiveOne();
      await first.settle({ type: 'again', seconds: 0 });
      const second = await receiveOne();
      const { id, firstReceivedAtMs } = first;
      expect(second).toMatchObject({ id, firstReceivedAtMs, body: 'a', receiveCount: 2 });
      await second.settle({ type: 'done' });
      await first.settle({ type: 'again', seconds: 0 });
      await second.settle({ type: 'again', seconds: 0 });
      expect(await receive()).toEqual([]);
    });

    test('a message released with a delay is not visible before', async () => {
      await send('a');
      const delivery = await receiveOne();
      await delivery.settle({ type: 'again', seconds: 0.5 });
      expect(await receive()).toEqual([]);
      await made.pass(1.2);
      expect((await receiveOne()).receiveCount).toBe(2);
    });

    test('a message is redelivered after its visibility timeout, and its first consumer no longer holds it', async () => {
      await send('a');
      const first = await receiveOne({ visibilitySeconds: 1 });
      await made.pass(1.2);
      await expect(first.extend(30)).rejects.toMatchObject({ code: 'CONFLICT' });
      await first.settle({ type: 'again', seconds: 300 });
      const second = await receiveOne();
      expect(second).toMatchObject({ id: first.id, receiveCount: 2 });
      await expect(first.extend(0)).rejects.toMatchObject({ code: 'CONFLICT' });
      expect(await receive()).toEqual([]);
      await second.extend(30);
    });

    test('extending a message keeps it', async () => {
      await send('a');
      const delivery = await receiveOne({ visibilitySeconds: 1 });
      await delivery.extend(30);
      await made.pass(1.2);
      expect(await receive()).toEqual([]);
      await delivery.extend(29.5);
      await delivery.settle({ type: 'done' });
      await expect(delivery.extend(30)).rejects.toMatchObject({ code: 'CONFLICT' });
    });

    test('a message that is delayed cannot be received before', async () => {
      await queue.send([{ body: 'late', delaySeconds: 1 }, { body: 'now' }]);
      expect(bodiesOf(await receive())).toEqual(['now']);
      expect(await queue.count()).toEqual({ visible: 0, inFlight: 1, delayed: 1 });
      await made.pass(1.2);
      expect(bodiesOf(await receive())).toEqual(['late']);
    });

    test('many messages are sent at once, and received ten at a time at most', async () => {
      const bodies = Array.from({ length: 23 }, (_, n) => `m${String(n).padStart(2, '0')}`);
      await send(...bodies);
      expect(await queue.count()).toMatchObject({ visible: 23 });
      const received: Delivery[] = [];
      for (const max of [1, 3, 10, 10]) {
        const some = await receive({ max });
        expect(some.length).toBeLessThanOrEqual(max);
        received.push(...some);
      }
      expect(bodiesOf(received)).toEqual(bodies.slice(0, 23));
      expect(new Set(received.map(({ id }) => id)).size).toBe(23);
      await send();
    });

    test('the reason of a dead letter is kept, cut where it is long', async () => {
      await queue.send([
        { body: 'a', reason: 'pull docker://a/b: 404 – not there' },
        { body: 'b', reason: 'x'.repeat(2000) },
        { body: 'c', reason: '' },
      ]);
      const reasons = new Map((await receive()).map(({ body, reason }) => [body, reason]));
      expect(reasons.get('a')).toBe('pull docker://a/b: 404 – not there');
      expect(reasons.get('b')).toBe('x'.repeat(1000));
      expect(reasons.get('c')).toBeUndefined();
    });

    test('a message over the size limit is INVALID, and nothing is sent', async () => {
      const big = 'ä'.repeat(512 * 1024);
      await send(big);
      expect((await receiveOne()).body).toBe(big);
      await expect(send('small', `${big}x`)).rejects.toMatchObject({ code: 'INVALID' });
      expect(await receive()).toEqual([]);
    });

    test('a waiting consumer receives a message as soon as it is sent', async () => {
      const waiting = queue.receive(10);
      await send('a');
      expect(bodiesOf(await waiting)).toEqual(['a']);
    });

    test('a consumer that waits in vain gets an empty list', async () => {
      const waiting = queue.receive(10, { waitSeconds: 1 });
      await made.pass(1.2);
      expect(await waiting).toEqual([]);
    });

    test('a wait that is aborted loses no message', async () => {
      const stop = new AbortController();
      const waiting = expect(queue.receive(10, { signal: stop.signal })).rejects.toMatchObject({ code: 'ABORTED' });
      await made.pass(0.1);
      stop.abort();
      await waiting;
      await send('a');
      expect(bodiesOf(await queue.receive(10, { waitSeconds: 1 }))).toEqual(['a']);
    });

    test('nothing begins when the signal is already aborted', async () => {
      const options = { signal: AbortSignal.abort() };
      await send('a');
      await expect(queue.send([{ body: 'b' }], options)).rejects.toMatchObject({ code: 'ABORTED' });
      await expect(queue.receive(1, options)).rejects.toMatchObject({ code: 'ABORTED' });
      await expect(queue.count(options)).rejects.toMatchObject({ code: 'ABORTED' });
      const deliveries = await receive();
      expect(bodiesOf(deliveries)).toEqual(['a']);
      await expect(deliveries[0]?.extend(30, options)).rejects.toMatchObject({ code: 'ABORTED' });
    });
  });
}
