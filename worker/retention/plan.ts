import type { Digest } from '../oci/digest.ts';
import type { Item, Inventory } from './inventory.ts';

/** The most items that one run deletes where no other limit is given. */
export const DEFAULT_MAX_DELETES = 1000;

/** Why nothing is deleted of a repository that would lose every image. `allowEmpty` permits it. */
export const KEEPS_NOTHING = 'the policy would keep nothing';

/** What is deleted and what stays, each with its reason. Carrying it out deletes only what it names. */
export interface PrunePlan {
  readonly format: 1;
  /** The places that the plan prunes, as the caller named them. */
  readonly places: readonly string[];
  readonly createdMs: number;
  /** The policies that it was made with. */
  readonly policies: Digest;
  /** In the order in which they were planned: what `maxDeletes` leaves for the next run are the last. */
  readonly repositories: readonly RepositoryPlan[];
  readonly totals: Totals;
}

export interface RepositoryPlan {
  readonly place: string;
  readonly kind: Inventory['kind'];
  /** The inventory that it was made from, whatever the order of that. */
  readonly inventory: Digest;
  /** Why nothing is deleted here: the list is not complete, or `KEEPS_NOTHING`. */
  readonly refused?: string | undefined;
  /**
   * Every item of the inventory. First those that go, in an order in which they can be deleted: oldest image first, an index before its
   * children, an image before what refers to it. Then those that lose tags, then those that stay, newest first.
   */
  readonly items: readonly PlannedItem[];
}

export interface PlannedItem {
  readonly id: string;
  readonly tags: readonly string[];
  readonly action: 'keep' | 'delete' | 'untag';
  /** What decided: `keepTags prod-*`, `older than 30 days`, `child of v3`. */
  readonly reason: string;
  readonly bytes?: number | undefined;
  readonly etag?: string | undefined;
  /** With `untag`: the tags that go. At least one of the item's stays. */
  readonly untag?: readonly string[] | undefined;
  /** A later run deletes it, or takes tags from it. */
  readonly left?: true | undefined;
  /** With `delete`: the id of the image that it goes with, its own where it is the image. A group goes in one run or not at all. */
  readonly group?: string | undefined;
}

export interface Totals {
  readonly keep: number;
  readonly delete: number;
  readonly untag: number;
  /** Items that go, or lose tags, in a later run, because this one has its `maxDeletes`. Counted under `keep` too. */
  readonly left: number;
  /** Bytes of what goes, as far as they are known. Layers that other images share are counted here and stay in the registry. */
  readonly bytes: number;
  readonly refused: number;
}

export interface PlanOptions {
  readonly nowMs: number;
  /** The places that the plan prunes, as the caller named them. */
  readonly places: readonly string[];
  /** The most items that go or lose tags. Default: 1,000. Groups are never split. */
  readonly maxDeletes?: number | undefined;
  /** Whether a repository may lose every image. */
  readonly allowEmpty?: boolean | undefined;
  /**
   * Whether an image has no verified backup: it and what goes with it stays. It is called for images, not for what goes with them. A caller for
   * which the answer is expensive plans with what it knows, looks up the images that would go, and plans again until every answer is known.
   */
  readonly unbacked?: ((item: Item, inventory: Inventory) => boolean) | undefined;
  /** A reviewed plan: nothing goes, and no tag, but what it names; also what a run that was stopped left of its groups. For `comparePlan`. */
  readonly only?: PrunePlan | undefined;
}
