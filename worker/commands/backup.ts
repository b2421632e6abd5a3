import type { Command } from 'commander';
import { backup } from '../images/backup.ts';
import { isOneFile } from '../oci/place.ts';
import { backupToBundle } from '../images/backup-bundle.ts';
import { backupToStore, type StoreBackupRequest } from '../images/backup-store.ts';
import { Failure } from '../util/failure.ts';
import {
  printOutcome,
  withCommonFlags,
  withProgress,
  type CommandContext,
  type CommonFlags,
  type KeyFlags,
} from './context.ts';
import {
  concurrencyOf,
  keepExistingOption,
  optionsOf,
  runImages,
  platformOption,
  withConcurrency,
  withImages,
  type ConcurrencyFlag,
} from './result.ts';
import { connectFlags, withSideFlags, withSignFlag, withS3Flags, type S3Flags, type SideFlags } from './sides.ts';
import { describeStoreBackup } from './store-backup-text.ts';

interface BackupFlags extends CommonFlags, SideFlags, S3Flags, ConcurrencyFlag, Pick<KeyFlags, 'signWith'> {
  readonly platform?: readonly string[];
  readonly referrers?: boolean;
  readonly force?: boolean;
  readonly keepExisting?: boolean;
  readonly dryRun?: boolean;
  readonly untagged?: boolean;
  readonly includeArchived?: boolean;
  readonly snapshot?: boolean;
}

export function addBackup(program: Command, context: CommandContext): void {
  const command = program
    .command('backup')
    .summary('write images as archives to S3 or to files, or into a store')
    .description(
      'Writes images as tar archives that docker, podman and skopeo read, or into a store, which has each layer once: every platform, with signatures and SBOMs, and a snapshot of what was there. What is there already is left alone; an interrupted backup goes on where it was.',
    )
    .argument(
      '<src>',
      'host/repository:tag, host/repository for all its tags, a pattern such as host/product/*:v*, or the host of a registry for all of it',
    )
    .argument(
      '<dst>',
      'store:s3://bucket/prefix/ or store:folder for a store, store:file.tar for one in a single file; for archives s3://bucket/template or oci-archive:path/template with {regionName} {repository} {tag} {registry} {account} {region} {digest} {date}; ending in "/" the default {regionName}/{repository}/{tag}.tar follows; .tar.gz and .tar.zst compress and cannot be resumed',
    )
    .addOption(platformOption())
    .option('--no-referrers', 'without signatures, SBOMs and whatever else refers to the images')
    .option(
      '--force',
      'write again what is there, and replace what is not an archive, or the archive of another repository',
    )
    .addOption(keepExistingOption())
    .option('--untagged', 'also images of ECR without a tag that no index lists')
    .option(
      '--include-archived',
      "also images in ECR's archive storage class: each is restored, waited for, copied and archived again; ECR bills it for 90 days more",
    )
    .option('--no-snapshot', 'archives alone, without a snapshot that lists them below snapshots/')
    .option('--dry-run', 'compare, and print what would be written');
  withSignFlag(command);
  withS3Flags(withSideFlags(withImages(withConcurrency(withCommonFlags(command))), ['src']), { writes: true }).action(
    async (src: string, dst: string, flags: BackupFlags) => {
      const { platform: platforms, referrers, dryRun, untagged, includeArchived } = flags;
      const { force, keepExisting, snapshot = true } = flags;
      const chosen = { from: src, to: dst, platforms, referrers, dryRun };
      const tool = `transship ${context.version}`;
      if (dst.startsWith('store:')) {
        refuse('a store', { '--force': force, '--keep-existing': keepExisting, '--no-snapshot': !snapshot });
        await runStoreBackup(context, flags, { ...chosen, tool, untagged, includeArchived });
        return;
      }
      const snapshotBy = snapshot ? tool : undefined;
      const archives = { ...chosen, force, keepExisting, untagged, includeArchived, snapshotBy };
      await runImages(context, flags, async (backends, options) => backup(archives, backends, options));
    },
  );
}

/** INVALID for a flag that was given and means nothing for this destination. */
function refuse(destination: string, flags: Readonly<Record<string, boolean | undefined>>): void {
  for (const [flag, isGiven] of Object.entries(flags))
    if (isGiven === true)
      throw new Failure('INVALID', `${flag} does not go with a backup into ${destination}: leave it out`);
}

async function runStoreBackup(context: CommandContext, flags: BackupFlags, request: StoreBackupRequest): Promise<void> {
  const startedMs = context.clock.now();
  const result = await withProgress(context, flags, async ({ report }) => {
    const concurrency = concurrencyOf(context, flags);
    await using backends = context.connect({ ...connectFlags(flags), concurrency, report });
    const isBundle = !request.to.startsWith('store:s3://') && isOneFile(request.to);
    return await (isBundle ? backupToBundle : backupToStore)(request, backends, optionsOf(context, flags, report));
  });
  const { json, text } = describeStoreBackup(result, (context.clock.now() - startedMs) / 1000);
  printOutcome(context, flags, json, () => text);
  if (result.failures.length > 0) context.exit(1);
}
