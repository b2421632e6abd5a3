import { describe, expect, test } from 'vitest';
import { Width, type Progress } from '../../../worker/content/width.ts';

const START: Progress = { nowMs: 0, bytes: 0, allBytes: 0, waitedMs: 0, idleMs: 0 };

interface Window {
  readonly megabytesPerSecond: number;
  /** The rate that all readings share. Default: the rate of this one. */
  readonly all?: number;
  readonly waited?: number;
  /** Undefined: not known. */
  readonly idle?: number | undefined;
}

/** The width after each of these windows of 100 ms. */
function widths(most: number, windows: readonly Window[]): readonly number[] {
  const width = new Width(most, START);
  let now = START;
  return windows.map((window) => {
    const { megabytesPerSecond, all = megabytesPerSecond, waited = 1 } = window;
    now = {
      nowMs: now.nowMs + 100,
      bytes: now.bytes + megabytesPerSecond * 1e5,
      allBytes: now.allBytes + all * 1e5,
      waitedMs: now.waitedMs + waited * 100,
      idleMs:
        'idle' in window
          ? window.idle === undefined
            ? undefined
            : (now.idleMs ?? 0) + window.idle * 100
          : (now.idleMs ?? 0) + 100,
    };
    if (width.isDue(now.nowMs)) width.look(now);
    return width.current;
  });
}

const at = (megabytesPerSecond: number): Window => ({ megabytesPerSecond });

describe('the number of connections that read a blob', () => {
  test('doubles while that is faster, up to what the source serves', () => {
    expect(widths(8, [at(20), at(40), at(80), at(150), at(150)])).toEqual([2, 4, 8, 8, 8]);
    expect(widths(3, [at(20), at(40), at(60)])).toEqual([2, 3, 3]);
    expect(widths(1, [at(20), at(20)])).toEqual([1, 1]);
  });

  test('returns to where more connections gained nothing, and tries again later, each time after twice as long', () => {
    const line = Array.from({ length: 30 }, () => at(12));
    // a trial takes three windows, and the pauses take 5 and 10
    expect(widths(8, line).join('')).toBe('222111112221111111111222111111');
    expect(widths(8, [at(20), at(40), at(41), at(41), at(41), at(20), at(20)])).toEqual([2, 4, 4, 4, 2, 2, 2]);
  });

  test('gives a slow start of a connection time', () => {
    expect(widths(8, [at(20), at(20), at(35), at(50), at(80)])).toEqual([2, 2, 4, 8, 8]);
  });

  test('stays at one while the reader is the bottleneck', () => {
    const busy = { megabytesPerSecond: 20, waited: 0.5 };
    expect(widths(8, [busy, busy, at(20)])).toEqual([1, 1, 2]);
  });

  test('stays at one while the thread is the bottleneck', () => {
    const busy = { megabytesPerSecond: 20, idle: 0.2 };
    expect(widths(8, [busy, busy, at(20)])).toEqual([1, 1, 2]);
    expect(widths(8, [{ megabytesPerSecond: 20, idle: undefined }])).toEqual([2]);
  });

  test('stays at one while all readings together are fast', () => {
    const together = { megabytesPerSecond: 60, all: 240 };
    expect(widths(8, [at(250), together, at(60)])).toEqual([1, 1, 2]);
  });

  test('is not decided without measurements', () => {
    const width = new Width(8, START);
    expect(width.isDue(99)).toBe(false);
    expect(width.isDue(100)).toBe(true);
    width.stayAtOne();
    expect(width.isDue(1000)).toBe(false);
  });
});
