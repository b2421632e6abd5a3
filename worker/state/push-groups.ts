import { randomUUID } from 'node:crypto';
import { checkAborted, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { isRecord } from '../util/record.ts';
import { noRun, rulePk, runKey } from './run-items.ts';
import type { RunStore } from './run-store.ts';
import type { GatheredPush, PushGroup, Run } from './state.ts';
import { findNumber, findText, keyOf, type Item, type Table } from './table.ts';

/** A run with this many pushes takes no more. Each takes some 150 bytes of the run's item. */
const MAX_PUSHES = 500;
/** How long after its last push an item may be cleared away. */
const FORGOTTEN_AFTER_SECONDS = 24 * 3600;

/**
 * Pushes that are planned by one run. An item for each place of a rule names the run that gathers its events, and until when. The pushes
 * are in the item of the run, each added on the condition that the run is not closed. So `close` returns every push that was added before it,
 * and a push that comes later finds the run closed and begins another.
 */
export class PushGroups {
  readonly #table: Table;
  readonly #clock: Clock;
  readonly #runs: RunStore;

  constructor(table: Table, clock: Clock, runs: RunStore) {
    this.#table = table;
    this.#clock = clock;
    this.#runs = runs;
  }

  async gather(group: PushGroup, push: GatheredPush | undefined, options?: Abortable): Promise<Run> {
    const { rule, place, run: own, untilMs } = group;
    const key = keyOf(rulePk(rule), `PUSHES#${place}`);
    for (;;) {
      checkAborted(options);
      const found = await this.#table.get(key, options);
      const current = findText(found, 'run');
      const isOpen = current !== undefined && (findNumber(found, 'untilMs') ?? 0) > this.#clock.now();
      const isOwn = current === own || current?.startsWith(`${own}-`) === true;
      if (current !== undefined && (isOpen || isOwn)) {
        const run = await this.#runs.begin({ id: current, rule, trigger: 'push' }, options);
        if (await this.#add(current, push, options)) return run;
      }
      // its own run was closed without it when a process took too long between two writes
      const run = isOwn ? `${own}-${randomUUID().slice(0, 8)}` : own;
      const ttl = Math.ceil(untilMs / 1000) + FORGOTTEN_AFTER_SECONDS;
      await this.#table.update(key, { set: { run, untilMs, ttl } }, { run: current }, options);
    }
  }

  async close(run: string, options?: Abortable): Promise<readonly GatheredPush[]> {
    return pushesOf(await this.#runs.change(run, { set: { pushesClosed: true } }, options));
  }

  /** False when the run is closed or full. True, without a write, for a push that it has already, and for none while the run is not closed. */
  async #add(run: string, push: GatheredPush | undefined, options?: Abortable): Promise<boolean> {
    const key = runKey(run);
    for (;;) {
      checkAborted(options);
      const item = await this.#table.get(key, options);
      if (item === undefined) throw noRun(run);
      if (push === undefined) return item['pushesClosed'] !== true;
      const pushes = pushesOf(item);
      if (pushes.some(({ id }) => id === push.id)) return true;
      if (item['pushesClosed'] === true || pushes.length >= MAX_PUSHES) return false;
      const set = { pushes: JSON.stringify([...pushes, push]) };
      const expected = { pk: key.pk, pushes: findText(item, 'pushes'), pushesClosed: undefined };
      if ((await this.#table.update(key, { set }, expected, options)).done) return true;
    }
  }
}

function pushesOf(run: Item): readonly GatheredPush[] {
  const list: unknown = JSON.parse(findText(run, 'pushes') ?? '[]');
  return Array.isArray(list) ? list.filter(isPush) : [];
}

function isPush(value: unknown): value is GatheredPush {
  if (!isRecord(value)) return false;
  const { id, registry, repository, tag, digest } = value;
  const areTexts = [id, registry, repository, digest].every((text) => typeof text === 'string');
  return areTexts && (tag === undefined || typeof tag === 'string');
}
