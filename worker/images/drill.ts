import { matchesRepository, matchingTags, type ImageFilter } from '../oci/image-filter.ts';
import { formatRepository } from '../oci/reference.ts';
import { formatScratchPlace, parseScratchPlace, scratchFolder } from '../oci/scratch.ts';
import { readState } from '../store/read-state.ts';
import type { State, StateImage, StateRepository } from '../store/state.ts';
import { Failure, onSide, type Code } from '../util/failure.ts';
import { forEachOf, Limit } from '../util/limit.ts';
import { append } from '../util/lists.ts';
import { isInSample, type Sample } from '../util/sample.ts';
import { compareStrings } from '../util/text.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { compareRepository, type RepositoryComparison } from './compare-target.ts';
import { openBackups, type BackupPlace, type OpenedBackups } from './open-backups.ts';
import { restoreImages, type ImagesOutcome } from './restore-images.ts';
import { planRestore, type PlannedRepository } from './restore-plan.ts';
import { RestoredRepository } from './restored-repository.ts';
import { createScratch } from './scratch-mark.ts';
import { SharedBlobs } from './shared-blobs.ts';
import type { Finding } from './verify-result.ts';

/** What a drill restores, and into which scratch repositories. */
export interface DrillRequest {
  readonly place: BackupPlace;
  /** `host/prefix`, where scratch repositories are made. */
  readonly restoreTo: string;
  /** The part of their names that is the drill's: lowercase letters and digits. A drill that is repeated with the same id goes on where it stopped. */
  readonly id: string;
  /** The mark of the scratch repositories. No other drill has it. */
  readonly mark: string;
  /** Which part of the images is restored; one image at least. Default: all. */
  readonly sample?: Sample | undefined;
  readonly only?: readonly ImageFilter[] | undefined;
  /** Called with the name of each scratch repository before it is made. */
  readonly onScratch?: ((repository: string) => void) | undefined;
}

/** What a drill restored, and how that differs from the backup. */
export interface DrillResult {
  readonly place: string;
  /** `host/prefix`. */
  readonly restoreTo: string;
  /** What the names of the scratch repositories begin with. */
  readonly scratch: string;
  readonly sample?: Sample | undefined;
  /** Images that were restored and compared, and how many the backup has. */
  readonly images: { readonly checked: number; readonly of: number };
  /** Those of them that are equal at the target: tags, manifests, and what refers to them. */
  readonly equal: number;
  readonly bytesSent: number;
  readonly repositories: readonly DrilledRepository[];
  readonly findings: readonly Finding[];
}

interface DrilledRepository {
  /** `host/repository`, as it was backed up and as it is at the target. */
  readonly from: string;
  readonly to: string;
  readonly images: number;
  readonly equal: number;
}

const REPOSITORIES_AT_ONCE = 4;
const IMAGES_AT_ONCE = 8;

/**
 * Restores images of the state of a place into scratch repositories that it creates, and compares them digest by digest. Settings are not restored.
 * What cannot be restored, or differs at the target, is a finding. Deletes nothing. Idempotent: a drill that was stopped sends what is missing.
 *
 * Throws INVALID without a prefix, NOT_FOUND where there is nothing to restore, and CONFLICT for a repository that existed before. Also throws
 * failures that prove nothing about the backup, such as a registry that does not answer.
 */
