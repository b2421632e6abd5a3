import { Failure } from '../../util/failure.ts';
import { quote } from '../../util/text.ts';
import { checkSchedule } from '../schedule.ts';
import type { RuleSchedule } from './mapping.ts';

/** The units of Go's durations that an interval may have: https://pkg.go.dev/time#ParseDuration */
const UNIT_SECONDS: Readonly<Record<string, number>> = { h: 3600, m: 60, s: 1, ms: 1 / 1000 };
const DAY = 24 * 3600;
const PARTS_OF_60 = [1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30];
const PARTS_OF_24 = [1, 2, 3, 4, 6, 8, 12];

/** Intervals that a clock has, with their cron, the longest first. */
const CLOCK: readonly { readonly seconds: number; readonly cron: string }[] = [
  { seconds: 7 * DAY, cron: '0 0 * * 0' },
  { seconds: DAY, cron: '0 0 * * *' },
  ...PARTS_OF_24.toReversed().map((hours) => ({ seconds: hours * 3600, cron: `0 ${every(hours)} * * *` })),
  ...PARTS_OF_60.toReversed().map((minutes) => ({ seconds: minutes * 60, cron: `${every(minutes)} * * * *` })),
  ...PARTS_OF_60.toReversed().map((seconds) => ({ seconds, cron: `${every(seconds)} * * * * *` })),
];

function every(count: number): string {
  return count === 1 ? '*' : `*/${count}`;
}

/** A schedule made of what another tool has for it. */
export interface Timed {
  readonly schedule: RuleSchedule;
  /** What is not the same. */
  readonly difference?: string | undefined;
}

/** Every so many seconds. One that no clock has is the next shorter one that it has. INVALID for less than a second. */
export function everySeconds(seconds: number): Timed {
  const found = CLOCK.find((one) => one.seconds <= seconds);
  if (found === undefined) throw new Failure('INVALID', 'the interval is less than a second');
  const { cron } = found;
  if (found.seconds === seconds) return { schedule: { cron } };
  return {
    schedule: { cron },
    difference: `every ${describe(seconds)} is not a schedule: it runs every ${describe(found.seconds)}`,
  };
}

function describe(seconds: number): string {
  if (seconds % 3600 === 0) return `${seconds / 3600}h`;
  return seconds % 60 === 0 ? `${seconds / 60}m` : `${seconds}s`;
}

/** The seconds of a duration of Go, `1h30m`. INVALID for others. */
export function goSeconds(text: string): number {
  if (!/^(?:[0-9]+(?:\.[0-9]+)?(?:h|ms|m|s))+$/.test(text))
    throw new Failure('INVALID', 'it is not a duration such as 1h30m');
  let seconds = 0;
  for (const [, count, unit] of text.matchAll(/([0-9.]+)(h|ms|m|s)/g))
    seconds += Number(count) * (UNIT_SECONDS[unit ?? ''] ?? 0);
  return seconds;
}

/** Cron that means the same by every clock: the zone moves neither hours nor days. */
const ANY_CLOCK = /^(?:@hourly|\S+\s+[*?]\s+[*?]\s+\*\s+[*?])$/;

/** A schedule as https://pkg.go.dev/github.com/robfig/cron/v3 reads it: without a zone, by the clock of the machine. INVALID for others. */
export function robfigSchedule(text: string): Timed {
  const zone = /^(?:CRON_)?TZ=(\S+)\s+/.exec(text);
  const cron = text.slice(zone?.[0].length ?? 0).trim();
  const interval = /^@every\s+(\S+)$/.exec(cron)?.[1];
  if (interval !== undefined) return everySeconds(goSeconds(interval));
  const schedule: RuleSchedule = {
    cron: cron.startsWith('@') ? cron : cron.replaceAll('?', '*'),
    ...(zone?.[1] === undefined ? {} : { timeZone: zone[1] }),
  };
  checkSchedule({ cron: schedule.cron, timeZone: schedule.timeZone ?? 'UTC' }, 0);
  if (!cron.startsWith('@') && cron.split(/\s+/).length !== 5)
    throw new Failure('INVALID', 'expected five fields, such as 0 2 * * *');
  if (zone !== null || ANY_CLOCK.test(cron)) return { schedule };
  const difference = `${quote(text)} was read by the clock of the machine, and is in UTC here: for another zone write schedule: { cron: ${quote(schedule.cron)}, timeZone: Area/City }`;
  return { schedule, difference };
}
