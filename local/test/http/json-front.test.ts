import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { Faults } from '../../faults.ts';
import { CallRefusal, openFront, type Call, type CallAnswer, type Front } from '../../http/json-front.ts';

const open = async (answer: (call: Call) => Promise<CallAnswer>, faults = new Faults()): Promise<Front> =>
  openFront({
    name: 'Test',
    target: 'Test',
    namespace: 'test',
    faults,
    throttled: { status: 429, code: 'TooMany' },
    answer,
  });

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
  test('answers a call, and reports what it refuses', async () => {
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

  test('undoes a call whose client has gone before the answer', async () => {
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

  test('does not undo a call that was answered', async () => {
    let undone = 0;
    const front = await open(async () => ({ body: {}, undo: async () => void undone++ }));
    await (await post(front)).json();
    await front.close();
    assert.equal(undone, 0);
  });

  test('when it closes, ends waiting calls and waits for them', async () => {
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
  test('refuse, cut the request and lose the answer, as often as requested, for the actions they wait for', async () => {
    let done = 0;
    const faults = new Faults();
    const front = await open(async () => ({ body: { done: ++done } }), faults);
    faults.add({ operation: 'Do', skip: 1, times: 2 }, { kind: 'answer' });
    assert.equal((await post(front, { target: 'Test.Other' })).status, 200);
    assert.deepEqual(
      (await Array.fromAsync([1, 2, 3, 4], async () => post(front))).map(({ status }) => status),
      [200, 429, 429, 200],
    );
    faults.add({}, { kind: 'answer', code: 'SlowDown' });
    assert.deepEqual(await (await post(front)).json(), { __type: 'test#SlowDown', message: 'Rate exceeded' });
    assert.equal(done, 3);
    faults.add({}, { kind: 'cut-request' });
    await assert.rejects(post(front));
    assert.equal(done, 3);
    faults.add({}, { kind: 'lose-answer' });
    await assert.rejects(post(front));
    assert.equal(done, 4);
    assert.equal(faults.pending, 0);
    assert.equal((await post(front)).status, 200);
    await front.close();
  });

  test('cut a request or an answer in the middle', async () => {
    let done = 0;
    const faults = new Faults();
    const front = await open(async () => ({ body: { done: ++done } }), faults);
    for (const afterBytes of [1, 1000]) {
      faults.add({}, { kind: 'cut-request', afterBytes });
      await assert.rejects(post(front));
    }
    assert.equal(done, 0);
    faults.add({}, { kind: 'cut-answer', afterBytes: 3 });
    const answer = await post(front);
    assert.equal(answer.status, 200);
    await assert.rejects(answer.text());
    assert.deepEqual([done, faults.pending], [1, 0]);
    await front.close();
  });

  test('answer with the given status and code, and delay', async () => {
    const faults = new Faults();
    const front = await open(async () => ({ body: {} }), faults);
    faults.add({}, { kind: 'answer', status: 500, code: 'Broken', retryAfterSeconds: 7 });
    const answer = await post(front);
    assert.deepEqual([answer.status, answer.headers.get('retry-after')], [500, '7']);
    faults.add({}, { kind: 'answer', status: 429, code: '' });
    const bare = await post(front);
    assert.deepEqual([bare.status, await bare.text()], [429, '']);
    faults.add({}, { kind: 'delay', ms: 20 });
    const begunMs = performance.now();
    assert.equal((await post(front)).status, 200);
    assert.ok(performance.now() - begunMs >= 19);
    faults.add({}, { kind: 'delay', ms: 3_600_000 });
    const waiting = assert.rejects(post(front));
    while (faults.pending > 0) await new Promise(setImmediate);
    await front.close();
    await waiting;
  });

  test('make a service unavailable until it is available again', async () => {
    const faults = new Faults();
    const front = await open(async () => ({ body: {} }), faults);
    faults.goAway();
    await assert.rejects(post(front));
    faults.goAway('unavailable');
    assert.equal((await post(front)).status, 503);
    faults.comeBack();
    assert.equal((await post(front)).status, 200);
    faults.goAway();
    faults.add({ times: Infinity }, { kind: 'answer' });
    faults.clear();
    assert.equal((await post(front)).status, 200);
    await front.close();
  });
});
