import { randomUUID } from 'node:crypto';
import type { Abortable } from '../util/abort.ts';
import { idOf, rulePk, TRIES } from './run-items.ts';
import type { RuleProgress } from './state.ts';
import { findNumber, findText, keyOf, numberOf, type Item, type Key, type Table } from './table.ts';

/** A rule that waits for a run: its item as it was found, if there was one. */
export interface FreeRule {
  readonly rule: string;
  readonly scheduledAtMs: number;
  readonly found: Item | undefined;
}

/** The progress of rules by their schedules: the current run of each, the scheduled time it serves, and the last good run. */
export class RuleProgressItems {
  readonly #table: Table;

  constructor(table: Table) {
    this.#table = table;
  }

  async get(rule: string, options?: Abortable): Promise<RuleProgress | undefined> {
    const item = await this.#table.get(progressKey(rule), options);
    if (item === undefined) return undefined;
    const run = findText(item, 'currentRun');
    return {
      rule,
      current: run === undefined ? undefined : { run, startedAtMs: numberOf(item, 'currentStartedAtMs') },
      lastScheduledAtMs: findNumber(item, 'dueAtMs'),
      lastGoodRunAtMs: findNumber(item, 'goodAtMs'),
      lastFailedRunAtMs: findNumber(item, 'failedAtMs'),
    };
  }

  /** Undefined when a run was begun for that time already, or a run other than `replacing` is current. */
  async findFree(
    rule: string,
    scheduledAtMs: number,
    replacing: string | undefined,
    options?: Abortable,
  ): Promise<FreeRule | undefined> {
    const found = await this.#table.get(progressKey(rule), options);
    const current = findText(found, 'currentRun');
    if ((findNumber(found, 'dueAtMs') ?? -Infinity) >= scheduledAtMs) return undefined;
    if (current !== undefined && current !== replacing) return undefined;
    return { rule, scheduledAtMs, found };
  }

  /** Makes the run the current one of its rule. False when the rule was changed since it was found. */
  async setCurrent({ rule, scheduledAtMs, found }: FreeRule, run: Item, options?: Abortable): Promise<boolean> {
    const mark = randomUUID();
    const startedAtMs = numberOf(run, 'startedAtMs');
    const set = { currentRun: idOf(run), currentStartedAtMs: startedAtMs, dueAtMs: scheduledAtMs, mark };
    const expected = { currentRun: findText(found, 'currentRun'), dueAtMs: findNumber(found, 'dueAtMs') };
    const begun = await this.#table.update(progressKey(rule), { set }, expected, options);
    // not done, but ours: the answer to an earlier try was lost
    return begun.done || findText(begun.item, 'mark') === mark;
  }

  /** Removes an ended run from the progress of its rule, and records whether it failed. Ignores runs of a part of the rule. Idempotent. */
  async detach(run: Item, options?: Abortable): Promise<void> {
    const rule = findText(run, 'rule');
    const isWhole = run['whole'] === true;
    if (!(findText(run, 'trigger') === 'schedule' || isWhole)) return;
    if (rule === undefined || run['endedAtMs'] === undefined) return;
    const startedAtMs = numberOf(run, 'startedAtMs');
    const ended = run['dead'] !== true && run['failed'] === 0 ? 'goodAtMs' : 'failedAtMs';
    for (let tries = 0; tries < TRIES; tries++) {
      const found = await this.#table.get(progressKey(rule), options);
      // a scheduled run without an item was begun by a planner that crashed before `setCurrent`
      if (found === undefined && !isWhole) return;
      const before = { currentRun: findText(found, 'currentRun'), [ended]: findNumber(found, ended) };
      const isCurrent = before.currentRun === idOf(run);
      const isLater = startedAtMs > (findNumber(found, ended) ?? -Infinity);
      if (!isCurrent && !isLater) return;
      const set = {
        ...(isCurrent ? { currentRun: undefined, currentStartedAtMs: undefined } : {}),
        ...(isLater ? { [ended]: startedAtMs } : {}),
      };
      if ((await this.#table.update(progressKey(rule), { set }, before, options)).done) return;
    }
  }
}

function progressKey(rule: string): Key {
  return keyOf(rulePk(rule), 'PROGRESS');
}
