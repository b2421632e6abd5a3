import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { runNumber } from '../../../worker/rules/schedule.ts';
import { isFailure } from '../../../worker/util/failure.ts';
import { describeSample, isInSample, parseSample, sampleOf } from '../../../worker/util/sample.ts';

const DAY_MS = 86_400_000;

describe('a sample', () => {
  test('is another part in each run, and as many runs as there are slices cover everything, once', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), fc.nat(100_000), fc.string(), (percent, first, name) => {
        const { slices } = sampleOf(percent, first);
        const runs = Array.from({ length: slices }, (_, index) => sampleOf(percent, first + index));
        expect(runs.filter((sample) => isInSample(sample, name))).toHaveLength(1);
        expect(100 / slices).toBeLessThanOrEqual(percent);
      }),
    );
  });

  test('of a percentage is the next one each day', () => {
    const days = Array.from({ length: 20 }, (_, day) => parseSample('5%', 1_800_000_000_000 + day * DAY_MS));
    expect(new Set(days.map(({ slice }) => slice)).size).toBe(20);
    expect(parseSample('3/20', 0)).toEqual({ slice: 2, slices: 20 });
    expect(isInSample(undefined, 'anything')).toBe(true);
  });

  test.each(['0%', '101%', '5', '-5%', '0/20', '21/20', 'half', ''])('cannot be %j', (text) => {
    let error: unknown;
    try {
      parseSample(text, 0);
    } catch (thrown) {
      error = thrown;
    }
    expect(isFailure(error, 'INVALID')).toBe(true);
  });

  test.each([
    ['0 4 * * *', DAY_MS],
    ['30 * * * *', DAY_MS / 24],
    ['0 4 * * 0', 7 * DAY_MS],
  ])('of a rule on the schedule %s is the next one in each run', (cron, gapMs) => {
    const schedule = { cron, timeZone: 'UTC' };
    const startMs = Date.UTC(2026, 11, 6, 4, 30);
    const numbers = Array.from({ length: 20 }, (_, run) => runNumber(schedule, startMs + run * gapMs));
    for (const [index, number] of numbers.entries()) expect(number - (numbers[0] ?? 0)).toBe(index);
  });

  test('is written in results as the flag that reads the same part again', () => {
    const sample = { slice: 8, slices: 20 };
    expect(describeSample(sample)).toBe('sample 9/20');
    expect(parseSample(describeSample(sample).replace('sample ', ''), 0)).toEqual(sample);
  });
});
