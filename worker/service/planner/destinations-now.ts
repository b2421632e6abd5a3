import type { Presence } from './plan-jobs.ts';
import type { Destination } from '../../rules/destinations.ts';
import { parseLocation, type Location } from '../../oci/location.ts';
import type { DestinationKey, StateStore, SyncRecord } from '../../state/state.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { describeFailure, isFailure } from '../../util/failure.ts';
import { forEachOf } from '../../util/limit.ts';
import type { Report } from '../../util/events.ts';
import type { Backends } from '../../images/backends.ts';

/** So few of a group are asked for one by one, more by listing the group. */
const FEW = 16;
const REQUESTS_AT_ONCE = 8;
/** Records and names that are kept between repositories, which mostly have groups of their own. */
const MAX_KEPT = 50_000;

type Group<T> = ReadonlyMap<string, T>;

/** What is remembered of destinations, and what is there now. */
export class DestinationsNow {
  readonly #state: StateStore;
  readonly #backends: Backends;
  readonly #report: Report | undefined;
  readonly #records = new Kept<SyncRecord>();
  readonly #presences = new Kept<Presence>();
  /** Groups that cannot be listed: told once. */
  readonly #unlisted = new Set<string>();

  constructor(state: StateStore, backends: Backends, report: Report | undefined) {
    this.#state = state;
    this.#backends = backends;
    this.#report = report;
  }

  /** The records of `wanted`, and of others. */
  async records(
    wanted: readonly Destination[],
    options: Abortable,
  ): Promise<(key: DestinationKey) => SyncRecord | undefined> {
    const look = async (
      group: string,
      some: readonly Destination[],
      taskOptions: Abortable,
    ): Promise<Group<SyncRecord>> => {
      if (some.length <= FEW)
        return few(some, async (one, each) => this.#state.destinations.get(one, each), taskOptions);
      const records = new Map<string, SyncRecord>();
      for await (const record of this.#state.destinations.list(group, taskOptions)) records.set(record.name, record);
      return this.#records.keep(group, records);
    };
    const found = await eachGroup(
      wanted,
      async (group, some, taskOptions) => this.#records.get(group) ?? (await look(group, some, taskOptions)),
      options,
    );
    return ({ group, name }) => found.get(group)?.get(name);
  }

  /** What is there now of `wanted`. Where that cannot be told it counts as there: a worker that copies tells why. */
  async presences(wanted: readonly Destination[], options: Abortable): Promise<(key: DestinationKey) => Presence> {
    const unlisted = new Set<string>();
    const look = async (
      group: string,
      some: readonly Destination[],
      taskOptions: Abortable,
    ): Promise<Group<Presence>> => {
      try {
        return this.#presences.get(group) ?? (await this.#look(group, some, taskOptions));
      } catch (error) {
        checkAborted(taskOptions);
        if (!isFailure(error)) throw error;
        unlisted.add(group);
        this.#warn(group, describeFailure(error));
        return new Map();
      }
    };
    const found = await eachGroup(wanted, look, options);
    return ({ group, name }) => (unlisted.has(group) ? 'there' : (found.get(group)?.get(name) ?? 'gone'));
  }

  async #look(group: string, some: readonly Destination[], options: Abortable): Promise<Group<Presence>> {
    const [first] = some;
    const location = first === undefined ? undefined : parseLocation(first.location);
    if (location?.transport === 's3') {
      if (some.length <= FEW) return few(some, async (one, taskOptions) => this.#stat(one, taskOptions), options);
      return this.#presences.keep(group, await this.#listArchives(location, options));
    }
    if (location?.transport !== 'docker') return new Map();
    const { registry: host, repository } = location.reference;
    const { images } = this.#backends.registry(host, 'target');
    // a HEAD for each image at each tick would be as much as for the source once more
    if (images === undefined) return new Map(some.map(({ name }) => [name, 'there']));
    if (some.length <= FEW) return few(some, async (one, taskOptions) => this.#resolve(one, taskOptions), options);
    const there = new Map<string, Presence>();
    try {
      for await (const { digest, tags } of images(repository, options)) {
        there.set(`@${digest}`, digest);
        for (const tag of tags) there.set(tag, digest);
      }
    } catch (error) {
      // all of it is gone
      if (!isFailure(error, 'NOT_FOUND')) throw error;
    }
    return this.#presences.keep(group, there);
  }

  async #listArchives(
    { bucket, key }: Extract<Location, { transport: 's3' }>,
    options: Abortable,
  ): Promise<Group<Presence>> {
    const folder = key.slice(0, key.lastIndexOf('/') + 1);
    const there = new Map<string, Presence>();
    for await (const { key: found } of this.#backends.bucket(bucket).list(folder, options)) {
      const name = found.slice(folder.length);
      if (!name.includes('/')) there.set(name, 'there');
    }
    return there;
  }

  async #stat(one: Destination, options: Abortable): Promise<Presence | undefined> {
    const location = parseLocation(one.location);
    if (location.transport !== 's3') return undefined;
    return ifThere(async () => {
      await this.#backends.bucket(location.bucket).stat(location.key, options);
      return 'there';
    });
  }

  async #resolve(one: Destination, options: Abortable): Promise<Presence | undefined> {
    const location = parseLocation(one.location);
    if (location.transport !== 'docker') return undefined;
    const { registry, repository } = location.reference;
    const reference = one.name.startsWith('@') ? one.name.slice(1) : one.name;
    return ifThere(
      async () =>
        (await this.#backends.registry(registry, 'target').repository(repository).resolve(reference, options)).digest,
    );
  }

  #warn(group: string, why: string): void {
    if (this.#unlisted.has(group)) return;
    this.#unlisted.add(group);
    this.#report?.({ type: 'warning', message: `${group} counts as it was left: ${why}` });
  }
}

/** Groups by name, the latest only as far as they are not too large. */
class Kept<T> {
  readonly #groups = new Map<string, Group<T>>();
  #size = 0;

  get(group: string): Group<T> | undefined {
    return this.#groups.get(group);
  }

  keep(group: string, names: Group<T>): Group<T> {
    this.#groups.set(group, names);
    this.#size += names.size;
    for (const [oldest, { size }] of this.#groups) {
      if (this.#size <= MAX_KEPT || oldest === group) break;
      this.#groups.delete(oldest);
      this.#size -= size;
    }
    return names;
  }
}

async function eachGroup<T>(
  wanted: readonly Destination[],
  find: (group: string, some: readonly Destination[], options: Abortable) => Promise<Group<T>>,
  options: Abortable,
): Promise<Group<Group<T>>> {
  const found = new Map<string, Group<T>>();
  await forEachOf(
    Map.groupBy(wanted, (one) => one.group),
    REQUESTS_AT_ONCE,
    async ([group, some], taskOptions) => void found.set(group, await find(group, some, taskOptions)),
    options,
  );
  return found;
}

/** One by one. */
async function few<T>(
  some: readonly Destination[],
  find: (one: Destination, options: Abortable) => Promise<T | undefined>,
  options: Abortable,
): Promise<Group<T>> {
  const found = new Map<string, T>();
  await forEachOf(
    some,
    REQUESTS_AT_ONCE,
    async (one, taskOptions) => {
      const value = await find(one, taskOptions);
      if (value !== undefined) found.set(one.name, value);
    },
    options,
  );
  return found;
}

async function ifThere(look: () => Promise<Presence>): Promise<Presence | undefined> {
  try {
    return await look();
  } catch (error) {
    if (isFailure(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
}
