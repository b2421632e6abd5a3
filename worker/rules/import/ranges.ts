import semver from 'semver';
import { Failure } from '../../util/failure.ts';

/**
 * How a tool reads ranges of versions. `masterminds`: https://github.com/Masterminds/semver (skopeo). `regclient`: internal/semver of regclient.
 * `blang`: https://github.com/blang/semver (dregsy).
 */
export type RangeDialect = 'masterminds' | 'regclient' | 'blang';

export interface Range {
  /** As npm has it. */
  readonly range: string;
  /** What the tool selects besides, as sentences. */
  readonly differences: readonly string[];
}

/** A condition: `>=1.2`. Parts that are left out, or are `x`, are absent. */
interface Condition {
  readonly operator: string;
  readonly parts: readonly number[];
  readonly prerelease: string;
}

/** One of several forms that a list of conditions has; each is a list of comparators, all of which hold. */
type Forms = readonly (readonly string[])[];

/** The most forms of a range after every `!=` was written out. */
const MAX_FORMS = 64;

/** A range of another tool as npm writes ranges. INVALID, with one sentence, for what is not a range, or what npm cannot express. */
export function translateRange(text: string, dialect: RangeDialect): Range {
  const alternatives = dialect === 'regclient' ? [text] : text.split('||');
  const all = alternatives.map((one) => conditionsOf(one, dialect));
  const forms = all.flatMap((conditions) => formsOf(conditions, dialect));
  if (forms.length > MAX_FORMS) throw new Failure('INVALID', `the range has more than ${MAX_FORMS} alternatives`);
  const range = forms.map((form) => form.join(' ')).join(' || ');
  const read = semver.validRange(range) === null ? undefined : new semver.Range(range);
  if (read === undefined) throw new Failure('INVALID', 'it is not a range of versions');
  return { range, differences: differencesOf(read, all.flat(), dialect) };
}

const OPERATORS: Readonly<Record<RangeDialect, RegExp>> = {
  masterminds: /^(!=|>=|=>|<=|=<|~>|[=<>~^])?\s*v?/,
  regclient: /^(>=|<=|[=<>~^])?v?/,
  blang: /^(==|!=|>=|<=|[=<>!])?\s*/,
};
const VERSION = /^([0-9]+|[xX*])(?:\.([0-9]+|[xX*]))?(?:\.([0-9]+|[xX*]))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?/;

function conditionsOf(text: string, dialect: RangeDialect): readonly Condition[] {
  const refuse = (): Failure => new Failure('INVALID', 'it is not a range of versions that this tool reads');
  const conditions: Condition[] = [];
  const separator = dialect === 'masterminds' ? /^[\s,]+/ : /^\s+/;
  let rest = text.trim();
  if (dialect === 'masterminds')
    rest = rest.replace(/(\S+)\s+-\s+(\S+)/g, (_, low: string, high: string) => `>=${low} <=${high}`);
  while (rest !== '') {
    const operator = OPERATORS[dialect].exec(rest);
    const version = VERSION.exec(rest.slice(operator?.[0].length ?? 0));
    if (version === null) throw refuse();
    const numbers = version.slice(1, 4);
    const wild = numbers.findIndex((part) => part === undefined || /[xX*]/.test(part));
    const parts = (wild === -1 ? numbers : numbers.slice(0, wild)).map(Number);
    const hasWildcard = numbers.some((part) => part !== undefined && /[xX*]/.test(part));
    // a version has to be complete there, or end in .x
    if (dialect === 'blang' && (parts.length === 0 || (parts.length < 3 && !hasWildcard))) throw refuse();
    if (dialect === 'regclient' && hasWildcard) throw refuse();
    if (parts.some((part) => !Number.isSafeInteger(part + 1))) throw refuse();
    conditions.push({ operator: operator?.[1] ?? '', parts, prerelease: version[4] ?? '' });
    rest = rest.slice((operator?.[0].length ?? 0) + version[0].length);
    if (rest !== '' && !separator.test(rest)) throw refuse();
    rest = rest.replace(separator, '');
  }
  if (conditions.length === 0) throw refuse();
  return conditions;
}