export async function drill(
  request: DrillRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<DrillResult> {
  const { place, id } = request;
  const target = parseScratchPlace(request.restoreTo);
  const backups = await openBackups(place, backends, options);
  const state = await onSide('source', readState(backups.snapshots, { signal: options.signal }));
  const { chosen, images: of } = choose(state, request);
  if (chosen.length === 0)
    throw new Failure('NOT_FOUND', `${place.text} has no image that a drill could restore: nothing was proved`, {
      context: { side: 'source' },
    });
  const scratch = scratchFolder(target, id);
  const planned = planOf(chosen, { registry: target.registry, prefix: scratch });
  const session = new DrillSession(request, planned, backups, backends);
  await forEachOf(
    planned,
    REPOSITORIES_AT_ONCE,
    async (one, taskOptions) => session.restore(one, { ...options, ...taskOptions }),
    options,
  );
  const repositories = planned.flatMap((one) => session.repositories.get(one) ?? []);
  return {
    place: place.text,
    restoreTo: formatScratchPlace(target),
    scratch: `${target.registry}/${scratch}`,
    sample: request.sample,
    images: { checked: sum(repositories, (one) => one.images), of },
    equal: sum(repositories, (one) => one.equal),
    bytesSent: session.bytesSent,
    repositories,
    findings: session.findings.toSorted((a, b) => compareStrings(a.at, b.at)),
  };
}

/** The repositories with images of the sample, each with these images alone. An empty sample proves nothing, so one image is always chosen. */
function choose(
  { repositories }: State,
  { sample, only = [] }: DrillRequest,
): { readonly chosen: readonly StateRepository[]; readonly images: number } {
  const stored = repositories.flatMap((repository) => {
    if (!matchesRepository(only, repository.name)) return [];
    const images = repository.images.filter(
      ({ archived, tags }) => archived !== true && matchingTags(only, repository.name, tags) !== undefined,
    );
    return images.length === 0 ? [] : [{ ...repository, images, failures: [] }];
  });
  const all = stored.flatMap(({ images }) => images);
  const isSampled = all.some(({ digest }) => isInSample(sample, digest));
  const byDigest = all.toSorted((a, b) => compareStrings(a.digest, b.digest));
  const single = sample === undefined || isSampled ? undefined : byDigest[sample.slice % byDigest.length]?.digest;
  const isChosen = ({ digest }: StateImage): boolean =>
    single === undefined ? isInSample(sample, digest) : digest === single;
  const chosen = stored.flatMap((repository) => {
    const images = repository.images.filter(isChosen);
    return images.length === 0 ? [] : [{ ...repository, images }];
  });
  return { chosen, images: all.length };
}

/** The scratch repository of each. Those of a second registry have a folder of their own, because two registries may have the same names. */
function planOf(
  chosen: readonly StateRepository[],
  to: { readonly registry: string; readonly prefix: string },
): readonly PlannedRepository[] {
  const hosts = [...Map.groupBy(chosen, ({ registry }) => registry.host)];
  return hosts.flatMap(([, repositories], index) => {
    const prefix = index === 0 ? to.prefix : `${to.prefix}/registry-${index + 1}`;
    return planRestore({ repositories }, { only: [], maps: [], to: { ...to, prefix } });
  });
}

/** Failures that prove something: the backup is damaged, or a registry does not take what was backed up. */
const FINDINGS: Readonly<Partial<Record<Code, Finding['kind']>>> = {
  CORRUPT: 'faulty',
  INVALID: 'faulty',
  UNSUPPORTED: 'faulty',
  NOT_FOUND: 'missing',
  CONFLICT: 'moved',
};

class DrillSession {
  readonly repositories = new Map<PlannedRepository, DrilledRepository>();
  readonly findings: Finding[] = [];
  bytesSent = 0;
  readonly #request: DrillRequest;
  readonly #backups: OpenedBackups;
  readonly #backends: Backends;
  readonly #blobs: SharedBlobs;
  readonly #atOnce = new Limit(IMAGES_AT_ONCE);

  constructor(
    request: DrillRequest,
    planned: readonly PlannedRepository[],
    backups: OpenedBackups,
    backends: Backends,
  ) {
    this.#request = request;
    this.#backups = backups;
    this.#backends = backends;
    this.#blobs = new SharedBlobs(planned);
  }

  async restore(planned: PlannedRepository, options: OperationOptions): Promise<void> {
    const { registry: host, repository } = planned.to;
    const registry = this.#backends.registry(host, 'target');
    this.#request.onScratch?.(repository);
    await onSide('target', createScratch(registry, repository, this.#request.mark, options));
    const opened = await onSide(
      'target',
      RestoredRepository.open(registry, repository, {
        create: false,
        onMount: (isMounted) => this.#blobs.mounted(isMounted),
        signal: options.signal,
      }),
    );
    const request = { images: this.#backups.images, atOnce: this.#atOnce, blobs: this.#blobs };
    const outcome = await restoreImages(planned, opened, request, this.#backends, options);
    this.bytesSent += outcome.bytesSent;
    append(this.findings, findingsOf(outcome, planned));
    const comparison = await compareRepository(planned.images, registry, repository, { signal: options.signal });
    append(this.findings, differencesOf(comparison, outcome, planned));
    this.repositories.set(planned, {
      from: formatRepository(planned.from),
      to: formatRepository(planned.to),
      images: planned.images.length,
      equal: comparison.equal,
    });
  }
}

/** The images that could not be restored. Throws a failure that proves nothing about them. */
function findingsOf({ failures }: ImagesOutcome, { to }: PlannedRepository): readonly Finding[] {
  return failures.map(({ repository, tag, digest, code, reason }) => {
    const at = tag === undefined ? `${repository}@${digest}` : `${repository}:${tag}`;
    const kind = FINDINGS[code];
    if (kind === undefined) throw new Failure(code, `restore ${at} to ${formatRepository(to)}: ${reason}`);
    return { kind, at, message: `it cannot be restored: ${reason}` };
  });
}

/** What differs at the target. An image that could not be restored is already a finding. */
function differencesOf(
  { differences }: RepositoryComparison,
  { failures }: ImagesOutcome,
  { from, to, images }: PlannedRepository,
): readonly Finding[] {
  const failed = new Set(failures.map(({ digest }) => digest));
  const parts = new Map(
    images.map((image) => [image.digest, [image.digest, ...image.referrers.map(({ digest }) => digest)]]),
  );
  return differences.flatMap(({ kind, image, tag, digest, reason }): readonly Finding[] => {
    if ((parts.get(image) ?? [image]).some((part) => failed.has(part))) return [];
    const at = tag === undefined ? `${formatRepository(from)}@${digest}` : `${formatRepository(from)}:${tag}`;
    const message = `restored to ${formatRepository(to)} it is not the same: ${reason}`;
    return [{ kind: kind === 'missing' ? 'missing' : 'moved', at, message }];
  });
}

function sum<T>(items: readonly T[], count: (item: T) => number): number {
  return items.reduce((total, item) => total + count(item), 0);
}
