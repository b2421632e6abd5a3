import { formatReference, formatRepository, type Repository } from '../../oci/reference.ts';
import { destinationsOf, type Destination } from '../../rules/destinations.ts';
import type { Candidate, CopyRule } from '../../rules/rule.ts';
import type { Run, SyncRecord } from '../../state/state.ts';
import { append } from '../../util/lists.ts';
import type { Abortable } from '../../util/abort.ts';
import { atSide } from '../../util/failure.ts';
import type { DestinationOwners } from '../destination-owner.ts';
import type { SourceList } from './source-list.ts';
import { nameOf, planJobs, referenceOf, titleOf, type JobPlan, type SourceImage } from './plan-jobs.ts';
import type { Presences } from './presences.ts';
import type { Remembered } from './remembered.ts';
import { withoutRefused } from './refused-jobs.ts';
import type { Retries } from './retries.ts';
import type { RunJobs } from './run-jobs.ts';

/** Images of one repository. */
export interface Batch extends Repository {
  readonly list: SourceList;
  /** Some of `list.selected`. */
  readonly candidates: readonly Candidate[];
}

/** What the batches of one planning share. */
export interface BatchContext {
  readonly rule: CopyRule;
  readonly run: Pick<Run, 'id' | 'startedAtMs'>;
  readonly jobs: RunJobs;
  readonly remembered: Pick<Remembered, 'find'>;
  readonly presences: Pick<Presences, 'find'>;
  readonly owners: DestinationOwners;
  /** Whether the run has so many images that its jobs are spread over the table. Default false. */
  readonly spread?: boolean | undefined;
  /** Absent: a job is made for an image whatever earlier runs are trying. */
  readonly retries?: Retries | undefined;
  /** Called for an image that cannot be planned. Throws where that ends the planning. */
  readonly fail: (title: string, error: unknown) => Promise<void>;
}

/** Images that are compared, made known and sent at once. */
const BATCH = 500;

/** Candidates in pieces for `planBatch`, in their order. */
export function* batchesOf(candidates: readonly Candidate[]): Generator<readonly Candidate[]> {
  for (let index = 0; index < candidates.length; index += BATCH) yield candidates.slice(index, index + BATCH);
}

/**
 * Compares images with their destinations, and makes a job known and sends it for each image that is not everywhere yet. Returns the
 * destinations that the state remembers as made from this repository.
 */
export async function planBatch(
  batch: Batch,
  context: BatchContext,
  options: Abortable,
): Promise<readonly Destination[]> {
  const { rule, run, fail } = context;
  const resolved = await batch.list.resolve(batch.candidates, options);
  for (const { candidate, failure } of resolved.failed)
    await fail(`read docker://${formatRepository(batch)}:${nameOf(candidate)}`, failure);
  const wanted: Destination[] = [];
  const images: SourceImage[] = [];
  for (const image of resolved.images) {
    const reference = referenceOf(batch.registry, batch.repository, image);
    try {
      append(wanted, destinationsOf(rule, reference, image.digest, run.startedAtMs));
      images.push(image);
    } catch (error) {
      // a template makes an impossible name of this image
      await fail(`plan docker://${formatReference(reference)}`, atSide('target', error));
    }
  }
  const { jobs, faults, unchanged, unseen, made } = await compare(batch, images, wanted, context, options);
  const unreferenced = batch.list.unreferenced || undefined;
  const bytesByDigest = new Map<string, number>(batch.list.bytes);
  const wantedJobs = jobs.map((job) => ({
    job,
    title: titleOf(job),
    fault: faults.get(job.id),
    unreferenced,
    bytes: bytesByDigest.get(job.digest ?? ''),
  }));
  const added: typeof wantedJobs = [];
  for (const one of wantedJobs) {
    const retried = await context.retries?.find(one.job, options);
    if (retried === undefined) added.push(one);
    else await context.jobs.leave(one, retried, options);
  }
  await context.jobs.add(added, { unchanged, unseen }, options);
  return made;
}

async function compare(
  { registry, repository, list }: Batch,
  images: readonly SourceImage[],
  wanted: readonly Destination[],
  { rule, run, ...context }: BatchContext,
  options: Abortable,
): Promise<JobPlan & { readonly made: readonly Destination[] }> {
  const record = await context.remembered.find(wanted, options);
  const remembered = wanted.filter((key) => record(key) !== undefined);
  const presence = await context.presences.find(remembered, record, options);
  const came = new Set(remembered.flatMap((key) => record(key)?.manifests ?? []));
  const referrers = rule.referrers
    ? await list.referrers((subject) => came.has(subject), options)
    : new Map<string, readonly string[]>();
  const { spread } = context;
  const from = { rule, run: run.id, startedAtMs: run.startedAtMs, registry, repository, images, spread };
  const planned = planJobs(from, { record, presence, referrers });
  const { jobs, refused } = await withoutRefused(planned.jobs, record, context.owners, options);
  for (const { title, failure } of refused) await context.fail(title, failure);
  const source = `docker://${formatRepository({ registry, repository })}`;
  const made = remembered.filter((key) => isOf(source, record(key)));
  return { ...planned, jobs, made };
}

/** Whether a destination was made from an image of the repository at `source`. */
function isOf(source: string, record: SyncRecord | undefined): boolean {
  return record?.source.startsWith(`${source}:`) === true || record?.source.startsWith(`${source}@`) === true;
}
