import type { DeletingBackends } from '../../images/deletions.ts';
import type { CopyRule, PruneRule } from '../../rules/rule.ts';
import type { Run, StateStore } from '../../state/state.ts';
import type { Clock } from '../../util/clock.ts';
import type { Report } from '../../util/events.ts';
import type { Failure } from '../../util/failure.ts';
import type { Budget } from './budget.ts';
import type { OpenJobs } from './open-jobs.ts';

/** What pruning the places of a rule shares. */
export interface PruneContext {
  readonly rule: PruneRule;
  readonly run: Pick<Run, 'id'>;
  readonly budget: Budget;
  readonly state: StateStore;
  readonly backends: DeletingBackends;
  readonly jobs: Pick<OpenJobs, 'at'>;
  /** Rules that back up: where archives of an image are. */
  readonly backups: readonly CopyRule[];
  /** Tags that stay, by place, with the reason of each. */
  readonly keptTags: ReadonlyMap<string, ReadonlyMap<string, string>>;
  readonly clock: Clock;
  readonly report: Report;
}

/** What became of a place. */
export type PlaceEnd =
  | { readonly state: 'done' | 'skipped' }
  /** To be looked at again later. */
  | { readonly state: 'postponed'; readonly why: string }
  /** Some items, or all of the place, could not be deleted. */
  | { readonly state: 'failed'; readonly failure: Failure };
