/** More than the tokens that one process holds at a time: the oldest are forgotten first. */
const MAX_FORMS = 5000;
/** Shorter texts are part of so many words that cutting them out would take messages apart. */
const LEAST = 4;
/** Texts of fewer characters are cut out where they stand alone, not in the middle of a word. */
const ANYWHERE_FROM = 8;

/** The secrets that this process was given, in every form in which a message may repeat them. */
const forms = new Set<string>();

/** Has `secret` cut out of all text that leaves the program, as it is and as URLs, forms and JSON write it. */
export function keepSecret(secret: string): void {
  if (secret.length < LEAST) return;
  const written = [
    secret,
    encodeURIComponent(secret),
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

/** `text` without the secrets that this process was given. */
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
