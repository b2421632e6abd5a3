import type { Source } from '../../content/content.ts';
import type { Backends } from '../../images/backends.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Repository } from '../../oci/reference.ts';
import type { Destination } from '../../rules/destinations.ts';
import type { Destinations, DestinationKey, SyncRecord } from '../../state/state.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import type { Report } from '../../util/events.ts';
import { atSide, describeFailure, ifFound, isFailure, onSide, type Failure } from '../../util/failure.ts';
import { forEachOf } from '../../util/limit.ts';
import { RecentGroups, type Group } from './groups.ts';
import { rememberedThere, type Presence } from './plan-jobs.ts';
import { REQUESTS_AT_ONCE } from './source-list.ts';

/** How `TagLooks` looks. */
export interface TagLookOptions {
  readonly destinations: Pick<Destinations, 'looked'>;
  readonly clock: Clock;
  readonly report?: Report | undefined;
  /** As `ScheduledPlanOptions.lookEveryHours`. */
  readonly lookEveryHours?: number | undefined;
}

const LOOK_EVERY_HOURS = 24;
const HOUR_MS = 3_600_000;
/** The part of its interval by which a look is due earlier, so that a rule that runs daily looks daily, however long its runs take. */
const EARLY = 0.1;

/** What `TagLooks.find` looks up. */
interface Looked extends Repository {
  /** Destinations of this repository. */
  readonly some: readonly Destination[];
  record(key: DestinationKey): SyncRecord | undefined;
}

/**
 * Looks at destinations in registries that list only names, which are all but ECR: by one list of tags for each repository, and one HEAD a day
 * for each tag, since a list does not show that a tag was moved. When a registry does not answer, nothing more is asked of it: its
 * destinations are `unknown`, and the next run asks again.
 */
export class TagLooks {
  readonly #backends: Backends;
  readonly #options: TagLookOptions;
  readonly #listed = new RecentGroups<true>();
  /** Groups whose registry does not let them be listed. */
  readonly #unlisted = new Set<string>();
  /** Registries and groups that are not asked again, each reported once. */
  readonly #away = new Set<string>();

  constructor(backends: Backends, options: TagLookOptions) {
    this.#backends = backends;
    this.#options = options;
  }

  /** What is at the destinations, by their names. Throws failures of the state alone. */
  async find(group: string, looked: Looked, options: Abortable): Promise<Group<Presence>> {
    const { registry, some } = looked;
    const found = new Map<string, Presence>(some.map(({ name }) => [name, 'unknown']));
    if (this.#away.has(registry) || this.#away.has(group)) return found;
    try {
      await this.#look(group, looked, found, options);
    } catch (error) {
      checkAborted(options);
      // the state failed, not the registry
      if (!isFailure(error) || error.context.side !== 'target') throw error;
      const isOfAll = error.retryable || error.code === 'UNAUTHENTICATED';
      this.#leave(isOfAll ? registry : group, isOfAll ? `docker://${registry}` : group, error);
    }
    return found;
  }

  /** Puts what is there into `found` as it is found out, so that a failure keeps what was found before it. */
  async #look(group: string, looked: Looked, found: Map<string, Presence>, options: Abortable): Promise<void> {
    const names = await this.#namesOf(group, looked, options);
    const due: Destination[] = [];
    for (const one of looked.some) {
      if (names !== undefined && !one.name.startsWith('@') && !names.has(one.name)) found.set(one.name, 'gone');
      else if (isLookDue(looked.record(one), this.#options)) due.push(one);
      else found.set(one.name, 'there');
    }
    await forEachOf(
      due,
      REQUESTS_AT_ONCE,
      async (one, taskOptions) => {
        const digest = await this.#ask(one.name, looked, taskOptions);
        const record = looked.record(one);
        // any other becomes a job, and is asked for again until that is done
        if (record !== undefined && digest === record.digest)
          await this.#options.destinations.looked(record, this.#options.clock.now(), taskOptions);
        found.set(one.name, digest ?? 'gone');
      },
      options,
    );
    if (names !== undefined) await this.#lookForSignatures(names, looked, found, options);
  }

  /** An image whose tags of cosign are not all there is `gone`. Each that is not listed is asked for: some registries may not list them. */
  async #lookForSignatures(
    names: Group<true>,
    looked: Looked,
    found: Map<string, Presence>,
    options: Abortable,
  ): Promise<void> {
    const unlisted = looked.some.flatMap((one) =>
      found.get(one.name) === 'gone'
        ? []
        : rememberedThere(looked.record(one) ?? {})
            .tags.filter((tag) => !names.has(tag))
            .map((tag) => ({ image: one.name, tag })),
    );
    await forEachOf(
      unlisted,
      REQUESTS_AT_ONCE,
      async ({ image, tag }, taskOptions) => {
        if ((await this.#ask(tag, looked, taskOptions)) === undefined) found.set(image, 'gone');
      },
      options,
    );
  }

  /** The tags of the repository; undefined where they cannot be listed. */
  async #namesOf(group: string, looked: Looked, options: Abortable): Promise<Group<true> | undefined> {
    if (this.#unlisted.has(group)) return undefined;
    const known = this.#listed.get(group);
    if (known !== undefined) return known;
    const names = await this.#list(looked, options);
    if (names !== undefined) return this.#listed.keep(group, names);
    this.#unlisted.add(group);
    return undefined;
  }

  async #list(looked: Looked, options: Abortable): Promise<Group<true> | undefined> {
    const names = new Map<string, true>();
    try {
      for await (const tag of this.#repository(looked).tags(options)) names.set(tag, true);
    } catch (error) {
      if (isFailure(error, 'DENIED', 'UNSUPPORTED')) return undefined;
      if (!isFailure(error, 'NOT_FOUND')) throw atSide('target', error);
      // the repository is gone, or the registry does not serve lists
      const [first] = looked.some;
      const isThere = first !== undefined && (await this.#ask(first.name, looked, options)) !== undefined;
      return isThere ? undefined : names;
    }
    return names;
  }

  async #ask(name: string, looked: Looked, options: Abortable): Promise<Digest | undefined> {
    const reference = name.startsWith('@') ? name.slice(1) : name;
    const resolved = ifFound(this.#repository(looked).resolve(reference, options));
    return (await onSide('target', resolved))?.digest;
  }

  #repository({ registry, repository }: Repository): Source {
    return this.#backends.registry(registry, 'target').repository(repository);
  }

  #leave(key: string, where: string, why: Failure): void {
    if (this.#away.has(key)) return;
    this.#away.add(key);
    const message = `${where}: its tags count as they were when they were last looked at: ${describeFailure(why)}`;
    this.#options.report?.({ type: 'warning', message });
  }
}

/** Whether the destination has to be asked for: nothing is known of it, or it was found as it was left too long ago. */
export function isLookDue(
  record: SyncRecord | undefined,
  { clock, lookEveryHours = LOOK_EVERY_HOURS }: Pick<TagLookOptions, 'clock' | 'lookEveryHours'>,
): boolean {
  if (record === undefined) return true;
  const lookedAtMs = Math.max(record.atMs, record.lookedAtMs ?? 0);
  return clock.now() - lookedAtMs >= lookEveryHours * HOUR_MS * (1 - EARLY);
}
