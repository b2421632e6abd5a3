import { Option, type Command } from 'commander';
import type { Difference } from '../images/compare-entries.ts';
import type { PlacesDiff } from '../images/diff-places.ts';
import { parseImageFilter } from '../oci/image-filter.ts';
import { parseRepositoryMap } from '../oci/repository-map.ts';
import {
  printResult,
  withCommonFlags,
  withProgress,
  type CommandContext,
  type CommonFlags,
  type KeyFlags,
} from './context.ts';
import { onlyOption, parseMoment } from './places.ts';
import { concurrencyOf, optionsOf, withConcurrency, type ConcurrencyFlag } from './result.ts';
import { connectFlags, withS3Flags, withSideFlags, withVerifyKeyFlag, type S3Flags, type SideFlags } from './sides.ts';
import type { Look } from './look.ts';
import { formatTable } from './table.ts';
import { counted, formatDigest, printable } from './text.ts';

interface DiffFlags extends CommonFlags, SideFlags, S3Flags, ConcurrencyFlag, Pick<KeyFlags, 'verifyKey'> {
  readonly only?: readonly string[];
  readonly map?: readonly string[];
  readonly by?: 'name' | 'digest';
  readonly untagged?: boolean;
  readonly referrers?: boolean;
}

export function addDiff(program: Command, context: CommandContext): void {
  const command = program
    .command('diff')
    .summary('compare two places: what is missing, different or extra')
    .description(
      'Lists both places, reads no layer, and prints every name that the second place lacks (missing), has for another image (different), or has beside the first (extra). A place is a registry (HOST, HOST/team/*), a prefix of archives (s3://bucket/prefix/, ./folder/), or a store (store:s3://bucket/prefix/, store:folder). A store, and archives with snapshots, may be named as they were: PLACE#ID, PLACE#latest, PLACE#2026-05-31, PLACE#2d (two days ago). Exits 3 when there is a difference.',
    )
    .argument('<a>', 'the place that is right; the source to the flags below')
    .argument('<b>', 'the place that is compared with it; the target to the flags below')
    .addOption(onlyOption())
    .addOption(
      new Option(
        '--map <from=to>',
        'what repositories of <a> are called in <b>, such as "team/*=mirror/team/*"; may be given more than once',
      ).argParser((value, before: readonly string[] | undefined) => [...(before ?? []), value]),
    )
    .addOption(
      new Option(
        '--by <what>',
        'name: compare what tags stand for; digest: which images a repository has, whatever their tags',
      )
        .choices(['name', 'digest'])
        .default('name'),
    )
    .option('--untagged', 'also images without tags (ECR, stores and snapshots list them)')
    .option(
      '--referrers',
      'also signatures and SBOMs where a place does not list them: reads every manifest (default: where both places list them)',
    );
  withS3Flags(withSideFlags(withConcurrency(withCommonFlags(withVerifyKeyFlag(command)))), { writes: false }).action(
    async (a: string, b: string, flags: DiffFlags) => {
      const nowMs = context.clock.now();
      const request = {
        a: parseMoment(a, nowMs),
        b: parseMoment(b, nowMs),
        by: flags.by,
        only: flags.only?.map(parseImageFilter),
        maps: flags.map?.map(parseRepositoryMap),
        untagged: flags.untagged,
        referrers: flags.referrers === true ? ('all' as const) : undefined,
      };
      const { diffPlaces } = await import('../images/diff-places.ts');
      const diff = await withProgress(context, flags, async ({ report }) => {
        const concurrency = concurrencyOf(context, flags);
        await using backends = context.connect({ ...connectFlags(flags), concurrency, report });
        return await diffPlaces(request, backends, optionsOf(context, flags, report));
      });
      printResult(context, flags, diff, (look) => describeDiff(diff, look));
      if (diff.differences.length > 0) context.exit(3, counted(diff.differences.length, 'difference'));
    },
  );
}

function describeDiff({ a, b, compared, equal, differences, unchecked }: PlacesDiff, look: Look): string {
  const count = (kind: Difference['kind']): number => differences.filter((one) => one.kind === kind).length;
  return [
    ...(differences.length === 0
      ? []
      : [
          formatTable(['result', 'image', 'digest', 'digest there'], differences.map(rowOf), look, {
            shorten: ['image'],
          }),
          '',
        ]),
    `compared ${comparedNames(compared)} of ${a} with ${b}: ${equal} equal, ${count('missing')} missing, ${count('different')} different, ${count('extra')} extra`,
    ...(compared.referrers ? [] : ['note: what refers to images was not compared; --referrers reads it']),
    ...unchecked.map((what) => `note: ${printable(what)}`),
  ].join('\n');
}

/** What the counts of a comparison count. */
function comparedNames({ by, referrers, untagged }: PlacesDiff['compared']): string {
  const images = by === 'digest' ? 'images' : untagged ? 'tags and untagged images' : 'tags';
  return referrers ? `${images}, signatures and SBOMs` : images;
}

function rowOf({ kind, registry, repository, tag, digest, otherDigest, subject }: Difference): readonly string[] {
  const place = registry === undefined ? repository : `${registry}/${repository}`;
  const name = tag === undefined ? `${place}@${digest ?? otherDigest ?? ''}` : `${place}:${tag}`;
  const shown = (value: typeof digest): string => (value === undefined ? '' : formatDigest(value));
  return [
    kind,
    subject === undefined ? name : `${name} (refers to ${formatDigest(subject)})`,
    shown(digest),
    shown(otherDigest),
  ];
}
