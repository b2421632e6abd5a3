import { Option, type Command } from 'commander';
import { readConfig } from './apply.ts';
import { withCommonFlags, type CommandContext, type CommonFlags } from './context.ts';
import { runImages, withConcurrency, type ConcurrencyFlag } from './result.ts';
import { withS3Flags, type S3Flags } from './sides.ts';

interface SyncFlags extends CommonFlags, S3Flags, ConcurrencyFlag {
  readonly file: string;
  readonly rule?: readonly string[];
  readonly dryRun?: boolean;
}

export function addSync(program: Command, context: CommandContext): void {
  const command = program
    .command('sync')
    .summary('run the rules of a file here and now')
    .description(
      'Runs mirrors, backups and publications of a file on this machine, whatever their schedules say: no queue, no table, nothing remembered. What is equal already costs a look.',
    )
    .requiredOption('-f, --file <file>', 'the rules, as YAML: docs/configuration.md')
    .addOption(
      new Option('--rule <name>', 'only this rule, or these when given more than once').argParser(
        (value, before: readonly string[] | undefined) => [...(before ?? []), value],
      ),
    )
    .option('--dry-run', 'compare, and tell what would be copied');
  withS3Flags(withConcurrency(withCommonFlags(command)), { writes: true }).action(async (flags: SyncFlags) => {
    const { sync } = await import('../service/admin/sync.ts');
    const config = await readConfig(flags.file, context.clock.now());
    await runImages(
      context,
      flags,
      async (backends, options) => sync({ config, rules: flags.rule, dryRun: flags.dryRun }, backends, options),
      {
        access: config.registries,
      },
    );
  });
}
