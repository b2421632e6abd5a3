import { createHash } from 'node:crypto';
import { Cron } from 'croner';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import type { Schedule } from './rule.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

/**
 * The latest scheduled time at or before `nowMs`, in milliseconds since 1970; undefined before the first. Times are read by the wall clock of the
 * time zone. A fixed time that the clock skips occurs when the clock has gone forward, and occurs once where the clock shows it twice; repeated ones
 * (`*`, steps, lists) occur at every moment that the clock shows.
 */
export function lastScheduledMs(schedule: Schedule, nowMs: number): number | undefined {
  // croner looks before a whole second, and scheduled times are whole seconds
  const [time] = cronOf(schedule).previousRuns(1, new Date((Math.floor(nowMs / 1000) + 1) * 1000));
  return time?.getTime();
}

/** The first scheduled time after `nowMs`; undefined after the last. Where the clock is changed: as `lastScheduledMs`. */
export function nextScheduledMs(schedule: Schedule, nowMs: number): number | undefined {
  return (
    cronOf(schedule)
      .nextRun(new Date(Math.floor(nowMs / 1000) * 1000))
      ?.getTime() ?? undefined
  );
}

/** Scheduled times that are looked at for how far they are usually apart. */
const LOOKED_AT = 16;

/**
 * A number that grows by one with each run of a schedule whose times are equally far apart: daily, weekly, hourly. Of others it may skip some or
 * repeat some.
 */
export function runNumber(schedule: Schedule, nowMs: number): number {
  const gaps = new Map<number, number>();
  let before = lastScheduledMs(schedule, nowMs) ?? nowMs;
  const lastMs = before;
  for (let count = 0; count < LOOKED_AT; count++) {
    const next = nextScheduledMs(schedule, before);
    if (next === undefined) break;
    gaps.set(next - before, (gaps.get(next - before) ?? 0) + 1);
    before = next;
  }
  const [gap = DAY_MS] = [...gaps].toSorted(([, a], [, b]) => b - a)[0] ?? [];
  return Math.floor(lastMs / gap);
}

/** INVALID with one sentence for a schedule that cannot be read, or that names no time after `nowMs`, such as the 30th of February. */
export function checkSchedule(schedule: Schedule, nowMs: number): void {
  checkTimeZone(schedule.timeZone);
  if (nextScheduledMs(schedule, nowMs) === undefined)
    throw new Failure('INVALID', `${quote(schedule.cron)} never comes: there is no such day`);
}

/** INVALID for what is not the name of a time zone. */
export function checkTimeZone(timeZone: string): void {
  try {
    Intl.DateTimeFormat('en', { timeZone });
  } catch (cause) {
    throw new Failure(
      'INVALID',
      `${quote(timeZone)} is not a time zone: expected an IANA name, such as Europe/Berlin`,
      {
        cause,
      },
    );
  }
}

/**
 * When a rule without a schedule is compared in full: once a day between 01:00 and 04:59 UTC, at a minute that follows from its name, so that
 * not all of them start at once.
 */
export function dailySchedule(name: string): Schedule {
  const minute = createHash('sha256').update(name).digest().readUInt32BE() % (4 * 60);
  return { cron: `${minute % 60} ${1 + Math.floor(minute / 60)} * * *`, timeZone: 'UTC' };
}

function cronOf({ cron, timeZone }: Schedule): Cron {
  // croner also takes a moment for a pattern; years are left out, since a schedule that ends is a rule that expires
  if (!/^(?:@(?:yearly|annually|monthly|weekly|daily|midnight|hourly)|[^@\s]+(?:\s+[^@\s]+){4,5})$/i.test(cron.trim()))
    throw new Failure(
      'INVALID',
      `${quote(cron)} is not a schedule: expected five fields, such as "0 2 * * *", or six with seconds`,
    );
  try {
    return new Cron(cron.trim(), { timezone: timeZone, paused: true, mode: '5-or-6-parts' });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.replace(/^Cron\w*: /, '') : 'it cannot be read';
    throw new Failure('INVALID', `${quote(cron)} is not a schedule: ${why.charAt(0).toLowerCase()}${why.slice(1)}`, {
      cause,
    });
  }
}
