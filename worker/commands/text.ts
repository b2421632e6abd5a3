import type { Run } from '../state/state.ts';
import { redacted } from '../util/text.ts';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** `1 image`, `2 images`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** `1 repository`, `2 repositories`. */
export function countedRepositories(count: number): string {
  return counted(count, 'repository', 'repositories');
}

/** The counts above zero as one sentence for `exit`, each with its words for one and for several. Empty where all are zero. */
export function foundFaults(counts: readonly (readonly [count: number, one: string, many: string])[]): string {
  return counts.flatMap(([count, one, many]) => (count === 0 ? [] : [counted(count, one, many)])).join(', ');
}

/** `1536` → `1.5 KiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(value < 10 ? 2 : 1)} ${UNITS[unit]}`;
}

/** `75000` → `1m15s`; under ten seconds with tenths. */
export function formatDuration(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)}s`;
  const whole = Math.round(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return h > 0 ? `${h}h${String(m).padStart(2, '0')}m` : m > 0 ? `${m}m${String(s).padStart(2, '0')}s` : `${s}s`;
}

/** `42`, or `42 (2 not looked at)` where a destination of some could not be looked at. */
export function formatUnchanged({ unchanged, unseen, jobs }: Run): string {
  return `${unchanged + jobs.skipped}${unseen === 0 ? '' : ` (${unseen} not looked at)`}`;
}

/** What a person reads of an upload that was interrupted before. */
export function describeResumed({ parts, total }: { readonly parts: number; readonly total: number }): string {
  return `${parts} of ${total} parts were there`;
}

/** Enough of a digest for a person to distinguish it from others. */
export function formatDigest(digest: string): string {
  return digest.slice(0, digest.indexOf(':') + 13);
}

/** A tag, cut where it is a digest, as those of published objects and of signatures are: a line of a table fits. */
export function formatTag(tag: string): string {
  return tag.replace(/^(sha256-)?([0-9a-f]{12})[0-9a-f]{52}(?=$|\.)/, '$1$2…');
}

/** What steers a terminal, ends a line, or turns the direction of what follows. Joiners stay: emoji have them. */
// oxlint-disable-next-line no-control-regex -- exactly these are what must not reach a terminal
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Untrusted text (tags, messages of registries) without secrets and control characters. */
export function printable(text: string): string {
  return withoutControls(redacted(text));
}

/** `text` with a space in place of each control character. */
export function withoutControls(text: string): string {
  return text.replace(CONTROL, ' ');
}
