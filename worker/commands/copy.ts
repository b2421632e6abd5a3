import type { Command } from 'commander';
import { formatLocation, isStandardOutput, parseDestination, parseLocation } from '../oci/location.ts';
import { reportAbout } from '../util/events.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { copyImage } from '../images/copy-image.ts';
import { printOutcome, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { argumentsOf, isMany, withManyFlags, type ManyFlags } from './many-flags.ts';
import {
  describeCopy,
  concurrencyOf,
  optionsOf,
  runImages,
  keepExistingOption,
  platformOption,
  verifyTargetOption,
  withConcurrency,
  withImages,
  type ConcurrencyFlag,
} from './result.ts';
import { connectFlags, withCreateFlags, withSideFlags, withS3Flags, type S3Flags, type SideFlags } from './sides.ts';

interface CopyFlags extends CommonFlags, SideFlags, S3Flags, ConcurrencyFlag, ManyFlags {
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
    .summary('copy images from anywhere to anywhere')
    .description(
      'Copies one image: every platform, with its signatures and SBOMs, digests unchanged; only what is missing is sent. With a pattern, a list or a choice of tags it copies several images of registries into one registry.',
    )
    .argument(
      '<src>',
      'docker://host/repo:tag, s3://bucket/key.tar, oci-archive:file.tar, docker-archive:file.tar or oci:folder; oci-archive:- is standard input; host/team/* and host/app:v* are several images',
    )
    .argument(
      '[dst]',
      'the same, or store:PLACE:host/repo:tag, whose snapshot lists that image; for a registry the tag may be left out to keep it; oci-archive:- is standard output; for several images host/prefix/ or a template such as host/{repository}:{tag}',
    )
    .addOption(platformOption())
    .option('--no-referrers', 'without signatures, SBOMs and whatever else refers to the image')
    .option('--force', 'also replace a file or object that is not an image, or the archive of another repository')
    .addOption(keepExistingOption())
    .addOption(verifyTargetOption())
    .option('--dry-run', 'look at both sides, and print what would be copied');
  withManyFlags(command);
  withS3Flags(withSideFlags(withCreateFlags(withImages(withConcurrency(withCommonFlags(command))))), {
    writes: true,
  }).action(async (first: string, second: string | undefined, flags: CopyFlags) => {
    const { src, dst } = argumentsOf(first, second, flags);
    if (dst === undefined) return command.error("error: missing required argument 'dst'");
    if (isMany(src, flags)) return copySeveral(context, flags, src, dst);
    if (flags.map !== undefined)
      throw new Failure('INVALID', '--map is for several images: name the one image at the destination');
    return copyOne(context, flags, src, dst);
  });
}

/** Copies one image from anywhere to anywhere. */
async function copyOne(context: CommandContext, flags: CopyFlags, src: string, dst: string): Promise<void> {
  const [from, to] = [parseLocation(src), parseDestination(dst)];
  if (flags.keepExisting === true && (to.transport === 'docker' || to.transport === 'oci' || to.transport === 'store'))
    throw new Failure('INVALID', `--keep-existing is for archives, and ${formatLocation(to)} is not one: leave it out`);
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
}

/** Copies images of registries into a registry, several at once. */
async function copySeveral(context: CommandContext, flags: CopyFlags, src: string, dst: string): Promise<void> {
  const { platform: platforms, referrers, dryRun, verifyTarget = false } = flags;
  if (flags.force === true || flags.keepExisting === true)
    throw new Failure('INVALID', '--force and --keep-existing are for one archive: leave them out');
  if (dst.startsWith('s3://'))
    throw new Failure('INVALID', `${quote(dst)} is for archives: use transship backup, which also writes a snapshot`);
  // the code that reads rules takes a while to load: one image does not need it
  const { chooseImages } = await import('./choose-images.ts');
  const { copyImages } = await import('../images/copy-images.ts');
  await runImages(context, flags, async (backends, options) => {
    const { images, faults } = await chooseImages(src, dst, flags, context, backends, options);
    const requests = images.map(({ from, to }) => ({
      from: { transport: 'docker' as const, reference: from },
      to: parseDestination(to),
      platforms,
      referrers,
      dryRun,
      trustTarget: !verifyTarget,
    }));
    return { items: await copyImages(requests, backends, options), faults };
  });
}
