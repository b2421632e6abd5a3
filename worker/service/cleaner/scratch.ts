import { deleteScratch } from '../../images/delete-scratch.ts';
import type { DeletingBackends } from '../../images/deletions.ts';
import type { OperationOptions } from '../../images/backends.ts';
import { isScratchName, parseScratchPlace, scratchNames } from '../../oci/scratch.ts';
import type { StateStore } from '../../state/state.ts';
import { anyOf, checkAborted } from '../../util/abort.ts';
import { describeFailure, toFailure } from '../../util/failure.ts';
import { isDrillOver, parseDrillMark } from '../drill-mark.ts';
import { LOCK_SECONDS } from './prune-place.ts';

export interface ScratchOptions extends OperationOptions {
  /** When to begin no more repositories. Default: never. */
  readonly untilMs?: number | undefined;
}

/** What became of scratch repositories. `open`: the time was over before all of them were looked at. */
export interface ScratchCounts {
  readonly deleted: number;
  readonly failed: number;
  readonly open: boolean;
}

/**
 * Deletes the scratch repositories of drills that are over, at the places that rules name for drills, or named within two weeks. It deletes only repositories that have the
 * name of a scratch repository and the mark of a drill that is over. A place that cannot be listed, or a repository that cannot be deleted, is
 * reported, and does not stop the others; where no rule names the place any more (`named`), as a warning. Safe to stop anywhere.
 */
export async function cleanScratch(
  { places, named }: { readonly places: readonly string[]; readonly named: ReadonlySet<string> },
  state: StateStore,
  backends: DeletingBackends,
  options: ScratchOptions,
): Promise<ScratchCounts> {
  const counts = { deleted: 0, failed: 0, open: false };
  for (const text of places) {
    await using lock = await state.lock(`scratch/${text}`, LOCK_SECONDS, options);
    // another Cleaner is already running there
    if (lock === undefined) continue;
    const held = { ...options, signal: anyOf(options.signal, lock.signal) };
    const one = await cleanPlace(text, named.has(text), state, backends, held);
    counts.deleted += one.deleted;
    counts.failed += one.failed;
    counts.open ||= one.open;
  }
  return counts;
}

async function cleanPlace(
  text: string,
  isNamed: boolean,
  state: StateStore,
  backends: DeletingBackends,
  options: ScratchOptions,
): Promise<ScratchCounts> {
  const { clock, report, untilMs = Infinity } = options;
  const place = parseScratchPlace(text);
  const { registry } = place;
  const isOver = async (mark: string): Promise<boolean> => {
    const drill = parseDrillMark(mark);
    if (drill === undefined) return false;
    // runs of two deployments can have one name
    const isOwn = (await state.runs.get(drill.run, options))?.startedAtMs === drill.atMs;
    const job = isOwn ? await state.runs.job(drill.run, drill.job, options) : undefined;
    return isDrillOver(drill, job, clock.now());
  };
  const counts = { deleted: 0, failed: 0, open: false };
  const failing = (where: string, error: unknown): void => {
    checkAborted(options);
    const message = describeFailure(error);
    if (isNamed) {
      counts.failed++;
      report?.({ type: 'prune-failed', place: where, code: toFailure(error).code, message });
    } else
      report?.({
        type: 'warning',
        message: `${where} may have scratch repositories of a rule that was removed: ${message}`,
      });
  };
  const names: string[] = [];
  try {
    for await (const name of backends.registry(registry, 'target').repositories(scratchNames(place), options))
      if (isScratchName(place, name)) names.push(name);
  } catch (error) {
    failing(`${registry}/${scratchNames(place)}*`, error);
  }
  for (const repository of names) {
    if (clock.now() >= untilMs) return { ...counts, open: true };
    try {
      const end = await deleteScratch({ registry, repository }, isOver, backends, options);
      if (end !== 'deleted') continue;
      counts.deleted++;
      report?.({ type: 'scratch-deleted', place: `${registry}/${repository}` });
    } catch (error) {
      failing(`${registry}/${repository}`, error);
    }
  }
  return counts;
}
