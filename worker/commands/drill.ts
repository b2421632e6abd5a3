import { deleteScratch } from '../images/delete-scratch.ts';
import type { DeletingBackends } from '../images/deletions.ts';
import { drill, type DrillRequest, type DrillResult } from '../images/drill.ts';
import type { OperationOptions } from '../images/backends.ts';
import { storeAndPrefix } from '../images/open-place.ts';
import { recordOfDrill, writeProof } from '../images/proof-record.ts';
import { parseImageFilter } from '../oci/image-filter.ts';
import { parseScratchPlace } from '../oci/scratch.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure } from '../util/failure.ts';
import { withGrace } from '../util/grace.ts';
import { randomId } from '../util/random-id.ts';
import { describeSample, parseSample } from '../util/sample.ts';
import { GRACE_MS } from '../util/stop.ts';
import { printResult, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { parseBackupPlace, type SnapshotFlags } from './places.ts';
import { concurrencyOf, optionsOf, type ConcurrencyFlag } from './result.ts';
import { connectFlags, type S3Flags, type SideFlags } from './sides.ts';
import type { Look } from './look.ts';
import { formatTable } from './table.ts';
import { counted, formatBytes, printable } from './text.ts';

/** The flags of `verify` that a drill takes. */
interface DrillFlags
  extends CommonFlags, SideFlags, S3Flags, ConcurrencyFlag, Pick<SnapshotFlags, 'only' | 'verifyKey'> {
  readonly sample?: string;
  readonly record?: boolean;
}

/** Begins the marks of drills that a person runs: no Cleaner deletes their repositories. */
const BY_HAND = 'command/';

/** What a drill made and could not delete, a sentence each. */
type Leftovers = readonly string[];

/** `verify PLACE --restore-to`: a drill that deletes the scratch repositories that it made, however it ends. */
export async function runDrill(
  at: string,
  restoreTo: string,
  flags: DrillFlags,
  context: CommandContext,
): Promise<void> {
  const id = randomId(context.clock);
  const startedAt = new Date(context.clock.now()).toISOString();
  const request: DrillRequest = {
    place: parseBackupPlace(at),
    restoreTo,
    id,
    mark: `${BY_HAND}${id}`,
    sample: flags.sample === undefined ? undefined : parseSample(flags.sample, context.clock.now()),
    only: flags.only?.map(parseImageFilter),
  };
  parseScratchPlace(restoreTo);
  const { result, leftovers } = await withProgress(context, flags, async ({ report }) => {
    const concurrency = concurrencyOf(context, flags);
    await using backends = context.connectDeleting({ ...connectFlags(flags), concurrency, report });
    const options = optionsOf(context, flags, report);
    const ended = await drillAndDelete(request, backends, options);
    if (flags.record === true) {
      const times = { startedAt, finishedAt: new Date(context.clock.now()).toISOString() };
      await writeProof(storeAndPrefix(request.place.root, backends), recordOfDrill(ended.result, times), id, options);
    }
    return ended;
  });
  printResult(context, flags, { ...result, leftovers }, (look) => describeDrill(result, leftovers, look));
  if (leftovers.length > 0) context.exit(1);
  else if (result.findings.length > 0) context.exit(3, counted(result.findings.length, 'finding'));
}

async function drillAndDelete(
  request: DrillRequest,
  backends: DeletingBackends,
  options: OperationOptions,
): Promise<{ readonly result: DrillResult; readonly leftovers: Leftovers }> {
  const made: string[] = [];
  const { registry } = parseScratchPlace(request.restoreTo);
  let isWhole = false;
  const clean = async (signal: AbortSignal): Promise<Leftovers> => {
    const leftovers: string[] = [];
    const left = (repository: string, why: string): void =>
      void leftovers.push(`${registry}/${repository} was not deleted: ${why}`);
    for (const repository of made) {
      try {
        const isOwn = (mark: string): boolean => mark === request.mark;
        const end = await deleteScratch({ registry, repository }, isOwn, backends, { ...options, signal });
        // a drill that failed may not have created all of them
        if (end === 'kept' && isWhole) left(repository, 'it does not show the mark of this drill any more');
      } catch (error) {
        left(repository, describeFailure(error));
      }
    }
    return leftovers;
  };
  // a drill that is stopped deletes what it made in the time that the process has
  return withGrace(
    GRACE_MS,
    async ({ signal }) => {
      try {
        const result = await drill({ ...request, onScratch: (name) => made.push(name) }, backends, options);
        isWhole = true;
        return { result, leftovers: await clean(signal) };
      } catch (error) {
        for (const message of await clean(signal)) options.report?.({ type: 'warning', message });
        checkAborted(options);
        throw error;
      }
    },
    options,
  );
}

function describeDrill(result: DrillResult, leftovers: Leftovers, look: Look): string {
  const { repositories, findings, images, equal, sample, bytesSent, place, restoreTo } = result;
  const parts = [
    ...(sample === undefined ? [] : [describeSample(sample)]),
    `${images.checked} of ${counted(images.of, 'image')} tried in ${restoreTo}`,
    `${equal} restored and equal`,
    `${formatBytes(bytesSent)} sent`,
    counted(findings.length, 'finding'),
  ];
  return [
    formatTable(
      ['repository', '>images', '>equal', 'restored to'],
      repositories.map((one) => [one.from, String(one.images), String(one.equal), one.to]),
      look,
      { shorten: ['repository', 'restored to'] },
    ),
    '',
    ...findings.map(({ kind, at, message }) => `${kind}: ${at}: ${printable(message)}`),
    ...leftovers.map((sentence) => `left: ${printable(sentence)}`),
    `${findings.length > 0 ? 'FAULTY' : 'restorable'} ${place}: ${parts.join(', ')}`,
  ].join('\n');
}
