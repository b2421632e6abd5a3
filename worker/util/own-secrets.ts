/** More than one process holds at a time; the oldest are forgotten first. */
const MAX_FORMS = 5000;
/** Shorter strings are part of so many words that messages without them would be unreadable. */
const MIN_LENGTH = 4;
/** Shorter strings are cut out where they stand alone, longer ones in the middle of a word too. */
const ANYWHERE_FROM = 8;

/** The secrets of this process, in every form in which a message may repeat them. The oldest comes first. */
const forms = new Set<string>();

/** Registers a secret: `withoutOwnSecrets` cuts it out from then on, as it is and as URLs, forms and JSON write it. Idempotent. */
export function keepSecret(secret: string): void {
  if (secret.length < MIN_LENGTH) return;
  const written = [
    secret,
    encodeURIComponent(secret.toWellFormed()),
    new URLSearchParams({ '': secret }).toString().slice(1),
    JSON.stringify(secret).slice(1, -1),
  ];
  for (const form of written) {
    // the newest is the last
    forms.delete(form);
    forms.add(form);
  }
  for (const form of forms) {
    if (forms.size <= MAX_FORMS) return;
    forms.delete(form);
  }
}

/** Forgets every secret. For tests: those of one file must not cut words out of what another compares. */
export function forgetSecrets(): void {
  forms.clear();
}

/** `text` without the secrets of this process. */
export function withoutOwnSecrets(text: string): string {
  let cut = text;
  for (const form of forms) {
    if (form.length > cut.length || !cut.includes(form)) continue;
    cut = form.length >= ANYWHERE_FROM ? cut.replaceAll(form, '…') : withoutWord(cut, form);
  }
  return cut;
}

function withoutWord(text: string, word: string): string {
  const escaped = word.replace(/[$()*+.?[\\\]^{|}-]/g, String.raw`\$&`);
  return text.replace(new RegExp(`(?<![\\w-])${escaped}(?![\\w-])`, 'g'), '…');
}
