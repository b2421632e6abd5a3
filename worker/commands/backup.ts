import type { Command } from 'commander';
import { backup } from '../images/backup.ts';
import { withCommonFlags, type CommandContext, type CommonFlags } from './context.ts';
import { keepExistingOption, runImages, platformOption, withConcurrency, type ConcurrencyFlag } from './result.ts';
import { withSideFlags, withS3Flags, type S3Flags, type SideFlags } from './sides.ts';

interface BackupFlags extends CommonFlags, SideFlags, S3Flags, ConcurrencyFlag {
  readonly platform?: readonly string[];
  readonly referrers?: boolean;
  readonly force?: boolean;
  readonly keepExisting?: boolean;
  readonly dryRun?: boolean;
}

export function addBackup(program: Command, context: CommandContext): void {
  const command = program
    .command('backup')
    .summary('write images as archives to S3 or to files')
    .description(
      'Writes images as tar archives that docker, podman and skopeo read: every platform, with signatures and SBOMs. What is there already is left alone; an interrupted backup goes on where it was.',
    )
    .argument(
      '<src>',
      'host/repository:tag, host/repository for all its tags, a pattern such as host/product/*:v*, or the host of an ECR registry for all of it',
    )
    .argument(
      '<dst>',
      's3://bucket/template or oci-archive:path/template with {regionName} {repository} {tag} {registry} {account} {region} {digest} {date}; ending in "/" the default {regionName}/{repository}/{tag}.tar follows; .tar.gz and .tar.zst compress and cannot be resumed',
    )
    .addOption(platformOption())
    .option('--no-referrers', 'without signatures, SBOMs and whatever else refers to the images')
    .option(
      '--force',
      'write again what is there, and replace what is not an archive, or the archive of another repository',
    )
    .addOption(keepExistingOption())
    .option('--dry-run', 'compare, and print what would be written');
  withS3Flags(withSideFlags(withConcurrency(withCommonFlags(command)), ['src']), { writes: true }).action(
    async (src: string, dst: string, flags: BackupFlags) => {
      const { referrers, force, keepExisting, dryRun, platform: platforms } = flags;
      await runImages(context, flags, async (backends, options) =>
        backup({ from: src, to: dst, platforms, referrers, force, keepExisting, dryRun }, backends, options),
      );
    },
  );
}
