import type { Clock } from './clock.ts';

/** 13 random lowercase hexadecimal digits, so that processes that start in the same moment have different ids. */
export function randomId(clock: Pick<Clock, 'random'>): string {
  return Math.floor(clock.random() * 2 ** 52)
    .toString(16)
    .padStart(13, '0');
}
