/**
 * A set of texts, as a regular expression in the sense of theory: closed under union, intersection and complement, so that whether two sets
 * have a text in common can be decided, with the shortest one as the proof. By derivatives: https://doi.org/10.1145/321239.321249
 */
export interface Language {
  readonly kind: 'chars' | 'empty' | 'concat' | 'either' | 'both' | 'many' | 'not';
  /** Equal for equal nodes, and only for these. */
  readonly id: number;
  /** Whether the empty text is in it. */
  readonly nullable: boolean;
  readonly chars: ReadonlySet<string>;
  readonly parts: readonly Language[];
}

/** Beyond that many states a search is given up. */
const MAX_STATES = 20_000;

/** What languages are made by. Nodes are shared within one; those of two must not be mixed. */
export interface Languages {
  /** No text at all. */
  readonly none: Language;
  /** The empty text alone. */
  readonly empty: Language;
  /** Any of these characters, once. */
  chars(of: Iterable<string>): Language;
  text(text: string): Language;
  /** One behind the other. */
  concat(...parts: readonly Language[]): Language;
  either(...parts: readonly Language[]): Language;
  both(...parts: readonly Language[]): Language;
  /** Any number of times, also none. */
  many(part: Language): Language;
  not(part: Language): Language;
  has(language: Language, text: string): boolean;
  /**
   * The shortest text of a language, of equals the first in order of characters. Undefined: there is none, or `MAX_STATES` do not tell.
   */
  shortest(language: Language): string | undefined;
}

export function createLanguages(): Languages {
  const known = new Map<string, Language>();
  const node = (
    kind: Language['kind'],
    nullable: boolean,
    parts: readonly Language[],
    chars: ReadonlySet<string> = new Set(),
  ): Language => {
    const key = `${kind} ${parts.map(({ id }) => id).join(' ')} ${[...chars].join('')}`;
    const found = known.get(key);
    if (found !== undefined) return found;
    const made: Language = { kind, id: known.size, nullable, chars, parts };
    known.set(key, made);
    return made;
  };
  const none = node('chars', false, []);
  const empty = node('empty', true, []);
  const all = node('not', true, [none]);

  const chars = (of: Iterable<string>): Language => node('chars', false, [], new Set([...new Set(of)].sort()));

  const concat = (...parts: readonly Language[]): Language => {
    const [first, ...rest] = parts.flatMap((part) => (part.kind === 'concat' ? part.parts : [part]));
    if (first === undefined) return empty;
    if (rest.length === 0 || first === none) return first;
    const behind = concat(...rest);
    if (first === empty || behind === none) return behind;
    if (behind === empty) return first;
    return node('concat', first.nullable && behind.nullable, [first, behind]);
  };

  const set = (kind: 'either' | 'both', parts: readonly Language[]): Language => {
    const [zero, one] = kind === 'either' ? [none, all] : [all, none];
    const flat = new Map<number, Language>();
    for (const part of parts.flatMap((p) => (p.kind === kind ? p.parts : [p]))) {
      if (part === one) return one;
      if (part !== zero) flat.set(part.id, part);
    }
    const sorted = [...flat.values()].sort((a, b) => a.id - b.id);
    const [only] = sorted;
    if (only === undefined) return zero;
    if (sorted.length === 1) return only;
    const nullable = kind === 'either' ? sorted.some((p) => p.nullable) : sorted.every((p) => p.nullable);
    return node(kind, nullable, sorted);
  };

  const many = (part: Language): Language => {
    if (part === none || part === empty) return empty;
    return part.kind === 'many' ? part : node('many', true, [part]);
  };

  const not = (part: Language): Language => {
    const [inner] = part.parts;
    return part.kind === 'not' && inner !== undefined ? inner : node('not', !part.nullable, [part]);
  };

  const derivatives = new Map<string, Language>();
  /** What may follow `c` in texts of `l`. */
  const after = (l: Language, c: string): Language => {
    const key = `${l.id} ${c}`;
    const found = derivatives.get(key);
    if (found !== undefined) return found;
    const made = derive(l, c);
    derivatives.set(key, made);
    return made;
  };
  const derive = (l: Language, c: string): Language => {
    const [first = none, second = empty] = l.parts;
    switch (l.kind) {
      case 'chars':
        return l.chars.has(c) ? empty : none;
      case 'empty':
        return none;
      case 'concat': {
        const on = concat(after(first, c), second);
        return first.nullable ? set('either', [on, after(second, c)]) : on;
      }
      case 'either':
      case 'both':
        return set(
          l.kind,
          l.parts.map((part) => after(part, c)),
        );
      case 'many':
        return concat(after(first, c), l);
      case 'not':
        return not(after(first, c));
      default:
        return l.kind satisfies never;
    }
  };

  const shortest = (language: Language): string | undefined => {
    const alphabet = distinctChars(language);
    const seen = new Set([language.id]);
    let states = [{ text: '', language }];
    while (states.length > 0) {
      const next: typeof states = [];
      for (const state of states) {
        if (state.language.nullable) return state.text;
        for (const c of alphabet) {
          const to = after(state.language, c);
          if (to === none || seen.has(to.id)) continue;
          seen.add(to.id);
          next.push({ text: state.text + c, language: to });
        }
      }
      if (seen.size > MAX_STATES) return undefined;
      states = next;
    }
    return undefined;
  };

  return {
    none,
    empty,
    chars,
    text: (text) => concat(...Array.from(text, (c) => chars(c))),
    concat,
    either: (...parts) => set('either', parts),
    both: (...parts) => set('both', parts),
    many,
    not,
    has: (language, text) => Array.from(text).reduce(after, language).nullable,
    shortest,
  };
}

/** One character for each class that no part of the language tells apart: texts of others alone are no proof of anything. */
function distinctChars(language: Language): readonly string[] {
  const sets = new Set<ReadonlySet<string>>();
  const seen = new Set<number>();
  const visit = (l: Language): void => {
    if (seen.has(l.id)) return;
    seen.add(l.id);
    if (l.kind === 'chars') sets.add(l.chars);
    l.parts.forEach(visit);
  };
  visit(language);
  const ordered = [...sets];
  const classes = new Map<string, string>();
  for (const c of [...new Set(ordered.flatMap((chars) => [...chars]))].sort()) {
    const signature = ordered.map((chars) => (chars.has(c) ? '1' : '0')).join('');
    if (!classes.has(signature)) classes.set(signature, c);
  }
  return [...classes.values()];
}
