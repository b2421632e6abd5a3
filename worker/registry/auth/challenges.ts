/** One challenge of a WWW-Authenticate header; scheme and names of parameters in lower case. */
export interface Challenge {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/** `name=token` or `name="quoted"`. */
const PARAMETER = /^([!#$%&'*+.^_`|~\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([!#$%&'*+.^_`|~\w:/-]+))(?=\s*(?:,|$))/s;
/** A scheme, and the token68 that may be all that follows it. */
const SCHEME = /^([!#$%&'*+.^_`|~\w-]+)(?:[ \t]+[\w.~+/-]+=*(?=\s*(?:,|$))|[ \t]+|(?=,|$))/;

/**
 * The challenges of a WWW-Authenticate header, or of several joined by commas. What cannot be read is left out.
 * https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1
 */
export function parseChallenges(header: string): readonly Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  let rest = header;
  for (;;) {
    rest = rest.replace(/^[\s,]+/, '');
    if (rest === '') return challenges;
    const parameter = PARAMETER.exec(rest);
    const current = challenges.at(-1);
    if (parameter !== null && current !== undefined) {
      const [all, name = '', quoted, plain = ''] = parameter;
      const value = quoted === undefined ? plain : quoted.replace(/\\(.)/gs, '$1');
      if (!current.parameters.has(name.toLowerCase())) current.parameters.set(name.toLowerCase(), value);
      rest = rest.slice(all.length);
      continue;
    }
    const [all, scheme] = SCHEME.exec(rest) ?? [];
    if (all === undefined || scheme === undefined) {
      // skip what cannot be read up to the next comma
      rest = rest.replace(/^[^,]+/, '');
      continue;
    }
    challenges.push({ scheme: scheme.toLowerCase(), parameters: new Map() });
    rest = rest.slice(all.length);
  }
}
