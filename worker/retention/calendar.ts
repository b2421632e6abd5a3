const DAY_MS = 24 * 60 * 60 * 1000;

/** The rules that keep the newest image of each period, and the name of the period of a moment, in UTC. */
export const CALENDAR = {
  keepDaily: (ms: number) => dayOf(ms),
  keepWeekly: (ms: number) => weekOf(ms),
  keepMonthly: (ms: number) => dayOf(ms).slice(0, -3),
  keepYearly: (ms: number) => dayOf(ms).slice(0, -6),
} as const;

/** The moment that many days before. */
export function daysBefore(nowMs: number, days: number): number {
  return nowMs - days * DAY_MS;
}

/** `2026-11-30` */
function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, -'T00:00:00.000Z'.length);
}

/** `2026-W49`: weeks begin on Monday, and belong to the year of their Thursday (ISO 8601). */
function weekOf(ms: number): string {
  const weekday = (new Date(ms).getUTCDay() + 6) % 7;
  const thursday = new Date(ms + (3 - weekday) * DAY_MS);
  const year = thursday.getUTCFullYear();
  const week = Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / (7 * DAY_MS)) + 1;
  return `${year}-W${String(week).padStart(2, '0')}`;
}
