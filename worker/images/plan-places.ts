import type { Digest } from '../oci/digest.ts';
import type { Inventory } from '../retention/inventory.ts';
import type { PrunePlan } from '../retention/plan.ts';
import { comparePlan } from '../retention/compare-plan.ts';
import { planPrune } from '../retention/plan-prune.ts';
import type { RepositoryPolicy } from '../retention/policy.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { indexBackups } from './backup-index.ts';
import { inventories } from './inventories.ts';
import { parsePrunePlace, type PrunePlace } from './prune-places.ts';

export interface PlanRequest {
  /** As `parsePrunePlace` reads them. */
  readonly places: readonly string[];
  readonly policies: readonly RepositoryPolicy[];
  /** Default 1,000. */
  readonly maxDeletes?: number | undefined;
  /** Whether a repository may lose every image. Default false. */
  readonly allowEmpty?: boolean | undefined;
  /** Archives: an image goes only when one of them holds it and was found whole now. `s3://bucket/prefix/` or a folder. */
  readonly requireBackup?: string | undefined;
  /** A reviewed plan: the new one deletes that and nothing else. */
  readonly reviewed?: PrunePlan | undefined;
}

/**
 * Reads the places and plans what goes. Deletes nothing. With `reviewed` CONFLICT, where what that deletes is not there as it was any more. INVALID for places
 * and policies that cannot be read.
 */
export async function planPlaces(
  request: PlanRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<PrunePlan> {
  const places = request.places.map(parsePrunePlace);
  const backup = request.requireBackup === undefined ? undefined : archivesOf(request.requireBackup);
  const found: Inventory[] = [];
  const names = request.policies.some(choosesByTag) ? 'all' : 'few';
  for await (const inventory of inventories(places, backends, { ...options, names })) found.push(inventory);
  const make = (isUnbacked?: (digest: Digest | undefined) => boolean): PrunePlan =>
    planPrune(found, request.policies, {
      nowMs: options.clock.now(),
      places: request.places,
      maxDeletes: request.reviewed === undefined ? request.maxDeletes : Number.MAX_SAFE_INTEGER,
      allowEmpty: request.allowEmpty,
      only: request.reviewed,
      ...(isUnbacked === undefined ? {} : { unbacked: ({ digest }) => isUnbacked(digest) }),
    });
  const plan = backup === undefined ? make() : await planBacked(make, backup, backends, options);
  if (request.reviewed !== undefined) comparePlan(request.reviewed, plan);
  return plan;
}

/** Plans again and again, until every image that would go was looked up among the backups. */
async function planBacked(
  make: (isUnbacked: (digest: Digest | undefined) => boolean) => PrunePlan,
  root: Extract<PrunePlace, { kind: 'archives' }>['root'],
  backends: Backends,
  options: OperationOptions,
): Promise<PrunePlan> {
  const backups = await indexBackups(root, backends, options);
  const known = new Map<Digest, boolean>();
  for (;;) {
    const asked = new Set<Digest>();
    const plan = make((digest) => {
      if (digest === undefined) return true;
      const isBacked = known.get(digest);
      if (isBacked === undefined) asked.add(digest);
      return isBacked === false;
    });
    if (asked.size === 0) return plan;
    for (const digest of asked) known.set(digest, await backups.holds(digest));
  }
}

/** INVALID for a place that is not one of archives. */
function archivesOf(text: string): Extract<PrunePlace, { kind: 'archives' }>['root'] {
  const place = parsePrunePlace(text);
  if (place.kind === 'archives') return place.root;
  throw new Failure('INVALID', `${quote(text)} holds no archives: a backup is s3://bucket/prefix/ or a folder`);
}

function choosesByTag({ keepTags, keepSemver, deleteTags }: RepositoryPolicy): boolean {
  return keepTags !== undefined || keepSemver !== undefined || deleteTags !== undefined;
}
