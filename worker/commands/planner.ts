import { Option, type Command } from 'commander';
import type { PassResult } from '../service/planner/pass.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { parseSeconds } from './seconds.ts';
import { foundFaults } from './text.ts';

interface PlannerFlags extends CommonFlags {
  readonly once?: boolean;
  readonly every: number;
}

export function addPlanner(program: Command, context: CommandContext): void {
  const command = program
    .command('planner')
    .summary('plan the rules that are due, and enqueue their jobs')
    .description(
      'Begins the run of every rule that is due: compares what it names with what was copied, and sends a job for each image that changed. Goes on until it gets SIGTERM or SIGINT, and writes logs and metrics (docs/metrics.md) as lines of JSON to stdout. With --once it makes one pass and prints the result; exits 3 when a rule could not be planned, one of its sources could not be listed, or it is late. Any number may run at once.',
    )
    .option('--once', 'make one pass, and end')
    .addOption(
      new Option('--every <seconds>', 'how often to look: 60, 90s, 5m').argParser(parseSeconds).default(60, '60s'),
    );
  withCommonFlags(command).action(async (flags: PlannerFlags) => {
    if (flags.once !== true) return context.runPlanner({ everySeconds: flags.every });
    const result = await withProgress(context, flags, async ({ report }) => {
      const { runPass } = await import('../service/planner/pass.ts');
      const { expectService } = await import('../service/expect-service.ts');
      const { openBackendPool } = await import('../service/backend-pool.ts');
      const { signal, clock, lookEveryHours } = context;
      await using service = context.connectService({ report });
      await expectService(service, { signal, clock });
      await using backends = openBackendPool({
        rules: service.state.rules,
        connect: (access) => context.connect({ access, report }),
        clock,
        report,
      });
      return await runPass(service, backends, { signal, clock, report, lookEveryHours });
    });
    printResult(context, flags, result, () => describe(result));
    const found = foundFaults([
      [result.failed, 'rule failed', 'rules failed'],
      [result.incomplete, 'run is incomplete', 'runs are incomplete'],
      [result.late, 'rule is late', 'rules are late'],
    ]);
    if (found !== '') context.exit(3, found);
  });
}

function describe({ rules, begun, late, failed, incomplete, resent }: PassResult): string {
  const parts = [
    `${begun} of ${rules} rules ${begun === 1 ? 'was' : 'were'} due`,
    ...(late === 0 ? [] : [`${late} late`]),
    ...(failed === 0 ? [] : [`${failed} could not be planned`]),
    ...(incomplete === 0
      ? []
      : [`${incomplete} planned without sources or images that could not be read: see \`transship status\``]),
    ...(resent === 0 ? [] : [`${resent} lost jobs sent again`]),
  ];
  return parts.join(', ');
}
