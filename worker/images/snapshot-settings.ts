import { checkAborted } from '../util/abort.ts';
import { describeFailure } from '../util/failure.ts';
import type { Backends, OperationOptions, Registry } from './backends.ts';
import type { Faults } from './faults.ts';
import type { PlannedRepository } from './restore-plan.ts';
import type { SettingsChoices } from './restore-settings.ts';
import { withoutChosen, withoutForeignGrants, writeSettingsTo, type SettingsDocument } from './write-settings.ts';

/** A lifecycle policy may expire what was just restored, and a repository policy may deny what the restore needs. */
const AFTER_IMAGES = ['lifecyclePolicy', 'repositoryPolicy'];
/** An immutable tag could not be moved to the image of the snapshot. */
const AFTER_TAGS = ['tagMutability', 'tagMutabilityExclusions'];

/** The settings that a repository gets, in two steps. */
interface Steps {
  readonly wanted: SettingsDocument;
  readonly last: SettingsDocument;
}

/** Applies the settings that snapshots have of repositories: before their images what they need, and after them what could harm them. */
export class SnapshotSettings {
  readonly #choices: SettingsChoices;
  readonly #backends: Backends;
  readonly #faults: Faults;
  readonly #options: OperationOptions;
  readonly #steps = new Map<PlannedRepository, Steps>();
  #kept = 0;

  constructor(choices: SettingsChoices, backends: Backends, faults: Faults, options: OperationOptions) {
    this.#choices = choices;
    this.#backends = backends;
    this.#faults = faults;
    this.#options = options;
  }

  /**
   * Creates the repository, or replaces settings of an existing one where the mode asks for it. A failure is a fault: the images are restored all the
   * same.
   */
  async before(planned: PlannedRepository): Promise<void> {
    await this.#faultless(planned, async (registry, repository, settings) => {
      const exists = await registry.hasRepository(repository, this.#options);
      if (exists === undefined) return;
      const chosen = exists ? {} : (this.#choices.createSettings ?? {});
      const wanted = { ...this.#withoutForeignGrants(planned, withoutChosen(settings, chosen)), ...chosen };
      if (exists && this.#choices.settings !== 'replace') {
        if (await this.#isUnfinished(registry, repository, wanted))
          this.#steps.set(planned, { wanted, last: split(wanted, AFTER_IMAGES).last });
        else this.#kept++;
        return;
      }
      const isFrozen = String(wanted['tagMutability']).startsWith('IMMUTABLE');
      const { first, last } = split(wanted, exists && isFrozen ? [...AFTER_IMAGES, ...AFTER_TAGS] : AFTER_IMAGES);
      const { dryRun } = this.#choices;
      await writeSettingsTo({ registry, repository, exists, dryRun }, dryRun === true ? wanted : first, this.#options);
      if (dryRun !== true) this.#steps.set(planned, { wanted, last });
    });
  }

  /** Applies what was left for the end, and looks whether the repository has what it was given. */
  async after(planned: PlannedRepository): Promise<void> {
    const steps = this.#steps.get(planned);
    if (steps === undefined || this.#choices.dryRun === true) return;
    await this.#faultless(planned, async (registry, repository) => {
      const { wanted, last } = steps;
      if (Object.keys(last).length > 0)
        await writeSettingsTo({ registry, repository, exists: true }, last, this.#options);
      const different = await registry.settingsChanges(repository, wanted, this.#options);
      if (different.length > 0)
        this.#faults.add(
          `settings of ${repository}: ${different.map(({ member }) => member).join(', ')} are not those of the snapshot: another process changed them meanwhile`,
        );
    });
  }

  /** Notes how many repositories kept the settings that they have. */
  finish(): void {
    if (this.#kept === 0) return;
    const which = this.#kept === 1 ? '1 existing repository' : `${this.#kept} existing repositories`;
    const message = `${which} kept the settings that were there; pass --settings replace to replace them`;
    this.#options.report?.({ type: 'note', message });
  }

  /**
   * Whether a restore created the repository and was stopped before it set the policies: it has the settings of the snapshot, but for policies that
   * it does not have at all.
   */
  async #isUnfinished(registry: Registry, repository: string, wanted: SettingsDocument): Promise<boolean> {
    const changes = await registry.settingsChanges(repository, wanted, this.#options);
    return (
      changes.length > 0 && changes.every(({ member, from }) => AFTER_IMAGES.includes(member) && from === undefined)
    );
  }

  #withoutForeignGrants({ to }: PlannedRepository, settings: SettingsDocument): SettingsDocument {
    if (this.#choices.allowForeignGrants === true) return settings;
    return withoutForeignGrants(settings, to.registry, (why) =>
      this.#faults.add(`settings of ${to.repository}: the repository policy was left out: ${why}`),
    );
  }

  async #faultless(
    { to, settings }: PlannedRepository,
    work: (registry: Registry, repository: string, settings: SettingsDocument) => Promise<void>,
  ): Promise<void> {
    if (this.#choices.settings === 'none' || settings === undefined) return;
    try {
      await work(this.#backends.registry(to.registry, 'target'), to.repository, settings);
    } catch (error) {
      checkAborted(this.#options);
      this.#faults.add(`settings of ${to.repository} were not restored: ${describeFailure(error)}`);
    }
  }
}

function split(
  settings: SettingsDocument,
  later: readonly string[],
): { readonly first: SettingsDocument; readonly last: SettingsDocument } {
  const entries = Object.entries(settings);
  return {
    first: Object.fromEntries(entries.filter(([member]) => !later.includes(member))),
    last: Object.fromEntries(entries.filter(([member]) => later.includes(member))),
  };
}
