/** `text` without what signs or proves: queries of URLs, users and passwords in them, and what follows `Bearer` or `Basic`. */
export function redacted(text: string): string {
  return text
    .replace(/(\bhttps?:\/\/)[^\s/?#"'<>@]+@/gi, '$1…@')
    .replace(/(\bhttps?:\/\/[^\s?#"'<>]*)[?#][^\s"'<>]*/gi, '$1')
    .replace(/\b(Bearer|Basic) +[\w+/=.~-]{8,}/gi, '$1 …');
}
