import { collect } from '../content/bytes.ts';
import type { ObjectStore } from '../objects/objects.ts';
import { ecrHost } from '../oci/ecr-host.ts';
import type { Reference, Repository } from '../oci/reference.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure, Failure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { escaped, quote } from '../util/text.ts';
import type { Backends, OperationOptions, Registry } from './backends.ts';
import type { Faults } from './faults.ts';
import { canonicalPolicy, foreignGrants } from './foreign-grants.ts';
import { MAX_SETTINGS_BYTES } from './store-settings.ts';

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
  readonly dryRun?: boolean | undefined;
}

/** Settings that lie beside archives, and the repository that gets them. */
export interface StoredSettings {
  readonly store: ObjectStore;
  readonly key: string;
  readonly to: Reference;
  /** The repository that the archives say their images were in. */
  readonly calledItself: Repository;
}

type SettingsDocument = Readonly<Record<string, unknown>>;

/** Applies the settings beside archives to the repositories of one restore, each once. */
export class SettingsRestore {
  readonly #choices: SettingsChoices;
  readonly #backends: Backends;
  readonly #faults: Faults;
  readonly #options: OperationOptions;
  readonly #done = new Set<string>();
  #leftAlone = 0;

  constructor(choices: SettingsChoices, backends: Backends, faults: Faults, options: OperationOptions) {
    this.#choices = choices;
    this.#backends = backends;
    this.#faults = faults;
    this.#options = options;
  }

  /** Applies the settings where the mode allows it, after a note of each change. A failure is a fault: the images are restored all the same. */
  async apply(stored: StoredSettings): Promise<void> {
    const { registry, repository } = stored.to;
    if (this.#choices.settings === 'none' || this.#done.has(repository)) return;
    this.#done.add(repository);
    try {
      const target = this.#backends.registry(registry, 'target');
      const exists = await target.hasRepository(repository, this.#options);
      if (exists === undefined) return;
      if (exists && this.#choices.settings !== 'replace') this.#leftAlone++;
      else await this.#write(target, repository, exists, this.#withoutForeignGrants(stored, await this.#read(stored)));
    } catch (error) {
      checkAborted(this.#options);
      this.#faults.add(`settings of ${repository} were not restored: ${describeFailure(error)}`);
    }
  }

  /** Notes how many repositories kept the settings that they have. */
  finish(): void {
    if (this.#leftAlone === 0) return;
    const which = this.#leftAlone === 1 ? '1 existing repository' : `${this.#leftAlone} existing repositories`;
    this.#note(`${which} kept the settings that were there; pass --settings replace to replace them`);
  }

  async #write(target: Registry, repository: string, exists: boolean, settings: SettingsDocument): Promise<void> {
    const isDry = this.#choices.dryRun === true;
    if (!exists) {
      const members = Object.entries(settings).map(([name, value]) => `${name} ${escaped(JSON.stringify(value))}`);
      this.#note(`${repository}: created with ${members.length === 0 ? 'no settings' : members.join(', ')}`);
      if (!isDry) await target.createRepository(repository, settings, this.#options);
      return;
    }
    const changes = await target.settingsChanges(repository, settings, this.#options);
    for (const { member, from, to } of changes)
      this.#note(`${repository}: ${member}: ${from === undefined ? 'nothing' : escaped(from)} → ${escaped(to)}`);
    if (changes.length > 0 && !isDry) await target.applySettings(repository, settings, this.#options);
  }

  async #read({ store, key, calledItself }: StoredSettings): Promise<SettingsDocument> {
    const tooLong = `${store.describe(key)} has more than the ${MAX_SETTINGS_BYTES} bytes of any settings`;
    const body = await collect(
      await store.read(key, this.#options),
      MAX_SETTINGS_BYTES,
      () => new Failure('INVALID', tooLong),
    );
    const document = parsedJson(body.toString());
    if (!isRecord(document) || document['format'] !== 1 || !isRecord(document['settings']))
      throw new Failure('INVALID', `${store.describe(key)} holds no repository settings that this version reads`);
    // archives of several repositories in one folder: settings say which principals may pull, so they belong to one repository
    if (document['repository'] !== calledItself.repository)
      throw new Failure('INVALID', `${store.describe(key)} holds the settings of ${quote(document['repository'])}`);
    return document['settings'];
  }

  /** The settings without a policy that grants access to other accounts than the target's: the source's is only what the archive claims. */
  #withoutForeignGrants({ to }: StoredSettings, settings: SettingsDocument): SettingsDocument {
    const { repositoryPolicy: policy, ...others } = settings;
    if (this.#choices.allowForeignGrants === true || typeof policy !== 'string') return settings;
    const leaveOut = (why: string): SettingsDocument => {
      this.#faults.add(`settings of ${to.repository}: the repository policy was left out: ${why}`);
      return others;
    };
    const account = ecrHost(to.registry)?.account;
    try {
      const foreign = foreignGrants(policy, account === undefined ? [] : [account]);
      if (foreign.length === 0) return { ...others, repositoryPolicy: canonicalPolicy(policy) };
      const named = foreign.map(quote).join(', ');
      return leaveOut(
        `it grants access to ${named}, outside the account of ${to.registry}; pass --allow-foreign-grants to restore it`,
      );
    } catch (error) {
      return leaveOut(describeFailure(error));
    }
  }

  #note(message: string): void {
    this.#options.report?.({ type: 'note', message });
  }
}

/** Undefined for what is not JSON. */
function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
