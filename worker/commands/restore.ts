import type { Command } from 'commander';
import { restore } from '../images/restore.ts';
import { withCommonFlags, type CommandContext, type CommonFlags } from './context.ts';
import { runImages, platformOption, withConcurrency, type ConcurrencyFlag } from './result.ts';
import { withCreateFlags, withSideFlags, type SideFlags } from './sides.ts';

interface RestoreFlags extends CommonFlags, SideFlags, ConcurrencyFlag {
  readonly platform?: readonly string[];
  readonly referrers?: boolean;
  readonly dryRun?: boolean;
}

export function addRestore(program: Command, context: CommandContext): void {
  const command = program
    .command('restore')
    .summary('put archived images back into a registry')
    .description(
      'Puts archived images into a registry from the archives alone, digests unchanged, the settings of their repositories first.',
    )
    .argument(
      '<src>',
      's3://bucket/key.tar, oci-archive:file.tar, or a prefix ending in "/" for every archive below it',
    )
    .argument(
      '<dst>',
      'docker://host/repository[:tag] for one archive, docker://host[/prefix] to keep the names the images had',
    )
    .addOption(platformOption())
    .option('--no-referrers', 'without signatures, SBOMs and whatever else refers to the images')
    .option('--dry-run', 'look at both sides and tell what would be copied');
  withSideFlags(withCreateFlags(withConcurrency(withCommonFlags(command))), ['dest']).action(
    async (src: string, dst: string, flags: RestoreFlags) => {
      const { referrers, dryRun, platform: platforms } = flags;
      await runImages(context, flags, async (backends, options) =>
        restore({ from: src, to: dst, platforms, referrers, dryRun }, backends, options),
      );
    },
  );
}
