import type { Command } from 'commander';
import { inspect, rawManifest, type Inspected } from '../images/inspect.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { concurrencyOf, optionsOf } from './result.ts';
import { connectFlags, withSideFlags, withS3Flags, type S3Flags, type SideFlags } from './sides.ts';
import type { Look } from './look.ts';
import { formatTable } from './table.ts';
import { formatBytes, printable } from './text.ts';

interface InspectFlags extends CommonFlags, SideFlags, S3Flags {
  readonly raw?: boolean;
}

export function addInspect(program: Command, context: CommandContext): void {
  const command = program
    .command('inspect')
    .summary('show what an image is made of')
    .description('Shows platforms, sizes and what refers to an image, from its manifests alone.')
    .argument('<ref>', 'an image anywhere')
    .option('--raw', 'the manifest, byte for byte');
  withS3Flags(withSideFlags(withCommonFlags(command), ['src']), { writes: false }).action(
    async (ref: string, flags: InspectFlags) => {
      await withProgress(context, flags, async ({ report }) => {
        await using backends = context.connect({
          ...connectFlags(flags),
          concurrency: concurrencyOf(context, {}),
          report,
        });
        const options = optionsOf(context, {}, report);
        if (flags.raw === true) {
          context.stdout.write(Buffer.from(await rawManifest(ref, backends, options)).toString());
          return;
        }
        const found = await inspect(ref, backends, options);
        printResult(context, flags, found, (look) => describe(found, look));
      });
    },
  );
}

function describe(found: Inspected, look: Look): string {
  const { repository, tags, artifactType, snapshot, images, referrers } = found;
  return [
    `image      ${found.at}`,
    ...(repository === undefined ? [] : [`named      ${repository}${tags.map((tag) => `:${tag}`).join('')}`]),
    `digest     ${found.digest}`,
    `type       ${found.mediaType}`,
    ...(artifactType === undefined ? [] : [`artifact   ${printable(artifactType)}`]),
    ...(snapshot === undefined ? [] : [`snapshot   ${describeSnapshot(snapshot)}`]),
    `in all     ${formatBytes(found.totalBytes)}`,
    ...(images.length === 0
      ? []
      : [
          '',
          formatTable(
            ['platform', '>layers', '>bytes', 'digest'],
            images.map(({ platform = '-', layers, bytes, digest }) => [
              platform,
              String(layers),
              formatBytes(bytes),
              digest,
            ]),
            look,
            { shorten: ['digest'] },
          ),
        ]),
    ...(referrers.length === 0
      ? []
      : [
          '',
          formatTable(
            ['refers to it', 'digest'],
            referrers.map((one) => [one.tags[0] ?? one.artifactType ?? 'unknown', one.digest]),
            look,
            { shorten: ['refers to it', 'digest'] },
          ),
        ]),
  ].join('\n');
}

/** `extract --dry-run` lists the objects. */
function describeSnapshot({ source, created, objects, bytes, failed }: NonNullable<Inspected['snapshot']>): string {
  const faults = failed === 0 ? '' : `, ${failed} could not be published`;
  return `${objects} ${objects === 1 ? 'object' : 'objects'} of ${formatBytes(bytes)} in ${printable(source)}, made ${created}${faults}`;
}
