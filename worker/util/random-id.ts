import type { Clock } from './clock.ts';

/** 13 lowercase hexadecimal digits by chance: two processes of one moment have different ones. */
export function randomId(clock: Pick<Clock, 'random'>): string {
  return Math.floor(clock.random() * 2 ** 52)
    .toString(16)
    .padStart(13, '0');
}
