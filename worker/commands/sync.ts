import { Option, type Command } from 'commander';
import { readConfig } from './apply.ts';
import { withCommonFlags, type CommandContext, type CommonFlags } from './context.ts';
import { runImages, verifyTargetOption, withConcurrency, withImages, type ConcurrencyFlag } from './result.ts';
import { printable } from './text.ts';
import { connectFlags, withS3Flags, type S3Flags } from './sides.ts';

interface SyncFlags extends CommonFlags, S3Flags, ConcurrencyFlag {
  readonly file: string;
  readonly rule?: readonly string[];
  readonly dryRun?: boolean;
  readonly prune?: boolean;
  readonly verifyTarget?: boolean;
}

export function addSync(program: Command, context: CommandContext): void {
  const command = program
    .command('sync')
    .summary('run the rules of a file here and now')
    .description(
      'Runs the rules of a file on this machine, whatever their schedules say: no queue, no table, nothing remembered. What is equal already costs a look. Rules that prune only report what would go, unless --prune lets them delete.',
    )
    .requiredOption('-f, --file <file>', 'the rules, as YAML: docs/configuration.md')
    .addOption(
      new Option('--rule <name>', 'only this rule, or these when given more than once').argParser(
        (value, before: readonly string[] | undefined) => [...(before ?? []), value],
      ),
    )
    .addOption(verifyTargetOption())
    .option('--dry-run', 'compare, and print what would be copied and deleted')
    .option('--prune', 'let rules that prune delete');
  withS3Flags(withImages(withConcurrency(withCommonFlags(command))), { writes: true }).action(
    async (flags: SyncFlags) => {
      const { sync } = await import('../service/admin/sync.ts');
      const { warnings } = await import('../rules/prune-conflicts.ts');
      const config = await readConfig(flags.file, context.clock.now());
      for (const message of warnings(config.rules, context.clock.now()))
        context.stderr.write(`warning: ${printable(message)}\n`);
      const access = { access: config.registries };
      await runImages(
        context,
        flags,
        async (backends, options) => {
          const { rule: rules, dryRun, verifyTarget } = flags;
          const request = { config, rules, dryRun, verifyTarget };
          if (flags.prune !== true) return sync(request, backends, options);
          await using deleting = context.connectDeleting({ ...connectFlags(flags), ...access, report: options.report });
          return await sync({ ...request, deletions: deleting.deletions }, backends, options);
        },
        access,
      );
    },
  );
}
