import { cosignSubject } from '../oci/derived-tag.ts';
import { shortDigest, type Digest } from '../oci/digest.ts';
import type { Inventory, Item } from '../retention/inventory.ts';
import type { PlannedItem, RepositoryPlan } from '../retention/plan.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { withGrace } from '../util/grace.ts';
import { GRACE_MS } from '../util/stop.ts';
import { Failure } from '../util/failure.ts';
import { append } from '../util/lists.ts';
import type { ImageDeletions, TagOf } from './deletions.ts';

/** Gets what became of each item, as soon as it is known. */
export interface Outcomes {
  deleted(item: PlannedItem): void;
  untagged(item: PlannedItem, tags: readonly string[]): void;
  /** Another process had deleted it. */
  gone(item: PlannedItem): void;
  failed(id: string, failure: Failure): void;
}

/** How many images are handed over at once: their outcome is known before the next batch. */
const BATCH = 100;
/** A registry may still see the index for a moment that was deleted before its children. */
const AGAIN_MS = 1000;

/**
 * Deletes the images that `plan` names and that are in `now` as they were planned; the others stay, each with its failure. An image goes after the
 * indexes that list it and after what it refers to, and stays where one of those does. Tags first.
 *
 * A caller that stops waits for the groups that have begun: once the image is gone, nothing shows that its children or signatures may go too.
 */
export async function pruneImages(
  plan: RepositoryPlan,
  now: Inventory,
  deletions: ImageDeletions,
  outcomes: Outcomes,
  options: Abortable & { readonly clock: Clock },
): Promise<void> {
  await removeTags(plan, now, deletions, outcomes, options);
  const run = new Run(plan, now, outcomes);
  for (const part of [...run.parts(), undefined]) {
    checkAborted(options);
    await withGrace(
      GRACE_MS,
      async (patient) => {
        for (let wanted = run.next(part); wanted.length > 0; wanted = run.next(part)) {
          for (let at = 0; at < wanted.length; at += BATCH) {
            const batch = wanted.slice(at, at + BATCH);
            const isRefused = run.settle(batch, await deletions.deleteImages(batch, patient));
            if (isRefused) await options.clock.sleep(AGAIN_MS, patient);
          }
        }
      },
      options,
    );
  }
}

async function removeTags(
  plan: RepositoryPlan,
  now: Inventory,
  deletions: ImageDeletions,
  outcomes: Outcomes,
  options: Abortable,
): Promise<void> {
  const present = new Map(now.items.map((item) => [item.id, item]));
  const wanted: { readonly item: PlannedItem; readonly tags: readonly TagOf[] }[] = [];
  for (const item of plan.items) {
    if (item.action !== 'untag') continue;
    const { digest, tags: there = [] } = present.get(item.id) ?? {};
    const going = (item.untag ?? []).filter((tag) => there.includes(tag));
    if (digest === undefined || going.length === 0) outcomes.gone(item);
    else if (there.length === going.length)
      // with its last tag an image is deleted, or can no longer be found
      outcomes.failed(item.id, stays(plan, item.id, 'the tag that was to stay is gone'));
    else {
      const others = there.filter((tag) => !going.includes(tag));
      wanted.push({ item, tags: going.map((tag) => ({ tag, digest, others })) });
    }
  }
  for (let at = 0; at < wanted.length; at += BATCH) {
    checkAborted(options);
    const batch = wanted.slice(at, at + BATCH);
    const failed = new Map<string, Failure>();
    const notRemoved = await deletions.removeTags(
      batch.flatMap(({ tags }) => tags),
      options,
    );
    for (const { id, failure } of notRemoved) failed.set(id, failure);
    for (const { item, tags } of batch) {
      const removed = tags.filter(({ tag }) => !failed.has(tag)).map(({ tag }) => tag);
      if (removed.length > 0) outcomes.untagged(item, removed);
      for (const { tag } of tags) {
        const failure = failed.get(tag);
        if (failure !== undefined) outcomes.failed(`${item.id} ${tag}`, failure);
      }
    }
  }
}

/** What is left to delete of one repository. */
class Run {
  readonly #plan: RepositoryPlan;
  readonly #outcomes: Outcomes;
  /** What the plan deletes and the repository has, by digest, in the order of the plan. */
  readonly #left = new Map<Digest, { readonly item: PlannedItem; readonly before: readonly Digest[] }>();
  /** What stays although the plan wanted it gone: what it lists and what refers to it stays too. */
  readonly #stays = new Set<Digest>();
  /** What the registry refused once although nothing that is left lists it. */
  readonly #refused = new Set<Digest>();

