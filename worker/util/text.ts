import { withoutOwnSecrets } from './own-secrets.ts';

const MOST = 200;

/**
 * `value` as a message may show it: text quoted, cut where it is long, and with what could steer a terminal escaped; of lists and
 * objects only what they are. For untrusted input: never throws, whatever it is given.
 */
export function quote(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  if (typeof value === 'function') return 'a function';
  if (typeof value !== 'string') return String(value);
  return escaped(JSON.stringify(value.length > MOST ? `${value.slice(0, MOST)}…` : value));
}

/** `text` with everything escaped that could steer a terminal or hide the meaning of the text. */
export function escaped(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0)?.toString(16)}}`);
}

/** The order of two strings by their UTF-16 code units, as `sort` has it: the same on every machine. */
export function compareStrings(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

/** Names of parameters whose values are secret, in URLs of AWS, Google, Azure and CDNs, and in forms. */
const SECRET_NAMES = [
  String.raw`X-(?:Amz|Goog)-[\w-]{1,40}`,
  '(?:AWS|Google)AccessKey(?:Id)?',
  '(?:[a-z]{1,20}[-_])?(?:token|secret|password|signature|credentials?)',
  'passwd|sig|client_?secret|access_?key|api_?key',
].join('|');
const PARAMETER = new RegExp(String.raw`(?<![\w-])(${SECRET_NAMES})(=|%3D)[^\s&"'<>;,)\]}]+`, 'gi');
const JSON_MEMBER = new RegExp(String.raw`("(?:${SECRET_NAMES})"\s{0,5}:\s{0,5}")(?:[^"\\]|\\.)+`, 'gi');

/**
 * `text` without secrets, for all text that leaves the program. Removes the secrets of this process, queries of URLs, users and passwords in
 * URLs and in `docker://` (where a digest may follow the `@`), values of parameters such as `X-Amz-Signature=` and `token=` anywhere, and what
 * follows `Bearer` or `Basic`. Idempotent.
 */
export function redacted(text: string): string {
  return withoutOwnSecrets(text)
    .replace(/(\b[a-z][a-z0-9+.-]{0,20}:\/\/)[^\s/?#"'<>]+@(?![a-z0-9]+:[0-9a-f]{32})/gi, '$1…@')
    .replace(/(\bhttps?:\/\/[^\s?#"'<>]*)[?#][^\s"'<>]*/gi, '$1')
    .replace(PARAMETER, '$1$2…')
    .replace(JSON_MEMBER, '$1…')
    .replace(/\b(Bearer|Basic) +[\w+/=.~-]{8,}/gi, '$1 …');
}
