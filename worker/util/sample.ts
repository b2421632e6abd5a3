import { createHash } from 'node:crypto';
import { Failure } from './failure.ts';
import { quote } from './text.ts';

/** A part of what there is: one of `slices` equal ones. All of them together are the whole, whatever is added between. */
export interface Sample {
  /** Counted from 0. */
  readonly slice: number;
  readonly slices: number;
}

const DAY_MS = 24 * 60 * 60 * 1000;

/**
 * Reads `5%`, at most so much, another slice each day (UTC): 20 daily runs, or 20 weekly ones, read everything; or `3/20`, the third of 20 slices,
 * for callers that count. Percentages from 1 to 100. INVALID otherwise.
 */
export function parseSample(text: string, nowMs: number): Sample {
  if (text.endsWith('%')) return sampleOf(parsePercent(text), Math.floor(nowMs / DAY_MS));
  const [, slice = 0, slices = 0] = (/^(\d{1,4})\/(\d{1,4})$/.exec(text) ?? []).map(Number);
  if (slice >= 1 && slice <= slices) return { slice: slice - 1, slices };
  throw new Failure(
    'INVALID',
    `${quote(text)} is not a sample: write a part such as 5%, or one of equal slices such as 3/20`,
  );
}

/** Reads `5%`: 1 to 100. INVALID otherwise. */
export function parsePercent(text: string): number {
  const percent = Number(/^(\d{1,3}(?:\.\d+)?)%$/.exec(text)?.[1]);
  if (percent >= 1 && percent <= 100) return percent;
  throw new Failure('INVALID', `${quote(text)} is not a part of what is read: expected 1% to 100%`);
}

/** The slice of the run with this number, of as many as it takes to read everything in parts of at most `percent`. */
export function sampleOf(percent: number, run: number): Sample {
  const slices = Math.ceil(100 / percent);
  return { slice: run % slices, slices };
}

/** Whether what has this name, a digest or a key, is in the sample. Without a sample everything is. */
export function isInSample(sample: Sample | undefined, name: string): boolean {
  if (sample === undefined) return true;
  return createHash('sha256').update(name).digest().readUInt32BE(0) % sample.slices === sample.slice;
}

/** A sample in results, as `parseSample` reads it: `sample 3/20`. The `slice` of JSON counts from 0. */
export function describeSample({ slice, slices }: Sample): string {
  return `sample ${slice + 1}/${slices}`;
}
