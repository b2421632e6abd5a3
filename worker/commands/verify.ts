import { Option, type Command } from 'commander';
import { storeAndPrefix } from '../images/open-place.ts';
import { recordOfVerification, writeProof } from '../images/proof-record.ts';
import { verify, verifyPlace } from '../images/verify.ts';
import type { PlaceRequest } from '../images/verify-result.ts';
import type { Depth } from '../images/verify-image.ts';
import { parseSample } from '../util/sample.ts';
import { parseImageFilter } from '../oci/image-filter.ts';
import { isPlace, parsePlace } from '../oci/place.ts';
import { Failure } from '../util/failure.ts';
import { randomId } from '../util/random-id.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { parseBackupPlace, parseMoment, parseTime, withSnapshotFlags, type SnapshotFlags } from './places.ts';
import { concurrencyOf, optionsOf, withConcurrency, type ConcurrencyFlag } from './result.ts';
import { connectFlags, withSideFlags, withS3Flags, type S3Flags, type SideFlags } from './sides.ts';
import { counted, printable } from './text.ts';
import { describeImages, describePlace } from './verify-text.ts';

interface VerifyFlags extends CommonFlags, SideFlags, S3Flags, ConcurrencyFlag, SnapshotFlags {
  readonly depth?: Depth;
  readonly deep?: boolean;
  readonly sample?: string;
  readonly against?: string;
  readonly restoreTo?: string;
  readonly record?: boolean;
}

export function addVerify(program: Command, context: CommandContext): void {
  const command = program
    .command('verify')
    .summary('prove that images are whole')
    .description(
      'Verifies one image, or a place of many: a registry (HOST, HOST/team/*), archives (s3://bucket/prefix/, oci-archive:folder/) or a store (store:s3://bucket/prefix/, store:folder). Reports `whole` where every byte was checked and all that refers to the image was listed, otherwise what was checked, with the reason. Stores and archives are compared with their snapshots: each must have the bytes that its id names, and what it lists must be there, unchanged. In archives that Transship made, every other byte is compared with the plan of the archive. With --restore-to it is a drill instead: images of a backup are restored, compared digest by digest, and deleted again. Exits 3 when something is wrong.',
    )
    .argument('<place>', 'an image anywhere, or a place of many images')
    .addOption(
      new Option(
        '--depth <depth>',
        'tags: every name is there and stands for its digest; blobs: manifests are read, and every blob is there with its size; bytes: every byte is read and hashed (default: bytes of archives and folders, blobs of registries and stores)',
      ).choices(['tags', 'blobs', 'bytes']),
    )
    .addOption(new Option('--deep', 'the same as --depth bytes').conflicts('depth'))
    .option(
      '--sample <part>',
      'read only a part: 5%, another part each day, so that 20 daily or weekly runs read everything; or 3/20, the third of 20 equal parts',
    )
    .option(
      '--against <ref>',
      'also compare with this image, or with this place for a place, such as the source of a mirror: a fault is another digest, or a signature or SBOM that it has and <place> does not have; it is the target to the flags below',
    )
    .addOption(
      new Option(
        '--restore-to <host/prefix>',
        'restore the images of a store or of archives, or those of --sample and --only, into scratch repositories below this prefix, compare them, and delete the repositories',
      ).conflicts(['depth', 'deep', 'against', 'snapshot', 'asOf']),
    )
    .addOption(
      new Option('--record', 'write the result beside the snapshots, where `report` finds it').conflicts([
        'only',
        'against',
        'snapshot',
        'asOf',
      ]),
    );
  withS3Flags(withSideFlags(withConcurrency(withCommonFlags(withSnapshotFlags(command)))), { writes: false }).action(
    async (at: string, flags: VerifyFlags) => {
      if (flags.restoreTo !== undefined) {
        const { runDrill } = await import('./drill.ts');
        await runDrill(at, flags.restoreTo, flags, context);
      } else await (isPlace(at) ? verifyMany(at, flags, context) : verifyOne(at, flags, context));
    },
  );
}

async function verifyOne(at: string, flags: VerifyFlags, context: CommandContext): Promise<void> {
  const misplaced = (['sample', 'snapshot', 'asOf', 'only', 'record'] as const).find(
    (name) => flags[name] !== undefined,
  );
  if (misplaced !== undefined)
    throw new Failure(
      'INVALID',
      `${at} is one image: leave out --${misplaced === 'asOf' ? 'as-of' : misplaced}, or name a place of many images, such as HOST/team/*, s3://bucket/prefix/ or store:PLACE`,
    );
  const results = await withProgress(context, flags, async ({ report }) => {
    await using backends = context.connect({
      ...connectFlags(flags),
      concurrency: concurrencyOf(context, flags),
      report,
    });
    const request = { at, depth: depthOf(flags), against: flags.against };
    return await verify(request, backends, optionsOf(context, flags, report));
  });
  const faulty = results.filter(({ faults }) => faults.length > 0).length;
  const isEqual = flags.against !== undefined && faulty === 0 && depthOf(flags) !== 'tags';
  printResult(context, flags, results, (look) =>
    [describeImages(results, look), ...(isEqual ? [`equal to ${printable(flags.against ?? '')}`] : [])].join('\n'),
  );
  if (faulty > 0) context.exit(3, `${counted(faulty, 'image')} with faults`);
}

async function verifyMany(at: string, flags: VerifyFlags, context: CommandContext): Promise<void> {
  const nowMs = context.clock.now();
  const place = flags.record === true ? parseBackupPlace(at) : parsePlace(at);
  const request: PlaceRequest = {
    place,
    depth: depthOf(flags),
    sample: flags.sample === undefined ? undefined : parseSample(flags.sample, nowMs),
    snapshot: flags.snapshot,
    asOfMs: flags.asOf === undefined ? undefined : parseTime(flags.asOf, nowMs),
    only: flags.only?.map(parseImageFilter),
    against: flags.against === undefined ? undefined : parseMoment(flags.against, nowMs),
  };
  const result = await withProgress(context, flags, async ({ report }) => {
    await using backends = context.connect({
      ...connectFlags(flags),
      concurrency: concurrencyOf(context, flags),
      report,
    });
    const options = optionsOf(context, flags, report);
    const found = await verifyPlace(request, backends, options);
    if (flags.record === true && place.kind !== 'registry') {
      const times = { startedAt: isoOf(nowMs), finishedAt: isoOf(context.clock.now()) };
      const id = randomId(context.clock);
      await writeProof(storeAndPrefix(place.root, backends), recordOfVerification(found, times), id, options);
    }
    return found;
  });
  printResult(context, flags, result, (look) => describePlace(result, look));
  if (result.findings.length > 0) context.exit(3, counted(result.findings.length, 'finding'));
}

function isoOf(ms: number): string {
  return new Date(ms).toISOString();
}

function depthOf({ depth, deep }: VerifyFlags): Depth | undefined {
  return deep === true ? 'bytes' : depth;
}
