/** What a field of cron may be beside numbers, names and ranges of them. */
interface Field {
  readonly from: number;
  readonly to: number;
  /** Of the numbers from `from` on. */
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

/** Whether EventBridge reads it as cron: six fields, of which exactly one of the two days is `?`. */
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
 * When the rule of continuous backups begins: every day, twelve hours from the periodic one. Where the starts of two rules overlap AWS Backup
 * takes one of them only, and a copy that belongs to the other is not made. Undefined: minutes or hours are not one number.
 * https://docs.aws.amazon.com/aws-backup/latest/devguide/plan-options-and-configuration.html
 */
export function continuousCron(cron: string): string | undefined {
  const [minute, hour] = cron.split(' ');
  if (!/^[0-9]{1,2}$/.test(minute ?? '') || !/^[0-9]{1,2}$/.test(hour ?? '')) return undefined;
  return `${minute} ${(Number(hour) + 12) % 24} * * ? *`;
}
