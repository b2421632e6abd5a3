import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Schedule } from '../../../worker/rules/rule.ts';
import { checkSchedule, dailySchedule, lastScheduledMs, nextScheduledMs } from '../../../worker/rules/schedule.ts';

const msOf = (moment: string): number => Date.parse(moment);
const text = (ms: number | undefined): string | undefined =>
  ms === undefined ? undefined : new Date(ms).toISOString();

/** The next `count` scheduled times after `from`. */
function ticks(s: Schedule, from: string, count: number): readonly (string | undefined)[] {
  const found: (string | undefined)[] = [];
  let now: number | undefined = msOf(from);
  while (found.length < count && now !== undefined) {
    now = nextScheduledMs(s, now);
    found.push(text(now));
  }
  return found;
}

describe('scheduled times', () => {
  const nightly: Schedule = { cron: '0 2 * * *', timeZone: 'UTC' };

  test('are the last one from their own moment on, and the next one until then', () => {
    expect(text(lastScheduledMs(nightly, msOf('2026-11-21T02:00:00Z')))).toBe('2026-11-21T02:00:00.000Z');
    expect(text(lastScheduledMs(nightly, msOf('2026-11-21T01:59:59.999Z')))).toBe('2026-11-20T02:00:00.000Z');
    expect(text(nextScheduledMs(nightly, msOf('2026-11-21T02:00:00Z')))).toBe('2026-11-22T02:00:00.000Z');
    expect(text(nextScheduledMs(nightly, msOf('2026-11-21T01:59:59.999Z')))).toBe('2026-11-21T02:00:00.000Z');
  });

  test('have seconds with six fields', () => {
    const s = { cron: '30 0 2 * * *', timeZone: 'UTC' };
    expect(text(nextScheduledMs(s, msOf('2026-11-21T02:00:00Z')))).toBe('2026-11-21T02:00:30.000Z');
  });

  test('come right after a clock change that skips them, once', () => {
    const s = { cron: '30 2 * * *', timeZone: 'Europe/Berlin' };
    expect(ticks(s, '2026-03-27T12:00:00Z', 3)).toEqual([
      '2026-03-28T01:30:00.000Z',
      '2026-03-29T01:00:00.000Z',
      '2026-03-30T00:30:00.000Z',
    ]);
    expect(text(lastScheduledMs(s, msOf('2026-03-29T23:00:00Z')))).toBe('2026-03-29T01:00:00.000Z');
  });

  test('come once when a clock change repeats them', () => {
    const s = { cron: '30 2 * * *', timeZone: 'Europe/Berlin' };
    expect(ticks(s, '2026-10-24T12:00:00Z', 2)).toEqual(['2026-10-25T00:30:00.000Z', '2026-10-26T01:30:00.000Z']);
    expect(text(lastScheduledMs(s, msOf('2026-10-25T03:00:00Z')))).toBe('2026-10-25T00:30:00.000Z');
  });

  test('of every hour come through both clock changes', () => {
    const s = { cron: '0 * * * *', timeZone: 'Europe/Berlin' };
    for (const day of ['2026-03-29', '2026-10-25']) {
      const found = ticks(s, `${day}T00:00:00Z`, 4).map((tick) => msOf(tick ?? ''));
      expect(found.map((tick) => tick - msOf(`${day}T00:00:00Z`))).toEqual(
        [1, 2, 3, 4].map((hour) => hour * 3_600_000),
      );
    }
  });

  const schedule = fc.record<Schedule>({
    cron: fc.constantFrom(
      '* * * * *',
      '*/7 * * * *',
      '30 2 * * *',
      '0 1,2,3 * * *',
      '15 */2 * * 1-5',
      '0 0 29 2 *',
      '0 12 L * *',
      '*/20 59 * * * *',
      '@weekly',
    ),
    timeZone: fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Asia/Kathmandu'),
  });
  const moment = fc.oneof(
    fc.integer({ min: msOf('2026-01-01T00:00:00Z'), max: msOf('2028-12-31T00:00:00Z') }),
    // where clocks are changed
    fc
      .tuple(
        fc.constantFrom(
          '2026-03-08T06:00:00Z',
          '2026-03-29T00:00:00Z',
          '2026-10-25T00:00:00Z',
          '2026-11-01T05:00:00Z',
          '2026-04-04T14:00:00Z',
          '2026-10-03T14:00:00Z',
        ),
        fc.integer({ min: -7_200_000, max: 7_200_000 }),
      )
      .map(([near, by]) => msOf(near) + by),
  );

  test('are in order: the last is not later than now, the next is later, with none in between', () => {
    fc.assert(
      fc.property(schedule, moment, (s, now) => {
        const last = lastScheduledMs(s, now) ?? Number.NaN;
        const next = nextScheduledMs(s, now) ?? Number.NaN;
        expect([last <= now, next > now]).toEqual([true, true]);
        expect([nextScheduledMs(s, last), lastScheduledMs(s, next - 1)]).toEqual([next, last]);
        expect([lastScheduledMs(s, last), nextScheduledMs(s, last - 1), lastScheduledMs(s, next)]).toEqual([
          last,
          last,
          next,
        ]);
      }),
      { numRuns: 400 },
    );
  });
});

describe('a schedule is refused', () => {
  test.each([
    ['0 0 30 2 *', 'UTC', 'never comes'],
    ['61 * * * *', 'UTC', 'invalid value for minute: 61'],
    ['* * * *', 'UTC', 'expected five fields'],
    ['0 0 0 1 1 * 2030', 'UTC', 'expected five fields'],
    ['2030-01-01T00:00:00', 'UTC', 'expected five fields'],
    ['', 'UTC', 'expected five fields'],
    ['@reboot', 'UTC', 'is not a schedule'],
    ['0 2 * * *', 'Mars/Olympus', 'is not a time zone'],
  ])('%j in %s', (cron, timeZone, why) => {
    expect(() => checkSchedule({ cron, timeZone }, 0)).toThrow(
      expect.objectContaining({ code: 'INVALID', message: expect.stringContaining(why) }),
    );
  });
});

test('rules without a schedule are spread over four hours of the night, each always at the same minute', () => {
  const schedules = Array.from({ length: 500 }, (_, n) => dailySchedule(`rule-${n}`));
  for (const { cron, timeZone } of schedules) {
    expect(timeZone).toBe('UTC');
    expect(cron).toMatch(/^(?:[0-9]|[1-5][0-9]) [1-4] \* \* \*$/);
  }
  expect(new Set(schedules.map(({ cron }) => cron)).size).toBeGreaterThan(150);
  expect(dailySchedule('a')).toEqual(dailySchedule('a'));
});
