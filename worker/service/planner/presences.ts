import type { Backends, Registry } from '../../images/backends.ts';
import { parseLocation, type Location } from '../../oci/location.ts';
import type { Destination } from '../../rules/destinations.ts';
import type { DestinationKey, SyncRecord } from '../../state/state.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import type { Report } from '../../util/events.ts';
import { describeFailure, ifFound, isFailure } from '../../util/failure.ts';
import { eachGroup, FEW, oneByOne, RecentGroups, type Group } from './groups.ts';
import { rememberedThere, shortened, type Presence } from './plan-jobs.ts';
import { TagLooks, type TagLookOptions } from './tag-looks.ts';

type ArchiveLocation = Extract<Location, { transport: 's3' }>;

/** What is at destinations now, as their registries and buckets answer. */
export class Presences {
  readonly #backends: Backends;
  readonly #report: Report | undefined;
  readonly #looks: TagLooks;
  readonly #recent = new RecentGroups<Presence>();
  /** Groups that cannot be listed: each is reported once. */
  readonly #unlisted = new Set<string>();

  constructor(backends: Backends, options: TagLookOptions) {
    this.#backends = backends;
    this.#report = options.report;
    this.#looks = new TagLooks(backends, options);
  }

  /**
   * What is there now of `wanted`, by key. A destination whose group cannot be read is `unknown`. Each such group is reported once.
   *
   * @param record what the state remembers of a destination
   */
  async find(
    wanted: readonly Destination[],
    record: (key: DestinationKey) => SyncRecord | undefined,
    options: Abortable,
  ): Promise<(key: DestinationKey) => Presence> {
    const unlisted = new Set<string>();
    const look = async (
      group: string,
      some: readonly Destination[],
      taskOptions: Abortable,
    ): Promise<Group<Presence>> => {
      try {
        return await this.#look(group, some, record, taskOptions);
      } catch (error) {
        checkAborted(taskOptions);
        if (!isFailure(error)) throw error;
        unlisted.add(group);
        this.#warn(group, describeFailure(error));
        return new Map();
      }
    };
    const found = await eachGroup(wanted, look, options);
    return ({ group, name }) => (unlisted.has(group) ? 'unknown' : (found.get(group)?.get(name) ?? 'gone'));
  }

  async #look(
    group: string,
    some: readonly Destination[],
    record: (key: DestinationKey) => SyncRecord | undefined,
    options: Abortable,
  ): Promise<Group<Presence>> {
    const [first] = some;
    const location = first === undefined ? undefined : parseLocation(first.location);
    if (location?.transport === 's3') {
      const known = this.#recent.get(group);
      if (known !== undefined) return known;
      if (some.length <= FEW) return oneByOne(some, async (one, taskOptions) => this.#stat(one, taskOptions), options);
      return this.#recent.keep(group, await this.#listArchives(location, options));
    }
    if (location?.transport !== 'docker') return new Map();
    const { registry: host, repository } = location.reference;
    const { images } = this.#backends.registry(host, 'target');
    if (images === undefined) return this.#looks.find(group, { registry: host, repository, some, record }, options);
    const resolveEach = async (): Promise<Group<Presence>> =>
      oneByOne(some, async (one, taskOptions) => this.#resolve(one, taskOptions), options);
    const isFew = some.length <= FEW && this.#recent.get(group) === undefined;
    if (isFew && !some.some((one) => (record(one)?.manifests?.length ?? 0) > 1)) return resolveEach();
    try {
      // without its repository all of the group is gone
      const there =
        this.#recent.get(group) ??
        this.#recent.keep(group, (await ifFound(namesOf(images(repository, options)))) ?? new Map<string, Presence>());
      return wholeOf(some, there, record);
    } catch (error) {
      if (isFew && isFailure(error, 'DENIED')) return resolveEach();
      throw error;
    }
  }

  async #listArchives({ bucket, key }: ArchiveLocation, options: Abortable): Promise<Group<Presence>> {
    const folder = key.slice(0, key.lastIndexOf('/') + 1);
    const there = new Map<string, Presence>();
    for await (const { key: found, size, etag } of this.#backends.bucket(bucket).list(folder, options)) {
      const name = found.slice(folder.length);
      if (!name.includes('/')) there.set(name, { size, etag });
    }
    return there;
  }

  async #stat(one: Destination, options: Abortable): Promise<Presence | undefined> {
    const location = parseLocation(one.location);
    if (location.transport !== 's3') return undefined;
    const found = await ifFound(this.#backends.bucket(location.bucket).stat(location.key, options));
    return found === undefined ? undefined : { size: found.size, etag: found.etag };
  }

  async #resolve(one: Destination, options: Abortable): Promise<Presence | undefined> {
    const location = parseLocation(one.location);
    if (location.transport !== 'docker') return undefined;
    const { registry, repository } = location.reference;
    const reference = one.name.startsWith('@') ? one.name.slice(1) : one.name;
    const source = this.#backends.registry(registry, 'target').repository(repository);
    return (await ifFound(source.resolve(reference, { ...options, saysWhy: false })))?.digest;
  }

  #warn(group: string, why: string): void {
    if (this.#unlisted.has(group)) return;
    this.#unlisted.add(group);
    this.#report?.({ type: 'warning', message: `${group} counts as it was left: ${why}` });
  }
}

/** The digests of a repository by tag, by `@digest`, and by `@` and the digest as `shortened` makes it. */
async function namesOf(images: ReturnType<NonNullable<Registry['images']>>): Promise<Group<Presence>> {
  const names = new Map<string, Presence>();
  for await (const { digest, tags } of images) {
    names.set(`@${digest}`, digest);
    names.set(`@${shortened(digest)}`, digest);
    for (const tag of tags) names.set(tag, digest);
  }
  return names;
}

/** What a list shows of `some`. An image is gone when any manifest or tag that was copied with it is. */
function wholeOf(
  some: readonly Destination[],
  there: Group<Presence>,
  record: (key: DestinationKey) => SyncRecord | undefined,
): Group<Presence> {
  const isWhole = (known: SyncRecord | undefined): boolean => {
    const { manifests, tags } = rememberedThere(known ?? {});
    return manifests.every((manifest) => there.has(`@${manifest}`)) && tags.every((tag) => there.has(tag));
  };
  return new Map(
    some.map((one) => [one.name, isWhole(record(one)) ? (there.get(one.name) ?? 'gone') : 'gone'] as const),
  );
}
