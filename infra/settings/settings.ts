import { readFileSync } from 'node:fs';
import { parseDocument } from 'yaml';
import type { z } from 'zod';
import { messageOf, valueAt } from '../../worker/util/schema-faults.ts';
import { quote } from '../../worker/util/text.ts';
import { checkSettings } from './checks.ts';
import { settingsSchema, type InfraSettings } from './schema.ts';

/** The schema of settings in YAML, with all checks. A setting that is absent has its default. */
export const infraSettings = settingsSchema.superRefine((settings, context) => {
  checkSettings(settings, (path, message) => {
    context.addIssue({ code: 'custom', path: [...path], message });
  });
});

/** Settings that cannot be used: one line for each error. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError';
}

/** More than any settings need: a larger file is not a settings file. */
const MAX_BYTES = 256 * 1024;
/** Enough for lists and tags that are reused; more would only fill the memory. */
const MAX_ALIASES = 1000;

/** The account and Region for settings that do not name them. */
export type Here = Partial<Pick<InfraSettings, 'account' | 'region'>>;

/** Reads settings. Throws SettingsError naming each setting, its value and what is allowed. */
export function parseSettings(text: string, file: string, here: Here = {}): InfraSettings {
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_BYTES)
    throw new SettingsError(`${file}: it has ${bytes} bytes: expected settings of at most ${MAX_BYTES} bytes`);
  // keys that are numbers, such as those of tags, become strings; keys that are lists or groups are refused
  const document = parseDocument(text, { prettyErrors: true, stringKeys: true, logLevel: 'error' });
  // a warning is about an unknown tag of YAML, such as !Ref
  const [broken] = [...document.errors, ...document.warnings];
  if (broken?.code === 'MULTIPLE_DOCS')
    throw new SettingsError(`${file}: there is a second document after a line of ---: expected one`);
  if (broken?.code === 'NON_STRING_KEY')
    throw new SettingsError(`${file}: the name of a setting is a list or a group: expected a string`);
  if (broken?.code === 'RESOURCE_EXHAUSTION') throw new SettingsError(`${file}: it is nested too deeply for settings`);
  if (broken !== undefined) throw new SettingsError(`${file}: ${broken.message.trim()}`);
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (cause) {
    // an alias of nothing, or aliases that expand to too much
    throw new SettingsError(`${file}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  if (value === null || value === undefined)
    throw new SettingsError(`${file}: the file is empty: expected at least version, account and region`);
  const result = infraSettings.safeParse(isGroup(value) ? { ...here, ...value } : value);
  if (result.success) return result.data;
  throw new SettingsError(result.error.issues.map((issue) => `${file}: ${describe(issue, value)}`).join('\n'));
}

/** Reads the settings of a file. */
export function readSettings(file: string, here?: Here): InfraSettings {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
    const why = code === 'ENOENT' ? '' : `: ${code}`;
    throw new SettingsError(
      `${file} cannot be read${why}: copy one of infra/examples/ and name it with TRANSSHIP_INFRA`,
      { cause },
    );
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new SettingsError(`${file}: it is not UTF-8: save it as UTF-8`, { cause });
  }
  return parseSettings(text, file, here);
}

function isGroup(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function describe(issue: z.core.$ZodIssue, value: unknown): string {
  const path = issue.path.map(nameOf).join('.');
  if (issue.code === 'unrecognized_keys')
    return `${path === '' ? '' : `${path}: `}there is no setting ${issue.keys.map(quote).join(', ')} here`;
  if (issue.code === 'invalid_key') return `${path}: ${issue.issues[0]?.message ?? issue.message}`;
  const given = valueAt(value, issue.path);
  if (given === undefined && path !== '' && (issue.code === 'invalid_type' || issue.code === 'invalid_value'))
    return path === 'account' || path === 'region'
      ? `${path}: it is missing, and cdk has no AWS credentials to take it from: set it, or sign in to AWS and run cdk`
      : `${path}: it is missing`;
  const shown = given === undefined || (typeof given === 'object' && given !== null) ? '' : ` ${quote(given)}`;
  return `${path === '' ? 'the file' : path}${shown}: ${messageOf(issue)}`;
}

/** The name of a setting as it is; the key of a tag, which may be any string, in quotes where needed. */
function nameOf(step: PropertyKey): string {
  return /^[\w:/=+@. -]{1,128}$/.test(String(step)) ? String(step) : quote(String(step));
}
