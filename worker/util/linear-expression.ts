/** The most steps that one expression may have, with its repetitions written out. */
const MAX_STEPS = 10_000;
/** The most groups inside each other. */
const MAX_NESTING = 100;

/** What has to hold at one place of the string, or the character that has to be there. */
type Leaf =
  | { readonly kind: 'character'; readonly matches: (character: string) => boolean }
  | { readonly kind: 'place'; readonly holds: (before: string | undefined, after: string | undefined) => boolean };

type Node =
  | Leaf
  | { readonly kind: 'sequence'; readonly parts: readonly Node[] }
  | { readonly kind: 'choice'; readonly forms: readonly Node[] }
  | { readonly kind: 'repeat'; readonly part: Node; readonly least: number; readonly most: number };

/** A leaf and the step after it, or a fork into several steps. The first step is the end: the string matches. */
type Step = { readonly leaf: Leaf; readonly next: number } | { readonly forks: readonly number[] } | undefined;

/**
 * Compiles a regular expression of JavaScript with the flags i, m, s and u, and returns whether it matches anywhere in a string. The time is
 * linear in the string, whatever the expression: all its forms are followed at once (https://swtch.com/~rsc/regexp/regexp1.html), where RegExp
 * tries one after the other. Throws a SyntaxError as RegExp does, and for what has no such time: lookaheads, lookbehinds and backreferences.
 */
export function linearExpression(source: string, flags = ''): (text: string) => boolean {
  // whatever is not an expression is refused here, so that the parser only meets valid ones
  void new RegExp(source, flags);
  const steps: Step[] = [undefined];
  const first = addSteps(steps, new Parser(source, flags).parse(), 0);
  const isUnicode = flags.includes('u');
  return (text) => matchesAnywhere(steps, first, isUnicode ? Array.from(text) : text.split(''));
}

function matchesAnywhere(steps: readonly Step[], first: number, characters: readonly string[]): boolean {
  /** Where a step was reached last, so that each is followed once at a place. */
  const reachedAt = new Int32Array(steps.length).fill(-1);
  let ready: Extract<Step, { leaf: Leaf }>[] = [];
  for (let at = 0; at <= characters.length; at++) {
    const [before, after] = [characters[at - 1], characters[at]];
    const open = [first];
    for (const { leaf, next } of ready)
      if (leaf.kind === 'character' && before !== undefined && leaf.matches(before)) open.push(next);
    ready = [];
    for (let number = open.pop(); number !== undefined; number = open.pop()) {
      if (reachedAt[number] === at) continue;
      reachedAt[number] = at;
      const step = steps[number];
      if (step === undefined) return true;
      if ('forks' in step) for (const fork of step.forks) open.push(fork);
      else if (step.leaf.kind === 'character') ready.push(step);
      else if (step.leaf.holds(before, after)) open.push(step.next);
    }
  }
  return false;
}

/** Adds the steps of `node`, after which `next` follows. Returns the number of the first. */
function addSteps(steps: Step[], node: Node, next: number): number {
  const add = (step: Step): number => {
    if (steps.length === MAX_STEPS) throw new SyntaxError(`It has more than ${MAX_STEPS} steps`);
    return steps.push(step) - 1;
  };
  switch (node.kind) {
    case 'character':
    case 'place':
      return add({ leaf: node, next });
    case 'sequence':
      return node.parts.reduceRight((after, part) => addSteps(steps, part, after), next);
    case 'choice':
      return add({ forks: node.forms.map((form) => addSteps(steps, form, next)) });
    case 'repeat': {
      let after = next;
      if (node.most === Infinity) {
        const forks = [next];
        after = add({ forks });
        forks.push(addSteps(steps, node.part, after));
      } else {
        for (let count = node.least; count < node.most; count++)
          after = add({ forks: [next, addSteps(steps, node.part, after)] });
      }
      for (let count = 0; count < node.least; count++) {
        const begin = addSteps(steps, node.part, after);
        // the part is empty, however often it is repeated
        if (begin === after) break;
        after = begin;
      }
      return after;
    }
    default:
      return node satisfies never;
  }
}

/** https://tc39.es/ecma262/#sec-patterns, of expressions that RegExp accepts. */
class Parser {
  readonly #source: string;
  readonly #flags: string;
  readonly #characters = new Map<string, Leaf>();
  #at = 0;
  #nesting = 0;

