import { parseImageFilter } from '../oci/image-filter.ts';
import { parseRegistryTarget } from '../oci/location.ts';
import { parsePlace } from '../oci/place.ts';
import { formatRepository } from '../oci/reference.ts';
import { parseRepositoryMap } from '../oci/repository-map.ts';
import { readState } from '../store/read-state.ts';
import type { SnapshotFailure } from '../store/snapshot.ts';
import type { State } from '../store/state.ts';
import { checkAborted } from '../util/abort.ts';
import { highest } from '../util/lists.ts';
import { describeFailure, Failure, onSide } from '../util/failure.ts';
import { forEachOf, Limit } from '../util/limit.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { compareRepository, type RepositoryComparison } from './compare-target.ts';
import { collectFaults, type Faults } from './faults.ts';
import { openBackups, type OpenedBackups } from './open-backups.ts';
import { restoreImages, type ImagesOutcome, type OnExisting, type RestoreFailure } from './restore-images.ts';
import { planRestore, type PlannedRepository } from './restore-plan.ts';
import { restoreRegistrySettings } from './restore-registry-settings.ts';
import type { SettingsChoices } from './restore-settings.ts';
import { RestoredRepository } from './restored-repository.ts';
import { SharedBlobs } from './shared-blobs.ts';
import { SnapshotSettings } from './snapshot-settings.ts';
import type { SettingsDocument } from './write-settings.ts';

/** Which images of a backup are restored, to which registry, and what happens to what is there. */
export interface SnapshotRestoreRequest extends SettingsChoices {
  /** A store, or the prefix of archives below which their snapshots are. */
  readonly from: string;
  /** `docker://host[/prefix]`. */
  readonly to: string;
  /** Exactly this snapshot: its id, the beginning of it, or `latest`. Default: the state of all snapshots. */
  readonly snapshot?: string | undefined;
  /** The state at this time, in milliseconds since 1970. Default: now. Not together with `snapshot`. */
  readonly asOfMs?: number | undefined;
  /** Only what was in the registry with this host. */
  readonly registry?: string | undefined;
  /** `pattern[:tags]`, any of them. Default: everything. */
  readonly only?: readonly string[] | undefined;
  /** `from=to`; the first that matches gives a repository its name. */
  readonly maps?: readonly string[] | undefined;
  /** What becomes of a tag that stands for another image at the target. Default: `error`: it stays, and is a failure. */
  readonly onExisting?: OnExisting | undefined;
  /** Whether signatures, SBOMs and whatever else refers to the images come along. Default true. */
  readonly referrers?: boolean | undefined;
  /** Also restores the settings of the registry itself. Default false. */
  readonly registrySettings?: boolean | undefined;
  /** Also a policy of the registry that may lock the caller out. Default false. */
  readonly allowLockout?: boolean | undefined;
}

/** What became of one repository. */
export interface RepositoryRestore extends Omit<ImagesOutcome, 'failures'> {
  /** `registry/repository`, as it was and as it is now. */
  readonly from: string;
  readonly to: string;
  readonly images: number;
  /** What the target has of it at the end. Absent for a dry run, and where the target could not be listed. */
  readonly comparison?: RepositoryComparison;
}

/** What a restore did, or in a dry run would do, and how the target differs from the snapshot at its end. */
export interface SnapshotRestoreResult {
  readonly from: string;
  readonly to: string;
  readonly dryRun: boolean;
  /** By their names in the snapshot. */
  readonly repositories: readonly RepositoryRestore[];
  readonly failures: readonly RestoreFailure[];
  /** What the registry had and the snapshots do not have, with the reason. */
  readonly absent: readonly SnapshotFailure[];
  /** What went wrong beside the images, such as settings that could not be applied. */
  readonly faults: readonly string[];
}

/** Images at once, of all repositories: small ones spend their time waiting. */
const IMAGES_AT_ONCE = 8;
const REPOSITORIES_AT_ONCE = 6;

