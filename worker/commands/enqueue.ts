import type { Command } from 'commander';
import type { Service } from '../service/service.ts';
import type { Run } from '../state/state.ts';
import { formatReference } from '../oci/reference.ts';
import type { Report } from '../util/events.ts';
import { Failure } from '../util/failure.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { argumentsOf, isMany, withManyFlags, type ManyFlags } from './many-flags.ts';
import { optionsOf, platformOption } from './result.ts';
import { counted, formatDuration, formatUnchanged, printable } from './text.ts';

interface EnqueueFlags extends CommonFlags, ManyFlags {
  readonly platform?: readonly string[];
  readonly referrers?: boolean;
  readonly force?: boolean;
  readonly create?: boolean;
  readonly includeArchived?: boolean;
  readonly wait?: boolean;
  readonly large?: boolean;
}

export function addEnqueue(program: Command, context: CommandContext): void {
  const command = program
    .command('enqueue')
    .summary('ask the deployed system for a rule now, or for copies')
    .description(
      'With one argument, runs the rule of that name now; one that prunes is begun by the next pass of a Cleaner. With two, asks for one copy: registry to registry, registry to s3://, or s3:// to registry, or for a backup of images by pattern into store:s3://; the workers do it with their own credentials. A pattern, a list or a choice of tags is listed here, and each image is a job of one run. When no worker runs, one is started at once.',
    )
    .argument('<rule-or-src>', 'the name of a rule, or an image, or images by pattern')
    .argument('[dst]', 'the destination of the image')
    .addOption(platformOption())
    .option('--no-referrers', 'without signatures, SBOMs and whatever else refers to the image')
    .option('--no-create', 'fail instead of creating a repository that ECR does not have')
    .option(
      '--force',
      'write again what is there, and replace what is not an archive, or the archive of another repository',
    )
    .option('--large', 'copy with the large workers, where the deployment has them')
    .option(
      '--include-archived',
      "into a store: also images in ECR's archive storage class: each is restored, waited for, copied and archived again; ECR bills it for 90 days more",
    )
    .option('--wait', 'until it has ended; exits 1 when a job failed, or when the run was given up after 24 hours');
  withManyFlags(command);
  withCommonFlags(command).action(async (first: string, second: string | undefined, flags: EnqueueFlags) => {
    const { src, dst } = argumentsOf(first, second, flags);
    await withProgress(context, flags, async ({ report }) => {
      await using service = context.connectService({ report });
      const run = await enqueue(src, dst, flags, { service, report }, context);
      if (flags.wait === true) await waitFor(run, flags, service, context);
      else printResult(context, flags, { run: run.id }, () => `enqueued as run ${run.id}; see \`transship status\``);
    });
  });
}