  constructor(source: string, flags: string) {
    this.#source = source;
    this.#flags = flags;
  }

  parse(): Node {
    return this.#choice();
  }

  #choice(): Node {
    if (++this.#nesting > MAX_NESTING) throw new SyntaxError(`It is nested more than ${MAX_NESTING} deep`);
    const forms = [this.#sequence()];
    while (this.#take(/\|/y) !== undefined) forms.push(this.#sequence());
    this.#nesting--;
    const [only, ...others] = forms;
    return only !== undefined && others.length === 0 ? only : { kind: 'choice', forms };
  }

  #sequence(): Node {
    const parts: Node[] = [];
    while (this.#at < this.#source.length && !/[|)]/.test(this.#source.charAt(this.#at)))
      parts.push(this.#repeated(this.#atom()));
    return { kind: 'sequence', parts };
  }

  #repeated(part: Node): Node {
    const quantifier = this.#take(/(?:[*+?]|\{(\d+)(?:(,)(\d*))?\})\??/y);
    if (quantifier === undefined) return part;
    const [text, least, comma, most] = quantifier;
    if (least === undefined)
      return { kind: 'repeat', part, least: Number(text.startsWith('+')), most: text.startsWith('?') ? 1 : Infinity };
    const highest = comma === undefined ? least : most;
    return { kind: 'repeat', part, least: Number(least), most: highest === '' ? Infinity : Number(highest) };
  }

  #atom(): Node {
    if (this.#take(/\((?:\?(?:<(?![=!])[^>]*>|:))?(?!\?)/y) !== undefined) {
      const inner = this.#choice();
      this.#take(/\)/y);
      return inner;
    }
    const unsupported = this.#take(/\(\?<?[=!]|\(\?|\\(?:k<|[1-9])/y);
    if (unsupported !== undefined)
      throw new SyntaxError(`It has ${unsupported[0]}, which cannot be matched in linear time`);
    return this.#place() ?? this.#character();
  }

  #place(): Leaf | undefined {
    const isEnd = (one: string | undefined): boolean =>
      one === undefined || (this.#flags.includes('m') && /[\n\r\u2028\u2029]/.test(one));
    const isWord = (one: string | undefined): boolean => one !== undefined && /\w/.test(one);
    const place = this.#take(/[\^$]|\\[bB]/y)?.[0];
    if (place === undefined) return undefined;
    if (place === '^') return { kind: 'place', holds: isEnd };
    if (place === '$') return { kind: 'place', holds: (_, after) => isEnd(after) };
    const atBoundary = place.endsWith('b');
    return { kind: 'place', holds: (before, after) => (isWord(before) !== isWord(after)) === atBoundary };
  }

  /** A class, an escape, a dot or a character: RegExp knows what it stands for. */
  #character(): Leaf {
    const isUnicode = this.#flags.includes('u');
    const escape = isUnicode
      ? /\\(?:u\{[^}]*\}|u[\da-f]{4}|x[\da-f]{2}|c[a-z]|p\{[^}]*\}|.)/isuy
      : /\\(?:u[\da-f]{4}|x[\da-f]{2}|c[a-z]|.)/isy;
    const set = /\[(?:[^\]\\]|\\.)*\]/sy;
    const source = (this.#take(set) ?? this.#take(escape) ?? this.#take(isUnicode ? /./suy : /./sy))?.[0] ?? '';
    const known = this.#characters.get(source);
    if (known !== undefined) return known;
    // a bracket or brace that stands for itself is not an expression alone
    const alone = new RegExp(`^(?:${/^[\]{}]$/.test(source) ? `\\${source}` : source})$`, this.#flags);
    const answers = new Map<string, boolean>();
    const leaf: Leaf = {
      kind: 'character',
      matches: (character) => {
        const answer = answers.get(character) ?? alone.test(character);
        answers.set(character, answer);
        return answer;
      },
    };
    this.#characters.set(source, leaf);
    return leaf;
  }

  #take(expected: RegExp): RegExpExecArray | undefined {
    expected.lastIndex = this.#at;
    const match = expected.exec(this.#source) ?? undefined;
    if (match !== undefined) this.#at += match[0].length;
    return match;
  }
}
