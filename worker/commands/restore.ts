import { Option, type Command } from 'commander';
import { restore } from '../images/restore.ts';
import type { OnExisting } from '../images/restore-images.ts';
import type { SettingsChoices, SettingsMode } from '../images/restore-settings.ts';
import { Failure } from '../util/failure.ts';
import { printOutcome, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { parseTime, withSnapshotFlags, type SnapshotFlags } from './places.ts';
import { describeRestore } from './restore-text.ts';
import { counted } from './text.ts';
import {
  concurrencyOf,
  optionsOf,
  platformOption,
  runImages,
  withConcurrency,
  withImages,
  type ConcurrencyFlag,
} from './result.ts';
import { connectFlags, withCreateFlags, withS3Flags, withSideFlags, type S3Flags, type SideFlags } from './sides.ts';

interface RestoreFlags extends CommonFlags, SideFlags, S3Flags, ConcurrencyFlag, SnapshotFlags {
  readonly platform?: readonly string[];
  readonly referrers?: boolean;
  readonly dryRun?: boolean;
  readonly settings?: SettingsMode;
  readonly allowForeignGrants?: boolean;
  readonly trustNames?: boolean;
  readonly registry?: string;
  readonly map?: readonly string[];
  readonly onExisting?: OnExisting;
  readonly registrySettings?: boolean;
  readonly allowLockout?: boolean;
}

/** Flags that are about snapshots: with one of them archives are restored as their snapshots list them. */
const OF_SNAPSHOTS = ['snapshot', 'asOf', 'only', 'registry', 'map', 'onExisting', 'registrySettings'] as const;

export function addRestore(program: Command, context: CommandContext): void {
  const command = program
    .command('restore')
    .summary('put archived images, or a whole registry, back into a registry')
    .description(
      'Puts archived images into a registry from the backup alone, digests unchanged. Of a store, and of a prefix of archives with --snapshot, --as-of or --only, it restores what snapshots list, and compares the registry with them at the end: exit code 3 for a difference. Settings of repositories that it creates are restored too, policies last; existing repositories keep theirs. One archive alone brings no settings.',
    )
    .argument(
      '<src>',
      's3://bucket/key.tar, oci-archive:file.tar, a prefix ending in "/" for every archive below it, or store:PLACE',
    )
    .argument(
      '<dst>',
      'docker://host/repository[:tag] for one archive, docker://host[/prefix] to keep the names the images had',
    )
    .addOption(platformOption())
    .option('--no-referrers', 'without signatures, SBOMs and whatever else refers to the images')
    .addOption(settingsOption())
    .option(
      '--allow-foreign-grants',
      'also restore policies that grant access to "*" or to accounts other than that of the target',
    )
    .option('--trust-names', 'also restore archives below a prefix whose own name differs from the name in their key')
    .option('--dry-run', 'look at both sides, and print what would be copied');
  withSnapshotFlags(command)
    .option('--registry <host>', 'only what was in this registry, where the backup has several')
    .addOption(
      new Option(
        '--map <from=to>',
        'restore repositories under other names: team/*=archive/*; may be given more than once, the first that matches counts',
      ).argParser((value, before: readonly string[] | undefined) => [...(before ?? []), value]),
    )
    .addOption(
      new Option(
        '--on-existing <what>',
        'tags that stand for another image at the target: report each as a failure (error, the default), leave them (skip), or move them (overwrite)',
      ).choices(['skip', 'error', 'overwrite'] satisfies OnExisting[]),
    )
    .option(
      '--registry-settings',
      'also restore the settings of the registry itself: replication, scanning, templates, cache rules, signing, its policy',
    )
    .option('--allow-lockout', 'also restore a policy of the registry that may deny you what changing it back needs');
  withS3Flags(withSideFlags(withCreateFlags(withImages(withConcurrency(withCommonFlags(command)))), ['dest']), {
    writes: false,
  }).action(async (src: string, dst: string, flags: RestoreFlags) => runRestore(src, dst, flags, context));
}

async function runRestore(src: string, dst: string, flags: RestoreFlags, context: CommandContext): Promise<void> {
  const { referrers, dryRun, platform: platforms, allowForeignGrants, trustNames } = flags;
  if (flags.create === false && flags.settings === 'replace')
    throw new Failure(
      'INVALID',
      '--settings replace changes repositories that exist, and --no-create leaves all settings as they are: pass one of the two',
    );
  // a caller that wants no repository to be created wants none to be changed either
  const settings = flags.create === false ? 'none' : flags.settings;
  const choices = { settings, createSettings: connectFlags(flags).createSettings, allowForeignGrants };
  if (src.startsWith('store:') || OF_SNAPSHOTS.some((flag) => flags[flag] !== undefined)) {
    await restoreFromSnapshots(src, dst, choices, flags, context);
    return;
  }
  const request = { from: src, to: dst, platforms, referrers, dryRun, trustNames, ...choices };
  await runImages(context, flags, async (backends, options) => restore(request, backends, options));
}

async function restoreFromSnapshots(
  src: string,
  dst: string,
  choices: SettingsChoices,
  flags: RestoreFlags,
  context: CommandContext,
): Promise<void> {
  const { snapshot, asOf, only, registry, map: maps, onExisting, referrers, dryRun, registrySettings } = flags;
  const { allowLockout } = flags;
  if (flags.platform !== undefined || flags.trustNames === true)
    throw new Failure(
      'INVALID',
      `${flags.platform === undefined ? '--trust-names' : '--platform'} is for archives without snapshots: a restore from snapshots has the digests that they list`,
    );
  const { restoreSnapshot } = await import('../images/restore-snapshot.ts');
  const startedMs = context.clock.now();
  const asOfMs = asOf === undefined ? undefined : parseTime(asOf, startedMs);
  const chosen = {
    snapshot,
    asOfMs,
    only,
    registry,
    maps,
    onExisting,
    referrers,
    dryRun,
    registrySettings,
    allowLockout,
  };
  const result = await withProgress(context, flags, async ({ report }) => {
    const concurrency = concurrencyOf(context, flags);
    await using backends = context.connect({ ...connectFlags(flags), concurrency, report });
    const request = { from: src, to: dst, ...choices, ...chosen };
    return await restoreSnapshot(request, backends, optionsOf(context, flags, report));
  });
  const seconds = (context.clock.now() - startedMs) / 1000;
  const differences = result.repositories.reduce((sum, one) => sum + (one.comparison?.differences.length ?? 0), 0);
  // a difference is found at the end, and no warning names it
  const isQuiet = flags.quiet === true && differences === 0;
  const json = { seconds, ...result };
  printOutcome(context, { ...flags, quiet: isQuiet }, json, (look) => describeRestore(result, seconds, look));
  if (result.failures.length > 0 || result.faults.length > 0) context.exit(1);
  else if (differences > 0) context.exit(3, `${counted(differences, 'difference')} from the snapshot`);
}

function settingsOption(): Option {
  const modes = ['create', 'replace', 'none'] satisfies SettingsMode[];
  return new Option(
    '--settings <mode>',
    'which repositories get the settings that were backed up: those that are created, existing ones too (replace), or none, as with --no-create; --create-settings comes first in those that are created',
  )
    .choices(modes)
    .default('create');
}
