import { writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { InvalidArgumentError, type Command } from 'commander';
import type { Fault } from '../rules/faults.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { printResult, withCommonFlags, type CommandContext, type CommonFlags } from './context.ts';

interface InitFlags extends CommonFlags {
  readonly registry?: readonly string[];
  readonly place?: string;
  readonly schedule?: string;
  readonly file: string;
  readonly force?: boolean;
}

export function addInit(program: Command, context: CommandContext): void {
  const command = program
    .command('init')
    .summary('write a rules file to begin with')
    .description(
      'Writes a rules file with comments: a backup where the place is a store or s3://, otherwise a mirror. Asks for the registry and the place when they are not given and there is a terminal. Contacts no registry.',
    )
    .option(
      '--registry <from>',
      'what is copied: a registry, a repository, or a pattern such as HOST/team/*; may be given several times',
      (given: string, before?: readonly string[]) => [...(before ?? []), given],
    )
    .option(
      '--place <to>',
      'where it is copied to: store:s3://bucket/prefix/, s3://bucket/prefix/ or HOST/path',
      (given: string, before?: string) => {
        if (before === undefined) return given;
        throw new InvalidArgumentError('it is given twice: write one place, and add others to "to" in the file.');
      },
    )
    .option('--schedule <cron>', 'when, as cron in UTC (default: "0 2 * * *")')
    .option('-f, --file <file>', 'the file to write', 'rules.yaml')
    .option('--force', 'replace a file that exists');
  withCommonFlags(command).action(async (flags: InitFlags) => {
    const { file } = flags;
    // before a question is asked, and again by the write
    if (flags.force !== true && existsSync(file)) throw exists(file);
    const from = flags.registry ?? [await answer(context, '--registry', 'Registry, repository or pattern to copy: ')];
    const to =
      flags.place ?? (await answer(context, '--place', 'Place to copy it to (store:s3://…, s3://… or HOST): '));
    // reading rules takes a while to load
    const { firstRules } = await import('../rules/first-rules.ts');
    const { parseConfig } = await import('../rules/config.ts');
    const text = firstRules({ from, to, schedule: flags.schedule });
    const { rules } = parseConfig(text, { file: 'the answers', nowMs: context.clock.now(), describe: describeFault });
    await write(file, text, flags.force === true);
    const names = rules.map(({ name }) => name);
    printResult(context, flags, { file, rules: names }, () =>
      [
        `wrote ${quote(file)} with the rules ${names.join(', ')}`,
        `next: transship sync -f ${file} --dry-run prints what they would copy`,
      ].join('\n'),
    );
  });
}

/** A fault of the rules by the flag that led to it: the lines of a file that was not written would mean nothing. */
function describeFault({ path, message }: Fault): string {
  const [, , kind, member] = path;
  const flag = kind === 'schedule' ? '--schedule' : member === 'from' ? '--registry' : '--place';
  return `${flag}: ${message}`;
}

/** What the person at the terminal types. INVALID without a terminal, or without an answer. */
async function answer(context: CommandContext, flag: string, question: string): Promise<string> {
  if (context.ask === undefined)
    throw new Failure('INVALID', `write a rules file: there is no terminal to ask at: pass ${flag}`);
  const given = (await context.ask(question)).trim();
  if (given === '') throw new Failure('INVALID', `write a rules file: no answer was given: type it, or pass ${flag}`);
  return given;
}

async function write(file: string, text: string, replace: boolean): Promise<void> {
  try {
    await writeFile(file, text, { flag: replace ? 'w' : 'wx' });
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown';
    if (code === 'EEXIST') throw exists(file);
    throw new Failure('NOT_FOUND', `write ${quote(file)}: the file cannot be written (${code})`, { cause });
  }
}

function exists(file: string): Failure {
  return new Failure(
    'CONFLICT',
    `write ${quote(file)}: the file exists: pass --force to replace it, or another --file`,
  );
}
