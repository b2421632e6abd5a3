import { isForeign, stillWrites, writtenTwice, type Writer } from '../rules/owner.ts';
import { isExpired, type Rule } from '../rules/rule.ts';
import type { Rules, SyncRecord } from '../state/state.ts';
import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import type { Failure } from '../util/failure.ts';
import { readableRules } from './readable-rules.ts';

/** A destination, and what the state remembers of it. */
export interface RememberedDestination {
  readonly location: string;
  readonly record: SyncRecord | undefined;
}

/**
 * Decides which rule may write a destination: the one that wrote it last, for as long as that rule is stored, has not expired, and still makes the
 * destination from the image that it made it from. A request by hand may write anywhere and owns nothing. A stored rule that this version
 * cannot read owns nothing either.
 */
export class DestinationOwners {
  readonly #state: Pick<Rules, 'list'>;
  readonly #clock: Clock;
  /** Read once, and only where a destination belongs to another. */
  #rules: ReadonlyMap<string, Rule> | undefined;

  constructor(state: Pick<Rules, 'list'>, clock: Clock) {
    this.#state = state;
    this.#clock = clock;
  }

  /**
   * Why `writer` may not write `destination`: CONFLICT with the names of both rules. Undefined where it may.
   *
   * @param options `dateMs`: the moment that `{date}` stands for in templates, in milliseconds since 1970
   */
  async refusal(
    { location, record }: RememberedDestination,
    writer: Omit<Writer, 'rule'> & { readonly rule?: string | undefined },
    options: Abortable & { readonly dateMs: number },
  ): Promise<Failure | undefined> {
    const { rule, from } = writer;
    if (rule === undefined || record?.rule === undefined || !isForeign(record, { ...writer, rule })) return undefined;
    this.#rules ??= await this.#read(options);
    const owner = this.#rules.get(record.rule);
    if (owner === undefined || !stillWrites(owner, record, options.dateMs)) return undefined;
    return writtenTwice(location, { rule, from }, { rule: record.rule, from: record.source });
  }

  async #read(options: Abortable): Promise<ReadonlyMap<string, Rule>> {
    const rules = await readableRules(this.#state, options);
    const living = rules.filter((rule) => !isExpired(rule, this.#clock.now()));
    return new Map(living.map((rule) => [rule.name, rule]));
  }
}
