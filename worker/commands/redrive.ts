import type { Command } from 'commander';
import type { DiscardResult, RedriveResult } from '../service/admin/redrive.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';

interface RedriveFlags extends CommonFlags {
  readonly rule?: string;
  readonly run?: string;
  readonly discard?: string;
}

export function addRedrive(program: Command, context: CommandContext): void {
  const command = program
    .command('redrive')
    .summary('put dead letters back to the queue')
    .description(
      'Puts the jobs and pushes among the dead letters back to the queue, when what made them fail is fixed; those whose jobs were done since are deleted. When no worker runs, one is started at once. Messages that ask for nothing, or that are not the job that they claim to be, stay. With --discard, deletes dead letters instead.',
    )
    .option('--rule <name>', 'only jobs of this rule')
    .option('--run <id>', 'only jobs of this run')
    .option('--discard <id>', 'delete the dead letter with this id, as `status` has it, or `all` of them');
  withCommonFlags(command).action(async (flags: RedriveFlags) => {
    const result = await withProgress(context, flags, async ({ report }) => {
      await using service = context.connectService({ report });
      const { discard, redrive } = await import('../service/admin/redrive.ts');
      const options = { signal: context.signal, clock: context.clock, report };
      return flags.discard === undefined
        ? await redrive(flags, service, options)
        : await discard(flags.discard, flags, service, options);
    });
    printResult(context, flags, result, () => describe(result));
  });
}

function describe(result: RedriveResult | DiscardResult): string {
  const { left } = result;
  const parts =
    'discarded' in result
      ? [`${result.discarded} discarded`]
      : [
          `${result.redriven} back in the queue${result.failedAgain > 0 ? `, of which ${result.failedAgain} failed again` : ''}`,
          ...(result.done > 0 ? [`${result.done} dropped, since they were done meanwhile`] : []),
        ];
  return [...parts, ...(left > 0 ? [`${left} stay dead letters`] : [])].join('; ');
}
