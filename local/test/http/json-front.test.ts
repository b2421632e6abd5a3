import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { CallFaults, FaultQueue } from '../../http/call-faults.ts';
import { CallRefusal, openFront, type Call, type CallAnswer, type Front } from '../../http/json-front.ts';

const open = async (answer: (call: Call) => Promise<CallAnswer>, faults = new CallFaults()): Promise<Front> =>
  openFront({ target: 'Test', namespace: 'test', faults, throttled: { status: 429, code: 'TooMany' }, answer });

const post = async (
  front: Front,
  o: { target?: string; body?: string; signal?: AbortSignal } = {},
): Promise<Response> =>
  fetch(front.url, {
    method: 'POST',
    headers: { 'x-amz-target': o.target ?? 'Test.Do' },
    body: o.body ?? '{}',
    signal: o.signal ?? null,
  });

describe('a front', () => {
  test('answers a call, and says what it refuses', async () => {
    const front = await open(async ({ action, input, text }) => {
      if (input['bad'] === true) throw new CallRefusal(418, 'Teapot', 'short and stout', { Item: 1 });
      if (input['bug'] === true) throw new TypeError('no such thing');
      return { body: { action, text } };
    });
    assert.deepEqual(await (await post(front, { body: '{"n":1}' })).json(), { action: 'Do', text: '{"n":1}' });
    const refused = await post(front, { body: '{"bad":true}' });
    assert.equal(refused.status, 418);
    assert.deepEqual(await refused.json(), { __type: 'test#Teapot', message: 'short and stout', Item: 1 });
    assert.equal((await post(front, { body: '{"bug":true}' })).status, 500);
    assert.equal((await post(front, { body: '[' })).status, 400);
    assert.equal((await post(front, { target: 'Other.Do' })).status, 501);
    assert.deepEqual(
      front.calls.map(({ action, status }) => `${action} ${status}`),
      ['Do 200', 'Do 418', 'Do 500', 'Do 400', ' 501'],
    );
    await front.close();
  });

  test('takes back what a call did whose client has gone before the answer', async () => {
    const [started, answered, undone] = [0, 1, 2].map(() => Promise.withResolvers<void>());
    assert.ok(started && answered && undone);
    const front = await open(async ({ signal }) => {
      started.resolve();
      await new Promise((resolve) => {
        signal.addEventListener('abort', resolve);
      });
      answered.resolve();
      return { body: {}, undo: async () => undone.resolve() };
    });
    const leaving = new AbortController();
    const call = assert.rejects(post(front, { signal: leaving.signal }));
    await started.promise;
    leaving.abort();
    await Promise.all([call, answered.promise, undone.promise]);
    await front.close();
  });

  test('does not take back what was answered', async () => {
    let undone = 0;
    const front = await open(async () => ({ body: {}, undo: async () => void undone++ }));
    await (await post(front)).json();
    await front.close();
    assert.equal(undone, 0);
  });

  test('ends calls that wait when it closes, and waits for them', async () => {
    const waiting = Promise.withResolvers<void>();
    let ended = false;
    const front = await open(async ({ signal }) => {
      waiting.resolve();
      await new Promise((resolve) => {
        signal.addEventListener('abort', resolve);
      });
      await new Promise(setImmediate);
      ended = true;
      return { body: {} };
    });
    const call = assert.rejects(post(front));
    await waiting.promise;
    await front.close();
    assert.ok(ended);
    await call;
  });
});

describe('faults of calls', () => {
  test('throttle, drop before and drop after, as often as they should, of the actions they wait for', async () => {
    let done = 0;
    const faults = new CallFaults();
    const front = await open(async () => ({ body: { done: ++done } }), faults);
    faults.throttle({ action: 'Do', skip: 1, times: 2 });
    assert.equal((await post(front, { target: 'Test.Other' })).status, 200);
    assert.deepEqual(
      (await Array.fromAsync([1, 2, 3, 4], async () => post(front))).map(({ status }) => status),
      [200, 429, 429, 200],
    );
    faults.throttle({}, 'SlowDown');
    assert.deepEqual(await (await post(front)).json(), { __type: 'test#SlowDown', message: 'Rate exceeded' });
    assert.equal(done, 3);
    faults.dropBefore();
    await assert.rejects(post(front));
    assert.equal(done, 3);
    faults.dropAfter();
    await assert.rejects(post(front));
    assert.equal(done, 4);
    assert.equal(faults.pending, 0);
    assert.equal((await post(front)).status, 200);
    await front.close();
  });

  test('make a service go away until it comes back', async () => {
    const faults = new CallFaults();
    const front = await open(async () => ({ body: {} }), faults);
    faults.goAway();
    await assert.rejects(post(front));
    faults.goAway('unavailable');
    assert.equal((await post(front)).status, 503);
    faults.comeBack();
    assert.equal((await post(front)).status, 200);
    faults.goAway();
    faults.throttle({ times: Infinity });
    faults.clear();
    assert.equal((await post(front)).status, 200);
    await front.close();
  });

  test('happen by chance to a share, the same with the same seed', () => {
    const strikes = (seed: number): string => {
      const queue = new FaultQueue<'fault'>(seed);
      queue.add('fault', { share: 0.3 });
      return Array.from({ length: 1000 }, () => (queue.take(() => true) === undefined ? '.' : 'x')).join('');
    };
    const once = strikes(7);
    assert.equal(strikes(7), once);
    assert.notEqual(strikes(8), once);
    const share = once.replaceAll('.', '').length / 1000;
    assert.ok(share > 0.25 && share < 0.35, `${share}`);
  });
});
