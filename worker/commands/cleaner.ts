import { Option, type Command } from 'commander';
import type { CleanResult } from '../service/cleaner/pass.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { parseSeconds } from './seconds.ts';
import { foundFaults } from './text.ts';

interface CleanerFlags extends CommonFlags {
  readonly once?: boolean;
  readonly every: number;
}

export function addCleaner(program: Command, context: CommandContext): void {
  const command = program
    .command('cleaner')
    .summary('run the prune rules that are due')
    .description(
      'Runs every stored rule that prunes and is due: deletes what its policies do not keep (docs/prune.md). Goes on until it gets SIGTERM or SIGINT, and writes logs and metrics (docs/metrics.md) as lines of JSON to stdout. With --once it makes one pass and prints the result; exits 3 when a rule could not be served, something could not be deleted, or a run is late. Any number may run at once. Needs TRANSSHIP_TABLE, and no queue.',
    )
    .option('--once', 'make one pass, and end')
    .addOption(
      new Option('--every <seconds>', 'how often to look: 60s, 15m, 1h').argParser(parseSeconds).default(900, '15m'),
    );
  withCommonFlags(command).action(async (flags: CleanerFlags) => {
    if (flags.once !== true) return context.runCleaner({ everySeconds: flags.every });
    const result = await withProgress(context, flags, async ({ report }) => {
      const { runCleaner } = await import('../service/cleaner/pass.ts');
      const { openBackendPool } = await import('../service/backend-pool.ts');
      const { signal, clock } = context;
      await using state = context.connectState({ report });
      await using backends = openBackendPool({
        rules: state.rules,
        connect: (access) => context.connectDeleting({ access, report, create: false }),
        clock,
        report,
      });
      return await runCleaner(state, backends, { signal, clock, reportOf: () => report });
    });
    printResult(context, flags, result, () => describe(result));
    const found = foundFaults([
      [result.failed, 'rule failed', 'rules failed'],
      [result.places.failed, 'place failed', 'places failed'],
      [result.scratch.failed, 'scratch repository was not deleted', 'scratch repositories were not deleted'],
      [result.late, 'rule is late', 'rules are late'],
    ]);
    if (found !== '') context.exit(3, found);
  });
}

function describe({ rules, begun, open, late, failed, places, scratch }: CleanResult): string {
  const { done, skipped, postponed } = places;
  const parts = [
    `${rules} ${rules === 1 ? 'rule prunes' : 'rules prune'}`,
    `${begun} scheduled ${begun === 1 ? 'run' : 'runs'} begun`,
    `places: ${done} pruned, ${skipped} with nothing to delete`,
    ...(postponed === 0 ? [] : [`${postponed} postponed: a copy is writing there, or another Cleaner is there`]),
    ...(places.failed === 0 ? [] : [`${places.failed} failed: see \`transship status\``]),
    ...(scratch.deleted === 0 ? [] : [`${scratch.deleted} scratch repositories of drills deleted`]),
    ...(scratch.failed === 0 ? [] : [`${scratch.failed} scratch repositories or places of drills failed`]),
    ...(open === 0 ? [] : [`${open} ${open === 1 ? 'run goes' : 'runs go'} on in the next pass`]),
    ...(late === 0 ? [] : [`${late} late`]),
    ...(failed === 0 ? [] : [`${failed} rules could not be served`]),
  ];
  return parts.join(', ');
}
