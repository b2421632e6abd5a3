import { describe, expect, test } from 'vitest';
import {
  atSide,
  describeFailure,
  Failure,
  ifFound,
  isFailure,
  toFailure,
  type Code,
} from '../../../worker/util/failure.ts';

const RETRYABLE: Readonly<Record<Code, boolean>> = {
  NOT_FOUND: false,
  UNAUTHENTICATED: false,
  DENIED: false,
  CONFLICT: false,
  INVALID: false,
  UNSUPPORTED: false,
  CORRUPT: false,
  THROTTLED: true,
  UNAVAILABLE: true,
  ABORTED: false,
  BUG: false,
};

describe('a failure', () => {
  test.each(Object.entries(RETRYABLE))('of code %s has its retryability: %s', (code, retryable) => {
    expect(new Failure(code as Code, 'reading: it broke').retryable).toBe(retryable);
  });

  test('keeps code, message, cause and context', () => {
    const cause = new Error('socket hang up');
    const failure = new Failure('UNAVAILABLE', 'reading a: no answer', { cause, context: { status: 503 } });
    expect(failure).toMatchObject({ name: 'Failure', code: 'UNAVAILABLE', message: 'reading a: no answer', cause });
    expect(failure.context).toEqual({ status: 503 });
    expect(failure).toBeInstanceOf(Error);
  });

  test('without a cause has no member for it', () => {
    expect(new Failure('BUG', 'x')).not.toHaveProperty('cause');
    expect(new Failure('BUG', 'x').context).toEqual({});
  });
});

describe('isFailure', () => {
  test('accepts any code when none is named, or one of those named', () => {
    const failure = new Failure('DENIED', 'x');
    expect(isFailure(failure)).toBe(true);
    expect(isFailure(failure, 'NOT_FOUND', 'DENIED')).toBe(true);
    expect(isFailure(failure, 'NOT_FOUND')).toBe(false);
    expect(isFailure(new Error('x'))).toBe(false);
    expect(isFailure({ code: 'DENIED' }, 'DENIED')).toBe(false);
    expect(isFailure(undefined)).toBe(false);
  });
});

describe('toFailure', () => {
  test('returns a failure unchanged', () => {
    const failure = new Failure('CORRUPT', 'x');
    expect(toFailure(failure)).toBe(failure);
  });

  test.each([
    [new TypeError('x is not a function'), 'x is not a function'],
    ['thrown text', 'thrown text'],
    [undefined, 'undefined'],
    [Object.create(null), 'something that is not an error was thrown'],
    [Symbol('s'), 'Symbol(s)'],
  ])('turns whatever else was thrown into a BUG with its cause (%#)', (thrown: unknown, message) => {
    const failure = toFailure(thrown);
    expect(failure).toMatchObject({ code: 'BUG', message });
    expect(failure.cause).toBe(thrown);
  });
});

describe('atSide', () => {
  test('names the side and keeps code, cause and context', () => {
    const cause = new Error('socket hang up');
    const failure = atSide('target', new Failure('DENIED', 'push a: 403', { cause, context: { status: 403 } }));
    expect(failure).toMatchObject({ code: 'DENIED', message: 'push a: 403', cause });
    expect(failure.context).toEqual({ status: 403, side: 'target' });
  });

  test('leaves a side that is set already', () => {
    const failure = atSide('source', new Failure('NOT_FOUND', 'x'));
    expect(atSide('target', failure)).toBe(failure);
  });

  test('leaves an abort alone: no side is to blame', () => {
    const failure = new Failure('ABORTED', 'stopped');
    expect(atSide('source', failure)).toBe(failure);
  });

  test('turns an error that is not a failure into a BUG of that side', () => {
    const thrown = new TypeError('x is undefined');
    expect(atSide('source', thrown)).toMatchObject({ code: 'BUG', context: { side: 'source' }, cause: thrown });
  });
});

describe('describeFailure', () => {
  test.each<[unknown, string]>([
    [new Failure('DENIED', 'push a: 403'), 'push a: 403'],
    [atSide('target', new Failure('DENIED', 'push a: 403')), 'target: push a: 403'],
    [
      new Failure('CORRUPT', 'it is cut off', { context: { side: 'source', image: 'docker://host/a:1' } }),
      'source: docker://host/a:1: it is cut off',
    ],
    [new Failure('INVALID', 'x', { context: { side: undefined, status: 400 } }), 'x'],
    [atSide('source', new TypeError('x is undefined')), 'source: x is undefined'],
    ['thrown text', 'thrown text'],
  ])('puts the side and the image before the message (%#)', (thrown, sentence) => {
    expect(describeFailure(thrown)).toBe(sentence);
  });
});

test('ifFound turns NOT_FOUND into undefined, and nothing else', async () => {
  expect(await ifFound(Promise.resolve(1))).toBe(1);
  expect(await ifFound(Promise.reject(new Failure('NOT_FOUND', 'gone')))).toBeUndefined();
  await expect(ifFound(Promise.reject(new Failure('DENIED', 'no')))).rejects.toThrow('no');
});
