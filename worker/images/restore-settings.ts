import { collect } from '../content/bytes.ts';
import type { ObjectStore } from '../objects/objects.ts';
import { digestOf } from '../oci/digest.ts';
import type { Reference, Repository } from '../oci/reference.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure, Failure, isFailure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { quote } from '../util/text.ts';
import type { Backends, OperationOptions } from './backends.ts';
import type { Faults } from './faults.ts';
import { formatNamed, isOfAnother, MAX_SETTINGS_BYTES, namedIn, parsedJson } from './store-settings.ts';
import { withoutChosen, withoutForeignGrants, writeSettingsTo, type SettingsDocument } from './write-settings.ts';

/**
 * The repositories to which a restore applies settings: `create`, those that it creates; `replace`, existing ones too; `none`. Nothing vouches
 * for settings: any process that may write to the bucket may have written them.
 */
export type SettingsMode = 'create' | 'replace' | 'none';

export interface SettingsChoices {
  /** Default: `create`. */
  readonly settings?: SettingsMode | undefined;
  /** Also restores policies that grant access to `*` or to other accounts than the target's. Default false. */
  readonly allowForeignGrants?: boolean | undefined;
  /** Settings of repositories that are created, as `repository.json` has them. Each wins over that beside the archives. Default: none. */
  readonly createSettings?: SettingsDocument | undefined;
  readonly dryRun?: boolean | undefined;
}

/** Settings that lie beside archives, and the repository that gets them. */
export interface StoredSettings {
  readonly store: ObjectStore;
  readonly key: string;
  readonly to: Reference;
  /** The repository that the archives say their images were in. */
  readonly calledItself: Repository;
  /** The digests of settings that the archives beside it name, one for each archive that names one. */
  readonly named: readonly string[];
  /** In how many places the repository has settings. */
  readonly places: number;
}

/** A repository whose archives name settings that are not stored beside them. */
export type MissingSettings = Pick<StoredSettings, 'to' | 'named'>;

/** Applies the settings beside archives to the repositories of one restore. */
export class SettingsRestore {
  readonly #choices: SettingsChoices;
  readonly #backends: Backends;
  readonly #faults: Faults;
  readonly #options: OperationOptions;
  #leftAlone = 0;

  constructor(choices: SettingsChoices, backends: Backends, faults: Faults, options: OperationOptions) {
    this.#choices = choices;
    this.#backends = backends;
    this.#faults = faults;
    this.#options = options;
  }

  /**
   * Applies the settings where the mode allows it, after a note of each change. Before that, a warning where archives name other settings. A
   * failure is a fault: the images are restored all the same.
   */
  async apply(stored: StoredSettings): Promise<void> {
    const { registry, repository } = stored.to;
    if (this.#choices.settings === 'none') return;
    try {
      const target = this.#backends.registry(registry, 'target');
      const { dryRun } = this.#choices;
      const exists = await target.hasRepository(repository, this.#options);
      if (exists === undefined) return;
      if (exists && this.#choices.settings !== 'replace') {
        this.#leftAlone++;
        await this.#compareAlone(stored);
        return;
      }
      const bytes = await this.#read(stored);
      this.#compare(stored, bytes);
      this.#notePlaces(stored);
      const chosen = exists ? {} : (this.#choices.createSettings ?? {});
      const others = withoutChosen(settingsIn(bytes, stored), chosen);
      const settings = { ...this.#withoutForeignGrants(stored, others), ...chosen };
      await writeSettingsTo({ registry: target, repository, exists, dryRun }, settings, this.#options);
    } catch (error) {
      checkAborted(this.#options);
      this.#faults.add(`settings of ${repository} were not restored: ${describeFailure(error)}`);
    }
  }

  /** Warns of settings that archives name and that are not there, where the target has such. */
  async warnOfMissing({ to: { registry, repository }, named }: MissingSettings): Promise<void> {
    if (this.#choices.settings === 'none') return;
    try {
      const exists = await this.#backends.registry(registry, 'target').hasRepository(repository, this.#options);
      if (exists === undefined) return;
    } catch (error) {
      checkAborted(this.#options);
      // the images are pushed there next, and that reports the failure
      if (!isFailure(error)) throw error;
    }
    const written = named.length === 1 ? '1 of them was' : `${named.length} of them were`;
    const message = `settings of ${repository}: there is no repository.json beside its archives, and ${written} written with one: it was deleted`;
    this.#options.report?.({ type: 'warning', message });
  }

  /** Notes how many repositories kept the settings that they have. */
  finish(): void {
    if (this.#leftAlone === 0) return;
    const which = this.#leftAlone === 1 ? '1 existing repository' : `${this.#leftAlone} existing repositories`;
    this.#note(`${which} kept the settings that were there; pass --settings replace to replace them`);
  }

  async #read({ store, key }: StoredSettings): Promise<Buffer> {
    const tooLong = `${store.describe(key)} has more than the ${MAX_SETTINGS_BYTES} bytes of any settings`;
    const body = await store.read(key, this.#options);
    return collect(body, MAX_SETTINGS_BYTES, () => new Failure('INVALID', tooLong));
  }

  #notePlaces({ store, key, to, places }: StoredSettings): void {
    if (places > 1)
      this.#note(
        `settings of ${to.repository} lie in ${places} places: ${store.describe(key)} is the one that is restored`,
      );
  }

  /** Warns where archives name other settings than these. They may: an archive is not written again when only the settings changed. */
  #compare({ store, key, to, named }: StoredSettings, bytes: Buffer): void {
    const digest = digestOf(bytes);
    const others = named.filter((other) => other !== digest).length;
    if (others === 0) return;
    const message = `settings of ${to.repository}: ${store.describe(key)} is not the one that ${others} of its archives ${others === 1 ? 'was' : 'were'} written with: it was changed since, or replaced`;
    this.#options.report?.({ type: 'warning', message });
  }

  /** The same of settings that are not applied: they are read for that alone, and where they cannot be, that is a warning. */
  async #compareAlone(stored: StoredSettings): Promise<void> {
    if (stored.named.length === 0) return;
    try {
      this.#compare(stored, await this.#read(stored));
    } catch (error) {
      checkAborted(this.#options);
      if (!isFailure(error)) throw error;
      const message = `settings of ${stored.to.repository} were not compared with its archives: ${describeFailure(error)}`;
      this.#options.report?.({ type: 'warning', message });
    }
  }

  #withoutForeignGrants({ to }: StoredSettings, settings: SettingsDocument): SettingsDocument {
    if (this.#choices.allowForeignGrants === true) return settings;
    return withoutForeignGrants(settings, to.registry, (why) =>
      this.#faults.add(`settings of ${to.repository}: the repository policy was left out: ${why}`),
    );
  }

  #note(message: string): void {
    this.#options.report?.({ type: 'note', message });
  }
}

/** The settings in a document. INVALID for those of another repository, and for what is not a document of settings. */
function settingsIn(bytes: Buffer, { store, key, calledItself }: StoredSettings): SettingsDocument {
  const document = parsedJson(bytes.toString());
  if (!isRecord(document) || document['format'] !== 1 || !isRecord(document['settings']))
    throw new Failure('INVALID', `${store.describe(key)} holds no repository settings that this version reads`);
  // archives of several repositories in one folder: settings say which principals may pull, so they belong to one repository
  const named = namedIn(document);
  if (named.repository === undefined || isOfAnother(named, calledItself))
    throw new Failure('INVALID', `${store.describe(key)} holds the settings of ${quote(formatNamed(named))}`);
  return document['settings'];
}
