import { expect, test } from 'vitest';
import { deadline } from '../../../worker/util/deadline.ts';
import { Failure } from '../../../worker/util/failure.ts';
import { manualClock } from '../../support/clock.ts';

const late = (): Failure => new Failure('ABORTED', 'it is late');

test('a deadline aborts with its reason when the time is over, and not before', async () => {
  const clock = manualClock();
  await using end = deadline(1000, late, clock);
  await clock.advance(999);
  expect(end.signal.aborted).toBe(false);
  await clock.advance(1);
  expect(end.signal.reason).toMatchObject({ code: 'ABORTED', message: 'it is late' });
});

test('a deadline that is already over aborts at once', async () => {
  const clock = manualClock();
  await using end = deadline(-1, late, clock);
  await clock.advance(0);
  expect(end.signal.aborted).toBe(true);
});

test('a deadline that is disposed never aborts, and leaves nothing waiting', async () => {
  const clock = manualClock();
  const end = deadline(1000, late, clock);
  await end[Symbol.asyncDispose]();
  expect(clock.sleeping).toBe(0);
  await clock.advance(2000);
  expect(end.signal.aborted).toBe(false);
});