/**
 * Makes a registry have what snapshots recorded of one: repositories with their settings, images with what refers to them, digests unchanged, then
 * policies. At the end the target is listed and compared with the snapshots. Each blob is sent to a repository once, and to a registry that mounts
 * blobs once in all. Idempotent; one that was stopped anywhere sends only what is missing. One image that fails does not stop the others.
 *
 * Throws INVALID for malformed input, for two repositories that would get one name, and for a snapshot of a newer format; CORRUPT for an edited
 * snapshot; NOT_FOUND where nothing is selected.
 */
export async function restoreSnapshot(
  request: SnapshotRestoreRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<SnapshotRestoreResult> {
  const to = parseRegistryTarget(request.to);
  const plan = await planOf(request, backends, options);
  const { planned, registrySettings } = plan;
  const faults = collectFaults(options.report);
  // whether blobs are mounted, which saves sending them; all else may deny what the images need, or copy them elsewhere meanwhile
  const { accountSettings, ...others } = registrySettings ?? {};
  const applyToRegistry = async (settings: SettingsDocument): Promise<void> => {
    const { settings: mode, allowForeignGrants, allowLockout, dryRun } = request;
    const choices = { to: to.registry, mode, allowForeignGrants, allowLockout, dryRun };
    await restoreRegistrySettings({ ...choices, settings }, backends, faults, options);
  };
  if (accountSettings !== undefined) await applyToRegistry({ accountSettings });
  const session = new RestoreSession(request, plan, backends, faults, options);
  await forEachOf(planned, REPOSITORIES_AT_ONCE, async (one, { signal }) => session.restore(one, signal), options);
  session.settings.finish();
  if (registrySettings !== undefined) await applyToRegistry(others);
  return {
    from: request.from,
    to: request.to,
    dryRun: request.dryRun === true,
    repositories: planned.flatMap((one) => session.repositories.get(one) ?? []),
    failures: planned.flatMap((one) => session.failures.get(one) ?? []),
    absent: planned.flatMap(({ absent }) => absent),
    faults: faults.messages,
  };
}

interface Plan {
  readonly backups: OpenedBackups;
  readonly planned: readonly PlannedRepository[];
  /** Absent: none are restored. */
  readonly registrySettings: SettingsDocument | undefined;
}

/** What the request stands for. Reads snapshots, and sends no request to the target. */
async function planOf(request: SnapshotRestoreRequest, backends: Backends, options: OperationOptions): Promise<Plan> {
  const place = parsePlace(request.from);
  if (place.kind === 'registry')
    throw new Failure(
      'INVALID',
      `${request.from} is a registry: name the store or the archives that it was backed up to, or use transship copy`,
      { context: { side: 'source' } },
    );
  const selection = {
    only: (request.only ?? []).map(parseImageFilter),
    maps: (request.maps ?? []).map(parseRepositoryMap),
    registry: request.registry,
    to: parseRegistryTarget(request.to),
  };
  const { snapshot, asOfMs, registry } = request;
  const backups = await openBackups(place, backends, options);
  const reading = readState(backups.snapshots, { snapshot, asOfMs, registry, signal: options.signal });
  const state = await onSide('source', reading);
  if (state.repositories.length === 0) throw withoutSnapshots(request);
  const planned = planRestore(state, selection);
  const registrySettings = request.registrySettings === true ? registrySettingsOf(state, planned) : undefined;
  return { backups, planned, registrySettings };
}

function withoutSnapshots({ from, asOfMs, registry }: SnapshotRestoreRequest): Failure {
  const when = asOfMs === undefined ? '' : ` that was finished by ${new Date(asOfMs).toISOString()}`;
  const of = registry === undefined ? '' : ` of ${registry}`;
  return new Failure(
    'NOT_FOUND',
    `there is no snapshot${of}${when} in ${from}: \`transship snapshots list ${from}\` prints those that there are; those of archives are below the part of their keys that is the same for all`,
    { context: { side: 'source' } },
  );
}

/** The newest settings of the one registry that is restored. INVALID where it is several, NOT_FOUND where no snapshot has any. */
function registrySettingsOf(state: State, planned: readonly PlannedRepository[]): SettingsDocument {
  const hosts = new Set(planned.map(({ from }) => from.registry));
  const [host = ''] = hosts;
  if (hosts.size > 1)
    throw new Failure(
      'INVALID',
      `--registry-settings are those of one registry, and there are ${hosts.size}: choose one with --registry`,
    );
  const newest = (images: State['repositories'][number]['images']): number =>
    highest(
      images.map(({ snapshot }) => snapshot.finishedAtMs),
      0,
    );
  const withSettings = state.repositories.filter(
    ({ registry }) => registry.host === host && registry.settings !== undefined,
  );
  const [found] = withSettings.sort((a, b) => newest(b.images) - newest(a.images));
  if (found?.registry.settings !== undefined) return found.registry.settings;
  throw new Failure('NOT_FOUND', `no snapshot has settings of the registry ${host}: leave out --registry-settings`, {
    context: { side: 'source' },
  });
}

/** One restore, over all its repositories. */
class RestoreSession {
  readonly settings: SnapshotSettings;
  readonly repositories = new Map<PlannedRepository, RepositoryRestore>();
  readonly failures = new Map<PlannedRepository, readonly RestoreFailure[]>();
  readonly #request: SnapshotRestoreRequest;
  readonly #backups: OpenedBackups;
  readonly #backends: Backends;
  readonly #faults: Faults;
  readonly #options: OperationOptions;
  readonly #blobs: SharedBlobs;
  readonly #atOnce: Limit;

  constructor(
    request: SnapshotRestoreRequest,
    { backups, planned }: Plan,
    backends: Backends,
    faults: Faults,
    options: OperationOptions,
  ) {
    this.#request = request;
    this.#backups = backups;
    this.#blobs = new SharedBlobs(planned);
    this.#backends = backends;
    this.#faults = faults;
    this.#options = options;
    this.#atOnce = new Limit(options.imagesAtOnce ?? IMAGES_AT_ONCE);
    this.settings = new SnapshotSettings(request, backends, faults, options);
  }

  async restore(planned: PlannedRepository, signal: AbortSignal): Promise<void> {
    const options = { ...this.#options, signal };
    await this.settings.before(planned);
    try {
      const { failures, ...counts } = await this.#images(planned, options);
      this.failures.set(planned, failures);
      // before the policies, which may deny the look
      const comparison = this.#request.dryRun === true ? undefined : await this.#compare(planned, options);
      this.repositories.set(planned, {
        from: formatRepository(planned.from),
        to: formatRepository(planned.to),
        images: planned.images.length,
        ...counts,
        ...(comparison === undefined ? {} : { comparison }),
      });
    } catch (error) {
      checkAborted(this.#options);
      this.#faults.add(`${formatRepository(planned.from)} was not restored: ${describeFailure(error)}`);
      for (const image of planned.images) this.#blobs.settle(image, false);
    }
    await this.settings.after(planned);
  }

  async #images(planned: PlannedRepository, options: OperationOptions): Promise<ImagesOutcome> {
    const { onExisting, referrers, dryRun } = this.#request;
    const { registry, repository } = planned.to;
    const opened = await onSide(
      'target',
      RestoredRepository.open(this.#backends.registry(registry, 'target'), repository, {
        onMount: (isMounted) => this.#blobs.mounted(isMounted),
        signal: options.signal,
      }),
    );
    const request = {
      images: this.#backups.images,
      onExisting,
      referrers,
      dryRun,
      atOnce: this.#atOnce,
      blobs: this.#blobs,
    };
    return restoreImages(planned, opened, request, this.#backends, options);
  }

  async #compare(planned: PlannedRepository, options: OperationOptions): Promise<RepositoryComparison | undefined> {
    const { registry, repository } = planned.to;
    const { referrers } = this.#request;
    try {
      const target = this.#backends.registry(registry, 'target');
      return await compareRepository(planned.images, target, repository, { signal: options.signal, referrers });
    } catch (error) {
      checkAborted(this.#options);
      this.#faults.add(`${formatRepository(planned.to)} was not compared with the snapshot: ${describeFailure(error)}`);
      return undefined;
    }
  }
}
