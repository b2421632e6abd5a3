import { z } from 'zod';
import { Failure } from '../util/failure.ts';
import { messageOf } from '../util/schema-faults.ts';
import { quote, redacted } from '../util/text.ts';

// What messages of all kinds have in common: the schemas of their members, and the sentences about what is wrong with them.

/** A message as JSON. */
export type Fields = Readonly<Record<string, unknown>>;

const MAX_NAME = 256;

export const name = z
  .string()
  .regex(/^[^\p{Cc}]+$/u, 'expected a name')
  .max(MAX_NAME, `expected ${MAX_NAME} characters at most`);
export const moment = z.iso.datetime({
  offset: true,
  error: 'expected a moment as of ISO 8601: 2026-01-31T12:00:00Z',
});
export const digest = z.string().regex(/^[a-z0-9]+:[0-9a-f]{32,128}$/, 'expected a digest: sha256:…');

/** `value` as the schema reads it. INVALID, with the first fault of `what`. */
export function checked<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value, { reportInput: true });
  if (result.success) return result.data;
  const [issue, ...others] = result.error.issues;
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
  throw invalid(`${what}: ${issue === undefined ? 'it does not fit' : sentenceOf(issue)}${more}`);
}

function sentenceOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys') return `${issue.keys.map(quote).join(', ')} is not a member of it`;
  const path = issue.path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`)).join('');
  const expected = messageOf(issue, { object: 'an object' });
  const got = issue.input === undefined ? 'it is missing' : `got ${shown(issue.input)}`;
  return `${path.slice(1)}: ${expected}, ${got}`;
}

/** A value as a sentence shows it: quoted, without credentials that an address may have. */
export function shown(value: unknown): string {
  if (typeof value === 'string' && isDocker(value)) return quote(withoutSecrets(value));
  return quote(value).replace(/\/\/[^/@\s]*@/g, '//…@');
}

/** An address without password and query. */
export function withoutSecrets(address: string): string {
  return redacted(address).replace(/\?.*/s, '?…');
}

/** Whether it names a place in a registry. */
export function isDocker(text: string): boolean {
  return text.startsWith('docker://');
}

/** The INVALID of a message. */
export function invalid(why: string): Failure {
  return new Failure('INVALID', why);
}
