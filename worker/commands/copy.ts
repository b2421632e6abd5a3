import type { Command } from 'commander';
import { formatLocation, isStandardOutput, parseDestination, parseLocation } from '../oci/location.ts';
import { reportAbout } from '../util/events.ts';
import { Failure } from '../util/failure.ts';
import { copyImage } from '../images/copy-image.ts';
import { printOutcome, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import {
  describeCopy,
  concurrencyOf,
  optionsOf,
  keepExistingOption,
  platformOption,
  verifyTargetOption,
  withConcurrency,
  type ConcurrencyFlag,
} from './result.ts';
import { connectFlags, withCreateFlags, withSideFlags, withS3Flags, type S3Flags, type SideFlags } from './sides.ts';

interface CopyFlags extends CommonFlags, SideFlags, S3Flags, ConcurrencyFlag {
  readonly platform?: readonly string[];
  readonly referrers?: boolean;
  readonly force?: boolean;
  readonly keepExisting?: boolean;
  readonly dryRun?: boolean;
  readonly verifyTarget?: boolean;
}

export function addCopy(program: Command, context: CommandContext): void {
  const command = program
    .command('copy')
    .summary('copy one image from anywhere to anywhere')
    .description(
      'Copies one image: every platform, with its signatures and SBOMs, digests unchanged; only what is missing is sent.',
    )
    .argument(
      '<src>',
      'docker://host/repo:tag, s3://bucket/key.tar, oci-archive:file.tar, docker-archive:file.tar or oci:folder; oci-archive:- is standard input',
    )
    .argument(
      '<dst>',
      'the same, or store:PLACE:host/repo:tag, whose snapshot lists that image; for a registry the tag may be left out to keep it; oci-archive:- is standard output',
    )
    .addOption(platformOption())
    .option('--no-referrers', 'without signatures, SBOMs and whatever else refers to the image')
    .option('--force', 'also replace a file or object that is not an image, or the archive of another repository')
    .addOption(keepExistingOption())
    .addOption(verifyTargetOption())
    .option('--dry-run', 'look at both sides, and print what would be copied');
  withS3Flags(withSideFlags(withCreateFlags(withConcurrency(withCommonFlags(command)))), { writes: true }).action(
    async (src: string, dst: string, flags: CopyFlags) => {
      const [from, to] = [parseLocation(src), parseDestination(dst)];
      if (
        flags.keepExisting === true &&
        (to.transport === 'docker' || to.transport === 'oci' || to.transport === 'store')
      )
        throw new Failure(
          'INVALID',
          `--keep-existing is for archives, and ${formatLocation(to)} is not one: leave it out`,
        );
      const isPiped = to.transport === 'archive' && isStandardOutput(to.path);
      if (isPiped && flags.json === true)
        throw new Failure('INVALID', '--json writes to standard output, which carries the archive: leave it out');
      const startedMs = context.clock.now();
      const result = await withProgress(context, flags, async ({ report }) => {
        await using backends = context.connect({
          ...connectFlags(flags),
          concurrency: concurrencyOf(context, flags),
          report,
        });
        const { referrers, force, keepExisting, dryRun, platform: platforms, verifyTarget = false } = flags;
        const choices = { platforms, referrers, force, keepExisting, dryRun, trustTarget: !verifyTarget };
        return await copyImage(
          { from, to, ...choices, tool: `transship ${context.version}` },
          backends,
          optionsOf(context, flags, reportAbout(report, { image: formatLocation(from) })),
        );
      });
      const seconds = (context.clock.now() - startedMs) / 1000;
      const { json, text } = describeCopy(result, seconds);
      if (isPiped) {
        if (flags.quiet !== true) context.stderr.write(`${text}\n`);
      } else printOutcome(context, flags, json, () => text);
    },
  );
}
