import { isReferrersTag } from '../oci/derived-tag.ts';
import { isDigest, type Digest } from '../oci/digest.ts';
import type { ObjectRoot } from '../oci/place.ts';
import { comparePlan } from '../retention/compare-plan.ts';
import type { Inventory, Item } from '../retention/inventory.ts';
import { newestKept, withBad } from '../retention/newest-kept.ts';
import { assemblePlan, goingItems } from '../retention/plan-prune.ts';
import { planRepository } from '../retention/plan-repository.ts';
import { DEFAULT_MAX_DELETES, type PrunePlan, type RepositoryPlan } from '../retention/plan.ts';
import { policyFaults, type RepositoryPolicy } from '../retention/policy.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { indexBackups, unreadableArchives, type BackupIndex } from './backup-index.ts';
import { inventories } from './inventories.ts';
import { archivesIn, parsePrunePlace, type PrunePlace } from './prune-places.ts';

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
 * gone already is not a conflict. INVALID for places and policies that cannot be read, before anything is asked for.
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
  const backups = root === undefined ? undefined : await indexBackups(root, backends, options);
  const names = policies.some(choosesByTag) ? 'all' : 'few';
  const nowMs = options.clock.now();
  noteUnlisted(places, request, backends, options);
  const maxDeletes = reviewed === undefined ? (request.maxDeletes ?? DEFAULT_MAX_DELETES) : Infinity;
  let room = maxDeletes;
  const repositories: RepositoryPlan[] = [];
  const badOf = async (inventory: Inventory, items: readonly Item[]): Promise<ReadonlyMap<string, string>> =>
    unreadableArchives(archivesIn(inventory.place, places), items, backends, options);
  for await (const inventory of inventories(places, backends, { ...options, names })) {
    const planned = await planOne(inventory, { request, backups, badOf, nowMs, maxDeletes, room });
    repositories.push(planned);
    room -= goingItems(planned);
  }
  const plan = assemblePlan(repositories, policies, { places: request.places, nowMs });
  if (reviewed !== undefined) comparePlan(reviewed, plan);
  return plan;
}

/** Registries but ECR list tags alone, so images without one are not found there: reported once for each registry. */
function noteUnlisted(
  places: readonly PrunePlace[],
  { policies }: PlanRequest,
  backends: Backends,
  { report }: OperationOptions,
): void {
  if (!policies.some(({ untaggedAfterDays }) => untaggedAfterDays !== undefined)) return;
  const hosts = new Set(places.flatMap((place) => (place.kind === 'registry' ? [place.pattern.registry] : [])));
  for (const host of hosts) {
    if (backends.registry(host, 'target').images !== undefined) continue;
    const message = `${host} lists nothing but tags: images that no tag leads to are not found there, and stay`;
    report?.({ type: 'note', message });
  }
}

/** What the plans of all repositories share, and how much room the ones before left. */
interface Planning {
  readonly request: PlanRequest;
  readonly backups: BackupIndex | undefined;
  /** Which of these archives cannot be read, and why. */
  readonly badOf: (inventory: Inventory, items: readonly Item[]) => Promise<ReadonlyMap<string, string>>;
  readonly nowMs: number;
  /** The most items that the run deletes. */
  readonly maxDeletes: number;
  /** How many items the run may still delete. */
  readonly room: number;
}

/**
 * Plans a repository again and again, until the backup of every image that would go was looked up, and of every image that loses archives the
 * newest that stays was opened.
 */
async function planOne(
  listed: Inventory,
  { request, backups, badOf, nowMs, maxDeletes, room }: Planning,
): Promise<RepositoryPlan> {
  const { policies, allowEmpty, reviewed } = request;
  const unbacked = new Map<string, boolean>();
  const options = { nowMs, maxDeletes, allowEmpty, only: reviewed };
  const opened = new Set<string>();
  let inventory = listed;
  for (;;) {
    const plan = planRepository(
      inventory,
      policies,
      backups === undefined ? options : { ...options, unbacked: ({ id }) => unbacked.get(id) === true },
      room,
    );
    const newest = newestKept(inventory, plan).filter(({ id }) => !opened.has(id));
    if (newest.length > 0) {
      for (const { id } of newest) opened.add(id);
      inventory = withBad(inventory, await badOf(inventory, newest));
      continue;
    }
    const unknown = inventory.kind === 'images' ? imagesGoing(plan).filter((id) => !unbacked.has(id)) : [];
    if (backups === undefined || unknown.length === 0) return plan;
    for (const id of unknown) unbacked.set(id, !(await backups.holds(id, partsToBackUp(plan, id))));
  }
}

/** The images that a plan deletes, without what goes with them. The rest that a stopped run left has lost its image. */
function imagesGoing({ items }: RepositoryPlan): readonly Digest[] {
  return items.flatMap(({ id, group }) => (group === id && isDigest(id) ? [id] : []));
}

/** What a backup of an image has to hold: all that goes with it, but for lists of referrers, which a registry makes by itself. */
export function partsToBackUp({ items }: RepositoryPlan, image: string): readonly Digest[] {
  return items.flatMap(({ id, group, tags }) =>
    group === image && isDigest(id) && !tags.some(isReferrersTag) ? [id] : [],
  );
}

/** INVALID for a place that is not one of archives. */
function backupRoot(text: string): ObjectRoot {
  const place = parsePrunePlace(text);
  if (place.kind === 'archives') return place.root;
  throw new Failure('INVALID', `${quote(text)} holds no archives: a backup is s3://bucket/prefix/ or a folder`);
}

export function choosesByTag({ keepTags, keepSemver, deleteTags }: RepositoryPolicy): boolean {
  return keepTags !== undefined || keepSemver !== undefined || deleteTags !== undefined;
}
