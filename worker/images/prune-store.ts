import { parsePlace, type ObjectRoot } from '../oci/place.ts';
import { policyFaults, type Policy } from '../retention/policy.ts';
import { collect, planCollection, type CollectionPlan, type CollectionResult } from '../store/collect.ts';
import { atSide, Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { deletableAt, type DeletingBackends } from './deletions.ts';
import { storePlace } from './open-place.ts';

export type { CollectionPlan as StorePrunePlan, CollectionResult as StorePruneResult } from '../store/collect.ts';

/** The rules about time: those that choose among snapshots. */
const SNAPSHOT_RULES = [
  'keepLast',
  'keepDays',
  'keepDaily',
  'keepWeekly',
  'keepMonthly',
  'keepYearly',
] as const satisfies readonly (keyof Policy)[];

export interface StorePruneRequest {
  /** `store:s3://bucket/prefix/` or `store:folder`. */
  readonly place: string;
  /** Which snapshots stay. Without one of `SNAPSHOT_RULES` all of them do. Other rules are INVALID. */
  readonly policy: Policy;
  /** What no snapshot needs goes when it is older than so many days. Default 7. */
  readonly graceDays?: number | undefined;
  /** Also where there is no snapshot at all. Default false. */
  readonly allowEmpty?: boolean | undefined;
}

const DAY_MS = 24 * 60 * 60_000;

/** What `pruneStore` would do. Writes and deletes nothing. Failures carry `target`. */
export async function planStorePrune(
  request: StorePruneRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<CollectionPlan> {
  const root = storeRootOf(request.place);
  const wanted = collectionOf(request);
  try {
    return await planCollection(storePlace(root, backends), wanted, options);
  } catch (error) {
    throw atSide('target', error);
  }
}

/**
 * Deletes the snapshots of a store that the policy does not keep, then every blob that no snapshot needs and that is older than the grace period. May be
 * stopped anywhere and repeated. Locked objects stay, and are among `notDeleted`. UNAVAILABLE while a backup or another collection runs for longer
 * than ten minutes. Failures carry `target`.
 */
export async function pruneStore(
  request: StorePruneRequest,
  backends: DeletingBackends,
  options: OperationOptions,
): Promise<CollectionResult> {
  const root = storeRootOf(request.place);
  const wanted = collectionOf(request);
  const deletable = deletableAt(root, backends);
  try {
    return await collect(storePlace(root, backends), deletable, wanted, options);
  } catch (error) {
    throw atSide('target', error);
  }
}

function storeRootOf(text: string): ObjectRoot {
  const place = parsePlace(text);
  if (place.kind === 'store') return place.root;
  throw new Failure('INVALID', `${quote(text)} is not a store: expected store:s3://bucket/prefix/ or store:folder`);
}

function collectionOf({ policy, graceDays, allowEmpty }: StorePruneRequest): Parameters<typeof planCollection>[1] {
  const [fault] = policyFaults([{ ...policy, repositories: ['*'] }]);
  if (fault !== undefined) throw new Failure('INVALID', `policy ${fault.path.slice(1).join('.')}: ${fault.message}`);
  const rules = Object.entries(policy).filter(([, value]) => value !== undefined);
  const other = rules.find(([name]) => !SNAPSHOT_RULES.some((rule) => rule === name));
  if (other !== undefined)
    throw new Failure(
      'INVALID',
      `${other[0]} chooses images, and a store keeps every image of the snapshots that stay: choose snapshots by ${SNAPSHOT_RULES.join(', ')}`,
    );
  return {
    ...(rules.length === 0 ? {} : { policy }),
    ...(graceDays === undefined ? {} : { graceMs: graceDays * DAY_MS }),
    ...(allowEmpty === undefined ? {} : { allowEmpty }),
  };
}
