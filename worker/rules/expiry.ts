import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
/** The end of 9999-12-31: years have four digits. */
const MAX_EXPIRY_MS = Date.parse('9999-12-31T00:00:00Z') + DAY_MS;

/**
 * The moment from which on a rule is not planned, in milliseconds since 1970: the end of the day (UTC) that `2027-06-30` names, or
 * `2027-06-30T12:00:00Z`. INVALID for every other form.
 */
export function parseExpiry(text: string): number {
  const day =
    /^([0-9]{4}-[0-9]{2}-[0-9]{2})(T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,3})?)?(?:Z|[+-][0-9]{2}:[0-9]{2}))?$/.exec(
      text,
    );
  const midnight = Date.parse(`${day?.[1]}T00:00:00Z`);
  const ms = day?.[2] === undefined ? midnight + DAY_MS : Date.parse(text);
  // the 30th of February is read as a day of March
  if (Number.isNaN(ms) || new Date(midnight).toISOString().slice(0, 10) !== day?.[1] || ms < 0 || ms > MAX_EXPIRY_MS)
    throw new Failure('INVALID', `${quote(text)} is not a day or moment: expected 2027-06-30 or 2027-06-30T12:00:00Z`);
  return ms;
}

/** The string that `parseExpiry` reads as `ms`: a day for the end of a day (UTC), the moment otherwise. */
export function formatExpiry(ms: number): string {
  return ms % DAY_MS === 0 ? new Date(ms - DAY_MS).toISOString().slice(0, 10) : new Date(ms).toISOString();
}
