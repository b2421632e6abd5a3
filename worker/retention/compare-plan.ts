import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import type { PlannedItem, PrunePlan, RepositoryPlan } from './plan.ts';

/**
 * Compares a reviewed plan with what is there now. `fresh` is planned with the same policies, `only: plan` and unlimited `maxDeletes`, so what
 * it deletes is what the reviewed plan deletes, and is safe to delete. CONFLICT naming the first thing that moved: an item that stays now, or
 * has other tags or bytes. INVALID for a plan of other places or policies. What is gone already is not a conflict: a run that was stopped goes on.
 */
export function comparePlan(plan: PrunePlan, fresh: PrunePlan): void {
  if (plan.policies !== fresh.policies)
    throw new Failure('INVALID', 'delete by plan: it was made with other policies: make a new plan');
  for (const repository of plan.repositories) {
    const going = repository.items.filter(({ action }) => action !== 'keep');
    if (going.length === 0) continue;
    const now = fresh.repositories.find(({ place }) => place === repository.place);
    if (now === undefined)
      throw new Failure(
        'INVALID',
        `delete by plan: it is about ${quote(repository.place)}, which is not one of the places given: ${fresh.places.map(quote).join(', ')}`,
      );
    compareRepository(now, going);
  }
}

function compareRepository(now: RepositoryPlan, going: readonly PlannedItem[]): void {
  const { place, refused } = now;
  if (refused !== undefined) throw moved(place, `nothing may be deleted there now: ${refused}`);
  const items = new Map(now.items.map((item) => [item.id, item]));
  for (const planned of going) {
    const item = items.get(planned.id);
    if (item === undefined || isDone(planned, item)) continue;
    const name = planned.tags[0] === undefined ? planned.id : `${planned.tags[0]} (${planned.id})`;
    if (item.etag !== planned.etag) throw moved(place, `${name} was written again`);
    if (item.tags.join(' ') !== planned.tags.join(' '))
      throw moved(place, `${name} has ${tagsOf(item.tags)} now, and had ${tagsOf(planned.tags)}`);
    if (item.action !== planned.action) throw moved(place, `${name} stays now: ${item.reason}`);
    if (item.untag?.join(' ') !== planned.untag?.join(' '))
      throw moved(place, `${name} would lose ${tagsOf(item.untag)} now, and ${tagsOf(planned.untag)} then`);
  }
}

function tagsOf(tags: readonly string[] = []): string {
  return tags.length === 0 ? 'no tag' : `the tags ${tags.join(', ')}`;
}

/** Whether the tags that were to go are gone. */
function isDone(planned: PlannedItem, now: PlannedItem): boolean {
  return planned.action === 'untag' && planned.untag?.every((tag) => !now.tags.includes(tag)) === true;
}

function moved(place: string, what: string): Failure {
  return new Failure(
    'CONFLICT',
    `delete by plan: ${place} has moved since the plan was made: ${what}: make a new plan`,
  );
}
