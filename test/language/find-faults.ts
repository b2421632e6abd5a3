import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXCEPTIONS, type Exception } from './exceptions.ts';
import { append } from '../../worker/util/lists.ts';
import { WORD_RULES } from './rules.ts';
import { longLines, textsOf } from './texts.ts';

const LINE_LIMIT = 120;
const MAX_EXCEPTIONS = 10;

const READ = [
  '*.md',
  '*.ts',
  '{docs,examples,infra,local}/**/*.md',
  '{worker,local,infra,test,docker}/**/*.ts',
  'bin/*.js',
  '{examples,infra/examples}/**/*.yaml',
  'Dockerfile',
  '.ci/run',
];
/** The rules themselves name the words, and docs/commands.md is made of the strings of `--help`, which are read where they stand. */
const NOT_READ = ['**/node_modules/**', 'test/language/**', 'test/unit/language.test.ts', 'docs/commands.md'];

export interface Fault {
  readonly file: string;
  readonly line: number;
  readonly found: string;
  readonly write: string;
}

export interface Faults {
  /** How many files were read. */
  readonly read: number;
  readonly faults: readonly Fault[];
  /** Exceptions that nothing needs any more. */
  readonly stale: readonly string[];
}

/** Checks the files below `root`, or those of them below `paths`. */
export function findFaults(root: string, paths: readonly string[] = []): Faults {
  const files = READ.flatMap((pattern) => globSync(pattern, { cwd: root, exclude: NOT_READ })).toSorted();
  const used = new Set<Exception>();
  const faults: Fault[] = [];
  let read = 0;
  for (const file of files) {
    if (paths.length > 0 && !paths.some((path) => isBelow(file, path))) continue;
    read++;
    append(faults, faultsOf(file, readFileSync(join(root, file), 'utf8'), EXCEPTIONS, used));
  }
  return { read, faults, stale: paths.length > 0 ? [] : staleEntries(used) };
}

/** The faults of one file; adds to `used` each exception that it needs. */
export function faultsOf(
  file: string,
  source: string,
  exceptions: readonly Exception[] = [],
  used: Set<Exception> = new Set(),
): readonly Fault[] {
  const found: Fault[] = [];
  for (const { kind, start, text } of textsOf(file, source)) {
    for (const { pattern, write, kinds } of WORD_RULES) {
      if (kinds?.includes(kind) === false) continue;
      for (const match of text.matchAll(pattern)) {
        const at = start + match.index;
        const exception = exceptions.find((one) => one.file === file && covers(one, source, at, match[0]));
        if (exception === undefined)
          found.push({ file, line: lineAt(source, at), found: match[0].trim().replace(/\s+/g, ' '), write });
        else used.add(exception);
      }
    }
  }
  if (file.endsWith('.md'))
    for (const line of longLines(source, LINE_LIMIT))
      found.push({ file, line, found: 'a long line', write: `at most ${LINE_LIMIT} characters` });
  return found.toSorted((a, b) => a.line - b.line);
}

/** Whether the words of the exception stand around the match. */
function covers({ words }: Exception, source: string, at: number, match: string): boolean {
  for (let from = source.indexOf(words); from !== -1; from = source.indexOf(words, from + 1))
    if (from <= at && at + match.length <= from + words.length) return true;
  return false;
}

function staleEntries(used: ReadonlySet<Exception>): readonly string[] {
  return [
    ...EXCEPTIONS.filter((exception) => !used.has(exception)).map(
      ({ file, words }) => `the exception for “${words}” in ${file} is not used: remove it`,
    ),
    ...(EXCEPTIONS.length > MAX_EXCEPTIONS ? [`more than ${MAX_EXCEPTIONS} exceptions: reword some`] : []),
  ];
}

function isBelow(file: string, path: string): boolean {
  return file === path || file.startsWith(path.endsWith('/') ? path : `${path}/`);
}

function lineAt(source: string, offset: number): number {
  return source.slice(0, offset).split('\n').length;
}
