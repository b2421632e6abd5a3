import { getEventListeners } from 'node:events';
import { describe, expect, test } from 'vitest';
import { aborted, checkAborted, orAborted } from '../../../worker/util/abort.ts';
import { Failure } from '../../../worker/util/failure.ts';

describe('checkAborted', () => {
  test('does nothing without a signal, or before it aborts', () => {
    expect(() => checkAborted(undefined)).not.toThrow();
    expect(() => checkAborted({})).not.toThrow();
    expect(() => checkAborted({ signal: new AbortController().signal })).not.toThrow();
  });

  test('throws ABORTED with the reason as cause once it is aborted', () => {
    const reason = new Error('ctrl-c');
    expect(() => checkAborted({ signal: AbortSignal.abort(reason) })).toThrow(
      expect.objectContaining({ code: 'ABORTED', cause: reason }),
    );
  });
});

describe('aborted', () => {
  test('returns a reason unchanged that is a failure', () => {
    const reason = new Failure('CORRUPT', 'the other blob is broken');
    expect(aborted(AbortSignal.abort(reason))).toBe(reason);
  });

  test('is ABORTED for every other reason, including a timeout', () => {
    expect(aborted(AbortSignal.abort())).toMatchObject({ code: 'ABORTED', retryable: false });
    expect(aborted(AbortSignal.abort('text'))).toMatchObject({ code: 'ABORTED', cause: 'text' });
  });
});

describe('orAborted', () => {
  test('settles like the promise', async () => {
    const { signal } = new AbortController();
    await expect(orAborted(Promise.resolve(7), undefined)).resolves.toBe(7);
    await expect(orAborted(Promise.resolve(7), { signal })).resolves.toBe(7);
    await expect(orAborted(Promise.reject(new Failure('DENIED', 'no')), { signal })).rejects.toMatchObject({
      code: 'DENIED',
    });
  });

  test('rejects as soon as the signal aborts, whatever the promise does later', async () => {
    const stop = new AbortController();
    const work = Promise.withResolvers<number>();
    const waiting = orAborted(work.promise, stop);
    stop.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED' });
    work.reject(new Error('no caller waits for this any more'));
  });

  test('rejects when the signal was already aborted, even if the promise is fulfilled', async () => {
    await expect(orAborted(Promise.resolve(7), { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ABORTED',
    });
  });

  test('leaves no listener on the signal in any ending', async () => {
    const stop = new AbortController();
    await orAborted(Promise.resolve(1), stop);
    await orAborted(Promise.reject(new Error('x')), stop).catch(() => undefined);
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0);
    const waiting = orAborted(Promise.withResolvers().promise, stop);
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(1);
    stop.abort();
    await waiting.catch(() => undefined);
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0);
  });
});
