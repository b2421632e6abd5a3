import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { ApplyPlan } from '../service/admin/apply.ts';
import type { Config } from '../rules/rule.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { printResult, withCommonFlags, type CommandContext, type CommonFlags } from './context.ts';
import { printable } from './text.ts';

interface ApplyFlags extends CommonFlags {
  readonly file: string;
  readonly dryRun?: boolean;
}

export function addApply(program: Command, context: CommandContext): void {
  const command = program
    .command('apply')
    .summary('make the rules of the deployed system those of a file')
    .description(
      'Makes the stored rules those of the file: what is not in the file is removed. Shows the difference, then does it. Needs TRANSSHIP_TABLE, TRANSSHIP_QUEUE_URL and TRANSSHIP_DEAD_LETTER_QUEUE_URL.',
    )
    .requiredOption('-f, --file <file>', 'the rules, as YAML: docs/configuration.md')
    .option('--dry-run', 'only show the difference');
  withCommonFlags(command).action(async (flags: ApplyFlags) => {
    // the code that reads rules takes a while to load: only commands that need it wait for it
    const { apply } = await import('../service/admin/apply.ts');
    const config = await readConfig(flags.file, context.clock.now());
    const { warnings } = await import('../rules/prune-conflicts.ts');
    const warned = warnings(config.rules, context.clock.now());
    for (const message of warned) context.stderr.write(`warning: ${printable(message)}\n`);
    await using service = context.connectService();
    const plan = await apply(config, service.state, { signal: context.signal });
    // printed before anything is done, so that a person can stop it
    if (flags.json !== true && flags.quiet !== true) context.stderr.write(`${describe(plan)}\n`);
    if (flags.dryRun !== true) await plan.execute({ signal: context.signal });
    const counts = countsOf(plan);
    printResult(
      context,
      flags,
      { applied: flags.dryRun !== true, ...counts, rules: plan.rules, access: plan.access, warnings: warned },
      () => {
        const summary = `${counts.add} added, ${counts.change} changed, ${counts.remove} removed, ${counts.same} as they were`;
        return flags.dryRun === true ? `would be: ${summary}` : summary;
      },
    );
  });
}

/** The rules of a file, as they are at `nowMs`. INVALID with every error in it, NOT_FOUND without the file. */
export async function readConfig(file: string, nowMs: number): Promise<Config> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    const why =
      cause instanceof Error && 'code' in cause && cause.code === 'ENOENT'
        ? 'there is no such file'
        : 'it cannot be read';
    throw new Failure('NOT_FOUND', `the rules in ${quote(file)}: ${why}`, { cause });
  }
  const { parseConfig } = await import('../rules/config.ts');
  return parseConfig(text, { file, nowMs });
}

function countsOf(plan: ApplyPlan): Readonly<Record<'add' | 'change' | 'remove' | 'same', number>> {
  const counts = { add: 0, change: 0, remove: 0, same: 0 };
  for (const { change } of plan.rules) counts[change]++;
  return counts;
}

const SIGNS = { add: '+', change: '~', remove: '-', same: ' ' } as const;

function describe(plan: ApplyPlan): string {
  return [
    ...plan.access.map((line) => `~ ${line}`),
    ...plan.rules.flatMap(({ name, change, differences }) => [
      `${SIGNS[change]} rule ${name}`,
      ...differences.map((line) => `    ${line}`),
    ]),
    ...(plan.rules.length === 0 ? ['no rules, neither here nor there'] : []),
  ].join('\n');
}
