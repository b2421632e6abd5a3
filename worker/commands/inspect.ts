import type { Command } from 'commander';
import { inspect, rawManifest, type Inspected } from '../images/inspect.ts';
import { formatPlatform, parsePlatform } from '../oci/manifest.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { concurrencyOf, optionsOf } from './result.ts';
import { connectFlags, withSideFlags, withS3Flags, type S3Flags, type SideFlags } from './sides.ts';
import type { Look } from './look.ts';
import { formatTable } from './table.ts';
import { formatBytes, printable } from './text.ts';

interface InspectFlags extends CommonFlags, SideFlags, S3Flags {
  readonly raw?: boolean;
  readonly platform?: string;
}

type InspectedImage = Inspected['images'][number];

/** Shown where an index has several images and no platform is asked for. */
const USUAL_PLATFORM = 'linux/amd64';

export function addInspect(program: Command, context: CommandContext): void {
  const command = program
    .command('inspect')
    .summary('show what an image is made of')
    .description(
      'Shows platforms, sizes, layers, labels, the config, annotations and what refers to an image. Reads manifests and configs, and no layer.',
    )
    .argument('<ref>', 'an image anywhere')
    .option(
      '--platform <os/arch>',
      `show the config and the layers of this one (default: ${USUAL_PLATFORM}, or the first)`,
    )
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
        const shown = shownOf(found, flags.platform);
        printResult(context, flags, found, (look) => describe(found, shown, look));
      });
    },
  );
}

/** The image whose config and layers are shown. NOT_FOUND where no image has the platform. */
function shownOf({ images, at }: Inspected, platform: string | undefined): InspectedImage | undefined {
  const named = (name: string): InspectedImage | undefined => images.find((image) => platformOf(image) === name);
  if (platform === undefined) return named(USUAL_PLATFORM) ?? images[0];
  const wanted = formatPlatform(parsePlatform(platform));
  const found = named(wanted);
  if (found !== undefined) return found;
  throw new Failure(
    'NOT_FOUND',
    `inspect ${at}: no image is for ${quote(wanted)}, but for ${images.map((image) => platformOf(image) ?? 'an unknown platform').join(', ')}`,
  );
}

/** The platform from the index, or from the config of an image without an index. */
function platformOf({ platform, config }: InspectedImage): string | undefined {
  if (platform !== undefined || config?.os === undefined || config.architecture === undefined) return platform;
  return `${config.os}/${config.architecture}`;
}

function describe(found: Inspected, shown: InspectedImage | undefined, look: Look): string {
  const { repository, tags, artifactType, annotations, snapshot, images, referrers } = found;
  return [
    `image      ${found.at}`,
    ...(repository === undefined ? [] : [`named      ${repository}${tags.map((tag) => `:${tag}`).join('')}`]),
    `digest     ${found.digest}`,
    `type       ${found.mediaType}`,
    ...(artifactType === undefined ? [] : [`artifact   ${printable(artifactType)}`]),
    ...(snapshot === undefined ? [] : [`snapshot   ${describeSnapshot(snapshot)}`]),
    `in all     ${formatBytes(found.totalBytes)}`,
    ...pairsOf('annotations', annotations),
    ...(images.length === 0
      ? []
      : [
          '',
          formatTable(
            ['platform', '>layers', '>bytes', 'created', 'digest'],
            images.map((image) => [
              platformOf(image) ?? '-',
              String(image.layers),
              formatBytes(image.bytes),
              printable(image.config?.created?.slice(0, 19) ?? '-'),
              image.digest,
            ]),
            look,
            { shorten: ['digest'] },
          ),
        ]),
    ...(shown === undefined ? [] : describeShown(shown, images.length > 1, look)),
    ...(referrers.length === 0
      ? []
      : [
          '',
          formatTable(
            ['refers to it', 'digest'],
            referrers.map((one) => [printable(one.tags[0] ?? one.artifactType ?? 'unknown'), one.digest]),
            look,
            { shorten: ['refers to it', 'digest'] },
          ),
        ]),
  ].join('\n');
}

/** The config and the layers of one image. */
function describeShown(image: InspectedImage, isOneOfSeveral: boolean, look: Look): readonly string[] {
  const { config, configFault, annotations, layerBlobs } = image;
  const facts: readonly (readonly [name: string, value: string | undefined])[] = [
    ['created', config?.created],
    ['author', config?.author],
    ['user', config?.user],
    ['folder', config?.workingDir],
    ['entrypoint', wordsOf(config?.entrypoint)],
    ['command', wordsOf(config?.cmd)],
    ['ports', config?.exposedPorts?.join(', ')],
    ['volumes', config?.volumes?.join(', ')],
    ['stops by', config?.stopSignal],
    ['config', configFault === undefined ? undefined : `cannot be read: ${configFault}`],
  ];
  const lines = facts.flatMap(([name, value]) =>
    value === undefined ? [] : [`${name.padEnd(11)}${printable(value)}`],
  );
  return [
    '',
    ...(isOneOfSeveral ? [`${printable(platformOf(image) ?? image.digest)}:`] : []),
    ...lines,
    ...pairsOf('annotations', annotations),
    ...pairsOf('labels', config?.labels),
    ...(config?.env === undefined ? [] : ['environment', ...config.env.map((one) => `  ${printable(one)}`)]),
    ...(layerBlobs.length === 0
      ? []
      : [
          ...(lines.length > 0 || config !== undefined ? [''] : []),
          formatTable(
            ['>layer', '>bytes', 'type', 'digest'],
            layerBlobs.map(({ digest, mediaType, size }, at) => [
              String(at + 1),
              formatBytes(size),
              printable(mediaType),
              digest,
            ]),
            look,
            { shorten: ['type', 'digest'] },
          ),
        ]),
  ];
}

/** As an argument list, so that blanks within a word show. */
function wordsOf(words: readonly string[] | undefined): string | undefined {
  return words === undefined ? undefined : JSON.stringify(words);
}

/** Names and values below a heading. */
function pairsOf(heading: string, pairs: Readonly<Record<string, string>> = {}): readonly string[] {
  const lines = Object.entries(pairs).map(([name, value]) => `  ${printable(name)}=${printable(value)}`);
  return lines.length === 0 ? [] : [heading, ...lines];
}

/** `extract --dry-run` lists the objects. */
function describeSnapshot({ source, created, objects, bytes, failed }: NonNullable<Inspected['snapshot']>): string {
  const faults = failed === 0 ? '' : `, ${failed} could not be published`;
  return `${objects} ${objects === 1 ? 'object' : 'objects'} of ${formatBytes(bytes)} in ${printable(source)}, made ${created}${faults}`;
}
