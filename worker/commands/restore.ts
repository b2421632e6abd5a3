import { Option, type Command } from 'commander';
import { restore } from '../images/restore.ts';
import type { SettingsMode } from '../images/restore-settings.ts';
import { Failure } from '../util/failure.ts';
import { withCommonFlags, type CommandContext, type CommonFlags } from './context.ts';
import { runImages, platformOption, withConcurrency, type ConcurrencyFlag } from './result.ts';
import { connectFlags, withCreateFlags, withS3Flags, withSideFlags, type S3Flags, type SideFlags } from './sides.ts';

interface RestoreFlags extends CommonFlags, SideFlags, S3Flags, ConcurrencyFlag {
  readonly platform?: readonly string[];
  readonly referrers?: boolean;
  readonly dryRun?: boolean;
  readonly settings?: SettingsMode;
  readonly allowForeignGrants?: boolean;
  readonly trustNames?: boolean;
}

export function addRestore(program: Command, context: CommandContext): void {
  const command = program
    .command('restore')
    .summary('put archived images back into a registry')
    .description(
      'Puts archived images into a registry from the archives alone, digests unchanged. Of a prefix, it restores the settings of repositories that it creates first; existing repositories keep their settings, and one archive alone brings none.',
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
    .addOption(settingsOption())
    .option(
      '--allow-foreign-grants',
      'also restore policies that grant access to "*" or to accounts other than that of the target',
    )
    .option(
      '--trust-names',
      'restore archives below a prefix too that call themselves another name than their key does',
    )
    .option('--dry-run', 'look at both sides, and print what would be copied');
  withS3Flags(withSideFlags(withCreateFlags(withConcurrency(withCommonFlags(command))), ['dest']), {
    writes: false,
  }).action(async (src: string, dst: string, flags: RestoreFlags) => {
    const { referrers, dryRun, platform: platforms, allowForeignGrants, trustNames } = flags;
    if (flags.create === false && flags.settings === 'replace')
      throw new Failure(
        'INVALID',
        '--settings replace changes repositories that exist, and --no-create leaves all settings as they are: pass one of the two',
      );
    // a caller that wants no repository to be created wants none to be changed either
    const settings = flags.create === false ? 'none' : flags.settings;
    const choices = { settings, createSettings: connectFlags(flags).createSettings, allowForeignGrants, trustNames };
    const request = { from: src, to: dst, platforms, referrers, dryRun, ...choices };
    await runImages(context, flags, async (backends, options) => restore(request, backends, options));
  });
}

function settingsOption(): Option {
  const modes = ['create', 'replace', 'none'] satisfies SettingsMode[];
  return new Option(
    '--settings <mode>',
    'which repositories get the settings beside the archives of a prefix: those that are created, existing ones too (replace), or none, as with --no-create; --create-settings comes first in those that are created',
  )
    .choices(modes)
    .default('create');
}
