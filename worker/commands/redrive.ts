import type { Command } from 'commander';
import { printResult, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';

interface RedriveFlags extends CommonFlags {
  readonly rule?: string;
  readonly run?: string;
}

export function addRedrive(program: Command, context: CommandContext): void {
  const command = program
    .command('redrive')
    .summary('put dead letters back to the queue')
    .description(
      'Puts the jobs among the dead letters back to the queue, when what made them fail is mended. Messages that are no jobs stay.',
    )
    .option('--rule <name>', 'only jobs of this rule')
    .option('--run <id>', 'only jobs of this run');
  withCommonFlags(command).action(async (flags: RedriveFlags) => {
    const result = await withProgress(context, flags, async ({ report }) => {
      await using service = context.connectService({ report });
      const { redrive } = await import('../service/admin/redrive.ts');
      return await redrive(flags, service, { signal: context.signal, report });
    });
    printResult(context, flags, result, () =>
      [`${result.redriven} back in the queue`, ...(result.left > 0 ? [`${result.left} stay dead letters`] : [])].join(
        '; ',
      ),
    );
  });
}
