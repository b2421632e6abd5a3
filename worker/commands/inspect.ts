import type { Command } from 'commander';
import { inspect, rawManifest } from '../images/inspect.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { concurrencyOf, optionsOf } from './result.ts';
import { connectFlags, withSideFlags, withS3Flags, type S3Flags, type SideFlags } from './sides.ts';
import { formatBytes, formatTable } from './text.ts';

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
        printResult(context, flags, found, () =>
          [
            `image      ${found.at}`,
            ...(found.repository === undefined
              ? []
              : [`named      ${found.repository}${found.tags.map((tag) => `:${tag}`).join('')}`]),
            `digest     ${found.digest}`,
            `type       ${found.mediaType}`,
            `in all     ${formatBytes(found.totalBytes)}`,
            '',
            formatTable(
              ['platform', '>layers', '>bytes', 'digest'],
              found.images.map((image) => [
                image.platform ?? '-',
                String(image.layers),
                formatBytes(image.bytes),
                image.digest,
              ]),
            ),
            ...(found.referrers.length === 0
              ? []
              : [
                  '',
                  formatTable(
                    ['refers to it', 'digest'],
                    found.referrers.map(({ tags, artifactType, digest }) => [
                      tags[0] ?? artifactType ?? 'unknown',
                      digest,
                    ]),
                  ),
                ]),
          ].join('\n'),
        );
      });
    },
  );
}