/** All conditions of a list as comparators of npm, with every `!=` as its two sides. */
function formsOf(conditions: readonly Condition[], dialect: RangeDialect): Forms {
  let forms: Forms = [[]];
  for (const condition of conditions) {
    const next = comparatorsOf(condition, dialect);
    forms = forms.flatMap((form) => next.map((more) => form.concat(more)));
    if (forms.length > MAX_FORMS) throw new Failure('INVALID', `the range has more than ${MAX_FORMS} alternatives`);
  }
  return forms;
}

function comparatorsOf({ operator, parts, prerelease }: Condition, dialect: RangeDialect): Forms {
  const [major, minor, patch] = parts;
  const low = `${major ?? 0}.${minor ?? 0}.${patch ?? 0}${prerelease === '' ? '' : `-${prerelease}`}`;
  // an incomplete version is a group of them, but for regclient, which fills it with zeros
  const isGroup = dialect !== 'regclient' && parts.length < 3;
  if (major === undefined) {
    if (!['', '=', '>=', '~', '^'].includes(operator)) throw new Failure('INVALID', 'it compares with any version');
    return [['>=0.0.0']];
  }
  const after = minor === undefined ? `${major + 1}.0.0` : `${major}.${minor + 1}.0`;
  switch (operator) {
    case '':
    case '=':
    case '==':
      return isGroup ? [[`>=${low}`, `<${after}`]] : [[`=${low}`]];
    case '!':
    case '!=':
      return isGroup ? [[`<${low}`], [`>=${after}`]] : [[`<${low}`], [`>${low}`]];
    case '>':
      return [[isGroup ? `>=${after}` : `>${low}`]];
    case '>=':
    case '=>':
      return [[`>=${low}`]];
    case '<':
      return [[`<${low}`]];
    case '<=':
    case '=<':
      return [[isGroup ? `<${after}` : `<=${low}`]];
    case '^':
      return [[`>=${low}`, `<${afterCaret(parts, dialect)}`]];
    default:
      return [[`>=${low}`, ...afterTilde(parts, dialect)]];
  }
}

function afterCaret([major = 0, minor, patch]: readonly number[], dialect: RangeDialect): string {
  if (major > 0 || (minor === undefined && dialect !== 'regclient')) return `${major + 1}.0.0`;
  if ((minor ?? 0) > 0 || (patch === undefined && dialect !== 'regclient')) return `0.${(minor ?? 0) + 1}.0`;
  return `0.0.${(patch ?? 0) + 1}`;
}

function afterTilde([major = 0, minor, patch]: readonly number[], dialect: RangeDialect): readonly string[] {
  if (dialect === 'regclient') return [`<${major}.${(minor ?? 0) + 1}.0`];
  // ~0.0.0 is any version there
  if (major === 0 && minor === 0 && patch === 0) return [];
  return [minor === undefined ? `<${major + 1}.0.0` : `<${major}.${minor + 1}.0`];
}

function differencesOf(
  range: semver.Range,
  conditions: readonly Condition[],
  dialect: RangeDialect,
): readonly string[] {
  const differences: string[] = [];
  if (dialect !== 'masterminds')
    differences.push(
      'prereleases and variants in the range (1.2.3-rc1, 1.2.3-alpine) were selected too, and are not here',
    );
  else if (conditions.some(({ prerelease }) => prerelease !== ''))
    differences.push(
      'prereleases of every version in the range were selected, and here those of the versions that it names',
    );
  const majors = conditions.flatMap(({ parts: [major = 0] }) => [major, major + 1]);
  const single = [0, ...majors, 1_000_000].find((major) => range.test(`${major}.0.0`));
  if (single !== undefined) differences.push('a tag that is one number (such as 7) was a version, and is not here');
  return differences;
}
