/** What a field of cron accepts. */
interface Field {
  readonly from: number;
  readonly to: number;
  /** Names for the numbers from `from` on. */
  readonly names?: readonly string[];
  readonly besides?: RegExp;
}

const MONTHS = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const DAYS = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];

// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
const FIELDS: readonly Field[] = [
  { from: 0, to: 59 },
  { from: 0, to: 23 },
  { from: 1, to: 31, besides: /^(?:\?|L|LW|(?:[1-9]|[12][0-9]|3[01])W)$/ },
  { from: 1, to: 12, names: MONTHS },
  { from: 1, to: 7, names: DAYS, besides: /^(?:\?|L|[1-7]L|(?:[1-7]|SUN|MON|TUE|WED|THU|FRI|SAT)#[1-5])$/ },
  { from: 1970, to: 2199 },
];

/** Whether the string is a cron expression of EventBridge: six fields, and exactly one of the two days is `?`. */
export function isCron(text: string): boolean {
  const fields = text.split(' ');
  const [, , dayOfMonth, , dayOfWeek] = fields;
  return (
    fields.length === FIELDS.length &&
    (dayOfMonth === '?') !== (dayOfWeek === '?') &&
    FIELDS.every((field, i) => isField(fields[i] ?? '', field))
  );
}

function isField(text: string, { from, to, names = [], besides }: Field): boolean {
  if (besides?.test(text) === true) return true;
  const isOne = (part: string): boolean =>
    names.includes(part) || (/^[0-9]{1,4}$/.test(part) && Number(part) >= from && Number(part) <= to);
  return text.split(',').every((part) => {
    const [, first = '', last, step] = /^(\*|\w+)(?:-(\w+))?(?:\/([0-9]{1,4}))?$/.exec(part) ?? [];
    return (
      (first === '*' ? last === undefined : isOne(first)) &&
      (last === undefined || isOne(last)) &&
      (step === undefined || (Number(step) > 0 && Number(step) <= to))
    );
  });
}

/**
 * The start of the rule of continuous backups: every day, twelve hours after the periodic rule. Where the start windows of two rules overlap,
 * AWS Backup runs only one of them, and does not make the copy of the other. Undefined: minutes or hours are not one number.
 * https://docs.aws.amazon.com/aws-backup/latest/devguide/plan-options-and-configuration.html
 */
export function continuousCron(cron: string): string | undefined {
  const [minute, hour] = cron.split(' ');
  if (!/^[0-9]{1,2}$/.test(minute ?? '') || !/^[0-9]{1,2}$/.test(hour ?? '')) return undefined;
  return `${minute} ${(Number(hour) + 12) % 24} * * ? *`;
}

const DAY_MS = 24 * 60 * 60 * 1000;
/** In 28 years there is each combination of a leap year or not with a weekday of 1 January. */
const YEARS_LOOKED_AT = 28;

/**
 * The most days between two times of a schedule. Undefined: the schedule happens at most once in the years that are checked. The year field is
 * ignored.
 */
export function longestGapDays(cron: string): number | undefined {
  const [, , dayOfMonth = '', month = '', dayOfWeek = ''] = cron.split(' ');
  let last: number | undefined;
  let longest: number | undefined;
  for (let day = Date.UTC(2024, 0, 1), end = day + YEARS_LOOKED_AT * 365.25 * DAY_MS; day < end; day += DAY_MS) {
    const date = new Date(day);
    const isDue =
      has(month, date.getUTCMonth() + 1, MONTHS, 1) &&
      (dayOfMonth === '?' ? isWeekday(dayOfWeek, date) : isDay(dayOfMonth, date));
    if (!isDue) continue;
    if (last !== undefined) longest = Math.max(longest ?? 0, (day - last) / DAY_MS);
    last = day;
  }
  return longest;
}

function isDay(field: string, date: Date): boolean {
  const day = date.getUTCDate();
  const lastDay = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
  if (field.startsWith('L')) return day === lastDay;
  // an approximation: the weekday nearest to a day is at most two days away
  return field.endsWith('W') ? day === Math.min(Number(field.slice(0, -1)), lastDay) : has(field, day, [], 1);
}

function isWeekday(field: string, date: Date): boolean {
  const weekday = date.getUTCDay() + 1;
  const [, name = '', last, nth] = /^(\w+?)(?:(L)|#([1-5]))$/.exec(field) ?? [];
  if (name === '') return field === 'L' ? weekday === 7 : has(field, weekday, DAYS, 1);
  if (!has(name, weekday, DAYS, 1)) return false;
  const week = Math.ceil(date.getUTCDate() / 7);
  const isLast = new Date(date.getTime() + 7 * DAY_MS).getUTCMonth() !== date.getUTCMonth();
  return last === undefined ? week === Number(nth) : isLast;
}

/** Whether a list of numbers, names, ranges and steps has the number. */
function has(field: string, value: number, names: readonly string[], from: number): boolean {
  const numberOf = (text: string): number => (names.includes(text) ? names.indexOf(text) + from : Number(text));
  return field.split(',').some((part) => {
    const [, first = '', last, step] = /^(\*|\w+)(?:-(\w+))?(?:\/(\d+))?$/.exec(part) ?? [];
    const begin = first === '*' ? from : numberOf(first);
    const end = last === undefined ? (first === '*' || step !== undefined ? Infinity : begin) : numberOf(last);
    return value >= begin && value <= end && (value - begin) % Number(step ?? 1) === 0;
  });
}