async function enqueue(
  src: string,
  dst: string | undefined,
  flags: EnqueueFlags,
  { service, report }: { readonly service: Service; readonly report: Report },
  context: CommandContext,
): Promise<Run> {
  const { enqueueImage, enqueueImages, enqueueRule, enqueueStore } = await import('../service/admin/enqueue.ts');
  const options = { signal: context.signal, clock: context.clock, report };
  const { platform: platforms, force } = flags;
  if (dst !== undefined) {
    const choices = {
      platforms,
      force,
      ...(flags.referrers === false ? { referrers: false } : {}),
      ...(flags.create === false ? { create: false as const } : {}),
      large: flags.large,
    };
    if (dst.startsWith('store:')) {
      if (force === true || flags.create === false)
        throw new Failure('INVALID', '--force and --no-create are for copies: a store takes every image as it is');
      if (flags.large === true)
        throw new Failure('INVALID', '--large is for copies: a backup into a store takes one image after the other');
      if (flags.imagesFrom !== undefined || flags.map !== undefined)
        throw new Failure('INVALID', '--images-from and --map do not go with a backup into a store: name a pattern');
      const { storeSelection } = await import('./choose-images.ts');
      const archived = flags.includeArchived === true ? { includeArchived: true } : {};
      return enqueueStore({ from: src, to: dst, ...choices, ...archived, ...storeSelection(flags) }, service, options);
    }
    if (flags.includeArchived === true)
      throw new Failure('INVALID', '--include-archived is for a backup into a store: name store:s3://bucket/prefix/');
    if (isMany(src, flags)) {
      const { chooseImages } = await import('./choose-images.ts');
      await using backends = context.connect({ report });
      const listing = { ...optionsOf(context, {}, report), signal: context.signal };
      const { images, faults } = await chooseImages(src, dst, flags, context, backends, listing);
      if (faults.length > 0) throw new Failure('UNAVAILABLE', `nothing was enqueued: ${faults.join('; ')}`);
      return await enqueueImages(
        images.map(({ from, to }) => Object.assign({ from: formatReference(from), to }, choices)),
        service,
        options,
      );
    }
    return enqueueImage({ from: src, to: dst, ...choices }, service, options);
  }
  if (isMany('', flags) || flags.map !== undefined)
    throw new Failure(
      'INVALID',
      'a rule has its own choice of images: --images-from, --tags, --semver, --latest and --map go with SRC DST',
    );
  const isCopy = flags.referrers === false || flags.create === false || flags.large === true;
  if (platforms !== undefined || force === true || isCopy || flags.includeArchived === true) {
    throw new Failure(
      'INVALID',
      'a rule has its own choices: --platform, --no-referrers, --no-create, --include-archived, --large and --force go with SRC DST',
    );
  }
  return enqueueRule(src, service, options);
}

/** Waits until the run has ended, and prints what became of it. Exits 1 when a job of it failed, and when it was declared dead; 3 when all that failed are verifications that found something. */
async function waitFor({ id }: Run, flags: EnqueueFlags, service: Service, context: CommandContext): Promise<void> {
  const { follow } = await import('../service/admin/enqueue.ts');
  const { signal, clock } = context;
  const seen = (now: Run): void => {
    if (flags.quiet !== true && flags.json !== true) context.stderr.write(`${describeCounts(now)}\n`);
  };
  const { run, failed } = await follow(id, service.state.runs, { signal, clock, seen }).catch((error: unknown) => {
    if (!signal.aborted) throw error;
    // the same command again would ask for all of it once more
    const what = `stopped waiting: the run ${id} goes on; see \`transship status\``;
    throw new Failure('ABORTED', what, { cause: signal.reason });
  });
  printResult(context, flags, { ...run, failures: failed }, () =>
    [
      `run ${id} ${describeEnd(run)}: ${describeCounts(run)}`,
      ...failed.map((job) => `failed: ${printable(job.title)}: ${printable(job.reason ?? '')}`),
    ].join('\n'),
  );
  if (failed.length === 0 && run.dead !== true) return;
  // findings of a verification are its answer, not a failure
  const isFinding =
    failed.length > 0 && failed.every(({ code, title }) => code === 'CORRUPT' && /^(?:verify|drill) /.test(title));
  if (isFinding && run.dead !== true)
    context.exit(3, `${counted(failed.length, 'verification')} of the run found faults`);
  else context.exit(1);
}

function describeEnd({ startedAtMs, endedAtMs, dead }: Run): string {
  if (endedAtMs === undefined) return 'could not be planned to its end';
  return `${dead === true ? 'was given up after' : 'ended in'} ${formatDuration(endedAtMs - startedAtMs)}`;
}

function describeCounts(run: Run): string {
  const { jobs, plannedAtMs } = run;
  const planning = plannedAtMs === undefined ? ', still planning' : '';
  const gone = jobs.gone > 0 ? `, gone ${jobs.gone}` : '';
  return `done ${jobs.done}, unchanged ${formatUnchanged(run)}${gone}, failed ${jobs.failed}, running ${jobs.running}, waiting ${jobs.waiting}${planning}`;
}