  constructor(plan: RepositoryPlan, now: Inventory, outcomes: Outcomes) {
    this.#plan = plan;
    this.#outcomes = outcomes;
    const present = new Map(now.items.map((item) => [item.id, item]));
    const doomed = new Set(
      plan.items.flatMap(({ id, action }) => (action === 'delete' && present.has(id) ? [id] : [])),
    );
    const parents = parentsIn(now);
    for (const item of plan.items) {
      if (item.action !== 'delete') continue;
      const there = present.get(item.id);
      if (there?.digest === undefined) {
        outcomes.gone(item);
        continue;
      }
      const before = [...(parents.get(there.digest) ?? []), ...subjectsOf(there)].filter((digest) =>
        present.has(digest),
      );
      const why = whyKept(item, there, before, doomed);
      if (why === undefined) this.#left.set(there.digest, { item, before });
      else this.#keep(there.digest, item.id, why);
    }
  }

  /** Groups of what is left, together so many that they are worth a request. */
  *parts(): Iterable<ReadonlySet<Digest>> {
    const groups = Map.groupBy(this.#left, ([digest, { item }]) => item.group ?? digest);
    let part = new Set<Digest>();
    for (const group of groups.values()) {
      if (part.size > 0 && part.size + group.length > BATCH) {
        yield part;
        part = new Set();
      }
      for (const [digest] of group) part.add(digest);
    }
    yield part;
  }

  /** What can be deleted now of `part` (default: of everything): nothing that is left lists it, and it refers to nothing that is left. */
  next(part?: ReadonlySet<Digest>): readonly Digest[] {
    for (let kept = true; kept;) {
      kept = false;
      for (const [digest, { item, before }] of this.#left) {
        const held = before.find((one) => this.#stays.has(one));
        if (held === undefined) continue;
        this.#left.delete(digest);
        this.#keep(digest, item.id, `it belongs to ${shortDigest(held)}, which was not deleted`);
        kept = true;
      }
    }
    const isFree = (digest: Digest): boolean =>
      this.#left.get(digest)?.before.some((one) => one !== digest && this.#left.has(one)) === false;
    const free = [...(part ?? this.#left.keys())].filter(isFree);
    // tags of cosign can name each other in a circle: then in the order of the plan
    const [any] = part === undefined ? this.#left.keys() : [];
    return free.length === 0 && any !== undefined ? [any] : free;
  }

  /** Notes the outcome of a batch. Returns whether some of it has to be tried once more. */
  settle(batch: readonly Digest[], notDeleted: readonly { readonly id: string; readonly failure: Failure }[]): boolean {
    const failed = new Map(notDeleted.map(({ id, failure }) => [id, failure]));
    let isRefused = false;
    for (const digest of batch) {
      const { item, before = [] } = this.#left.get(digest) ?? {};
      const failure = failed.get(digest);
      if (failure?.code === 'CONFLICT' && before.length > 0 && !this.#refused.has(digest)) {
        this.#refused.add(digest);
        isRefused = true;
        continue;
      }
      this.#left.delete(digest);
      if (failure !== undefined) {
        this.#stays.add(digest);
        this.#outcomes.failed(digest, failure);
      } else if (item !== undefined) this.#outcomes.deleted(item);
    }
    return isRefused;
  }

  #keep(digest: Digest, id: string, why: string): void {
    this.#stays.add(digest);
    this.#outcomes.failed(id, stays(this.#plan, id, why));
  }
}

/** Why something stays that the plan wanted gone: what came since, of which the plan knew nothing. */
function whyKept(
  item: PlannedItem,
  there: Item,
  before: readonly Digest[],
  doomed: ReadonlySet<string>,
): string | undefined {
  const added = there.tags.filter((tag) => !item.tags.includes(tag));
  if (added.length > 0) return `it has the tag ${added.join(', ')} since the plan was made`;
  if (there.held !== undefined) return there.held;
  const live = before.find((digest) => !doomed.has(digest));
  return live === undefined ? undefined : `it belongs to ${shortDigest(live)}, which stays`;
}

function parentsIn(now: Inventory): ReadonlyMap<Digest, readonly Digest[]> {
  const parents = new Map<Digest, Digest[]>();
  for (const { digest, children } of now.items) {
    if (digest === undefined) continue;
    for (const child of children) {
      const known = parents.get(child);
      if (known === undefined) parents.set(child, [digest]);
      else append(known, [digest]);
    }
  }
  return parents;
}

/** What an item refers to, by its manifest and by tags of cosign. */
function subjectsOf({ subject, tags }: Item): readonly Digest[] {
  const named = tags.flatMap((tag) => cosignSubject(tag) ?? []);
  return subject === undefined ? named : [subject, ...named];
}

function stays({ place }: RepositoryPlan, id: string, why: string): Failure {
  return new Failure('CONFLICT', `delete ${place}@${id}: ${why}; it stays`);
}
