/**
 * `text` without what signs or proves: queries of URLs, users and passwords in them and in `docker://` (where a digest may be behind the `@`),
 * and what follows `Bearer` or `Basic`.
 */
export function redacted(text: string): string {
  return text
    .replace(/(\b[a-z][a-z0-9+.-]{0,20}:\/\/)[^\s/?#"'<>]+@(?![a-z0-9]+:[0-9a-f]{32})/gi, '$1…@')
    .replace(/(\bhttps?:\/\/[^\s?#"'<>]*)[?#][^\s"'<>]*/gi, '$1')
    .replace(/\b(Bearer|Basic) +[\w+/=.~-]{8,}/gi, '$1 …');
}
