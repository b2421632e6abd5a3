import { describe, expect, test } from 'vitest';
import { parseTime } from '../../../worker/commands/places.ts';

const NOW = Date.parse('2026-12-01T12:00:00Z');

describe('a time', () => {
  test.each([
    ['2d', '2026-11-29T12:00:00.000Z'],
    ['3h', '2026-12-01T09:00:00.000Z'],
    ['30m', '2026-12-01T11:30:00.000Z'],
    ['1w', '2026-11-24T12:00:00.000Z'],
    ['2026-05-31', '2026-05-31T23:59:59.999Z'],
    ['2026-05-31T18:00Z', '2026-05-31T18:00:00.000Z'],
    ['2026-05-31 18:00', '2026-05-31T18:00:00.000Z'],
    ['2026-05-31T18:00:01.5+02:00', '2026-05-31T16:00:01.500Z'],
    ['2028-02-29', '2028-02-29T23:59:59.999Z'],
  ])('%s is %s', (text, expected) => {
    expect(new Date(parseTime(text, NOW)).toISOString()).toBe(expected);
  });

  test.each(['', 'now', '2', '2y', '-2d', '2026-02-30', '2026-13-01', '2026-05-31T25:00', '31.5.2026', '2026-05-31T'])(
    'is not %j',
    (text) => {
      expect(() => parseTime(text, NOW)).toThrow(
        expect.objectContaining({ code: 'INVALID', message: expect.stringContaining('2d') }),
      );
    },
  );
});
