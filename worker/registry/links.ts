/** A link of a Link header: its target, and its relation types in lower case. */
interface Link {
  readonly target: string;
  readonly relations: readonly string[];
}

const TARGET = /^\s*<([^<>]*)>/;
/** `;` and a parameter, with or without a value, quoted or not. RFC 8288 allows empty parameters. */
const PARAMETER = /^\s*;\s*(?:([^\s;,="<>]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"<>]*)))?)?(?=\s*(?:[;,]|$))/s;

/**
 * The links of a Link header, or of several joined by commas, in their order. The last one is `undefined` where the rest of the header cannot be
 * read. https://www.rfc-editor.org/rfc/rfc8288#section-3
 */
export function* parseLinks(header: string): Generator<Link | undefined, void, undefined> {
  let rest = header;
  for (;;) {
    rest = rest.replace(/^[\s,]+/, '');
    if (rest === '') return;
    const [all, target] = TARGET.exec(rest) ?? [];
    if (all === undefined || target === undefined) {
      yield undefined;
      return;
    }
    rest = rest.slice(all.length);
    let relations: readonly string[] | undefined;
    for (let found = PARAMETER.exec(rest); found !== null; found = PARAMETER.exec(rest)) {
      const [whole, name, quoted, plain = ''] = found;
      rest = rest.slice(whole.length);
      // of several the first counts
      if (name?.toLowerCase() === 'rel') relations ??= relationsOf(quoted?.replace(/\\(.)/gs, '$1') ?? plain);
    }
    if (!/^\s*(?:,|$)/.test(rest)) {
      yield undefined;
      return;
    }
    yield { target, relations: relations ?? [] };
  }
}

function relationsOf(value: string): readonly string[] {
  return value
    .toLowerCase()
    .split(/\s+/)
    .filter((relation) => relation !== '');
}
