import type { Digest } from '../oci/digest.ts';
import { comparePlan } from '../retention/compare-plan.ts';
import type { Inventory } from '../retention/inventory.ts';
import { assemblePlan, goingItems } from '../retention/plan-prune.ts';
import { planRepository } from '../retention/plan-repository.ts';
import { DEFAULT_MAX_DELETES, type PrunePlan, type RepositoryPlan } from '../retention/plan.ts';
import { policyFaults, type RepositoryPolicy } from '../retention/policy.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { indexBackups, type BackupIndex } from './backup-index.ts';
import { inventories } from './inventories.ts';
import { parsePrunePlace, type ArchiveRoot, type PrunePlace } from './prune-places.ts';

export interface PlanRequest {
  /** As `parsePrunePlace` reads them. */
  readonly places: readonly string[];
  readonly policies: readonly RepositoryPolicy[];
  /** Default 1,000. Not looked at with `reviewed`, which was made with a limit of its own. */
  readonly maxDeletes?: number | undefined;
  /** Whether a repository may lose every image. Default false. */
  readonly allowEmpty?: boolean | undefined;
  /** Archives: an image goes only when one of them holds it and was found whole now. `s3://bucket/prefix/` or a folder. */
  readonly requireBackup?: string | undefined;
  /** A reviewed plan: the new one deletes that and nothing else. */
  readonly reviewed?: PrunePlan | undefined;
}

/**
 * Reads the places and plans what goes. Deletes nothing. With `reviewed`, CONFLICT where what that deletes is not there any more as it was; what is
 * gone already is no conflict. INVALID for places and policies that cannot be read, before anything is asked for.
 */
export async function planPlaces(
  request: PlanRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<PrunePlan> {
  const { policies, reviewed } = request;
  const places = request.places.map(parsePrunePlace);
  const [fault] = policyFaults(policies);
  if (fault !== undefined) throw new Failure('INVALID', `policy ${fault.path.join('.')}: ${fault.message}`);
  const root = request.requireBackup === undefined ? undefined : backupRoot(request.requireBackup);
  const backups = root === undefined ? undefined : new Backups(await indexBackups(root, backends, options));
  const names = policies.some(choosesByTag) ? 'all' : 'few';
  const nowMs = options.clock.now();
  noteUnlisted(places, request, backends, options);
  const maxDeletes = reviewed === undefined ? (request.maxDeletes ?? DEFAULT_MAX_DELETES) : Infinity;
  let room = maxDeletes;
  const repositories: RepositoryPlan[] = [];
  for await (const inventory of inventories(places, backends, { ...options, names })) {
    const planned = await planOne(inventory, { request, backups, nowMs, maxDeletes, room });
    repositories.push(planned);
    room -= goingItems(planned);
  }
  const plan = assemblePlan(repositories, policies, { places: request.places, nowMs });
  if (reviewed !== undefined) comparePlan(reviewed, plan);
  return plan;
}

/** Registries but ECR list tags alone, so images without one are not found there: said once for each. */
function noteUnlisted(
  places: readonly PrunePlace[],
  { policies }: PlanRequest,
  backends: Backends,
  { report }: OperationOptions,
): void {
  if (!policies.some(({ untaggedAfterDays }) => untaggedAfterDays !== undefined)) return;
  const hosts = new Set(places.flatMap((place) => (place.kind === 'images' ? [place.pattern.registry] : [])));
  for (const host of hosts) {
    if (backends.registry(host, 'target').images !== undefined) continue;
    const message = `${host} lists nothing but tags: images that no tag leads to are not found there, and stay`;
    report?.({ type: 'note', message });
  }
}

/** What the plans of all repositories share, and how much room the ones before left. */
interface Planning {
  readonly request: PlanRequest;
  readonly backups: Backups | undefined;
  readonly nowMs: number;
  /** The most items that the run deletes. */
  readonly maxDeletes: number;
  /** How many items the run may still delete. */
  readonly room: number;
}

/** Plans a repository; with backups again and again, until every image that would go was looked up. */
async function planOne(
  inventory: Inventory,
  { request, backups, nowMs, maxDeletes, room }: Planning,
): Promise<RepositoryPlan> {
  const { policies, allowEmpty, reviewed } = request;
  for (;;) {
    const unknown = new Set<Digest>();
    const plan = planRepository(
      inventory,
      policies,
      {
        nowMs,
        maxDeletes,
        allowEmpty,
        only: reviewed,
        ...(backups === undefined ? {} : { unbacked: ({ digest }) => backups.misses(digest, unknown) }),
      },
      room,
    );
    if (backups === undefined || unknown.size === 0) return plan;
    await backups.lookUp(unknown);
  }
}

/** The backups that were looked up so far. */
class Backups {
  readonly #index: BackupIndex;
  readonly #known = new Map<Digest, boolean>();

  constructor(index: BackupIndex) {
    this.#index = index;
  }

  /** Whether no backup is whole. An image that was not looked up yet is added to `unknown`. */
  misses(digest: Digest | undefined, unknown: Set<Digest>): boolean {
    if (digest === undefined) return true;
    const found = this.#known.get(digest);
    if (found === undefined) unknown.add(digest);
    return found === false;
  }

  async lookUp(digests: Iterable<Digest>): Promise<void> {
    for (const digest of digests) this.#known.set(digest, await this.#index.holds(digest));
  }
}

/** INVALID for a place that is not one of archives. */
function backupRoot(text: string): ArchiveRoot {
  const place = parsePrunePlace(text);
  if (place.kind === 'archives') return place.root;
  throw new Failure('INVALID', `${quote(text)} holds no archives: a backup is s3://bucket/prefix/ or a folder`);
}

export function choosesByTag({ keepTags, keepSemver, deleteTags }: RepositoryPolicy): boolean {
  return keepTags !== undefined || keepSemver !== undefined || deleteTags !== undefined;
}
