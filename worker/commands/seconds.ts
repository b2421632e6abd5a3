import { InvalidArgumentError } from 'commander';

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600 };

/** Reads `90`, `90s`, `5m` or `1h` as seconds, a day at most: the value of a flag. */
export function parseSeconds(text: string): number {
  const [, number = '', unit = 's'] = /^([1-9][0-9]{0,4})([smh]?)$/.exec(text) ?? [];
  const seconds = Number(number) * (UNIT_SECONDS[unit === '' ? 's' : unit] ?? 1);
  if (seconds >= 1 && seconds <= 86_400) return seconds;
  throw new InvalidArgumentError('expected 1s to 24h, such as 60s or 5m.');
}
