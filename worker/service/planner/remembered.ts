import type { Destination } from '../../rules/destinations.ts';
import type { Destinations, DestinationKey, SyncRecord } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';
import { eachGroup, FEW, oneByOne, RecentGroups, type Group } from './groups.ts';

/** The records of destinations, as the state remembers them. */
export class Remembered {
  readonly #destinations: Pick<Destinations, 'get' | 'list'>;
  readonly #recent = new RecentGroups<SyncRecord>();

  constructor(destinations: Pick<Destinations, 'get' | 'list'>) {
    this.#destinations = destinations;
  }

  /** The records of `wanted`, by key. */
  async find(
    wanted: readonly Destination[],
    options: Abortable,
  ): Promise<(key: DestinationKey) => SyncRecord | undefined> {
    const found = await eachGroup(
      wanted,
      async (group, some, taskOptions) => this.#recent.get(group) ?? (await this.#look(group, some, taskOptions)),
      options,
    );
    return ({ group, name }) => found.get(group)?.get(name);
  }

  async #look(group: string, some: readonly Destination[], options: Abortable): Promise<Group<SyncRecord>> {
    if (some.length <= FEW)
      return oneByOne(some, async (one, taskOptions) => this.#destinations.get(one, taskOptions), options);
    const records = new Map<string, SyncRecord>();
    for await (const record of this.#destinations.list(group, options)) records.set(record.name, record);
    return this.#recent.keep(group, records);
  }
}
