import { ecrHost } from '../oci/ecr-host.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure } from '../util/failure.ts';
import { escaped, quote } from '../util/text.ts';
import type { Backends, OperationOptions } from './backends.ts';
import type { Faults } from './faults.ts';
import { foreignGrants, locksOut } from './foreign-grants.ts';
import type { SettingsDocument } from './write-settings.ts';

export interface RegistrySettingsRequest {
  /** The registry that gets them. */
  readonly host: string;
  /** As a snapshot has them. Absent: none are restored. */
  readonly settings: SettingsDocument | undefined;
  /** Also restores a policy that grants access to other accounts. Default false. */
  readonly allowForeignGrants?: boolean | undefined;
  /** Notes what would be changed, and changes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
}

/** They say whether blobs are mounted, which saves sending them. */
const BEFORE_IMAGES = ['accountSettings'];

/**
 * Restores the settings of a registry, those of its own account and Region: before the images what helps them, and at the end the rest, the registry
 * policy last. What cannot be applied is a fault, and the others are applied.
 */
export class RegistrySettingsRestore {
  readonly #request: RegistrySettingsRequest;
  readonly #backends: Backends;
  readonly #faults: Faults;
  readonly #options: OperationOptions;

  constructor(request: RegistrySettingsRequest, backends: Backends, faults: Faults, options: OperationOptions) {
    this.#request = request;
    this.#backends = backends;
    this.#faults = faults;
    this.#options = options;
  }

  async before(): Promise<void> {
    await this.#apply((member) => BEFORE_IMAGES.includes(member));
  }

  async after(): Promise<void> {
    await this.#apply((member) => !BEFORE_IMAGES.includes(member));
    for (const [member, why] of Object.entries(this.#request.settings?.['unread'] ?? {}))
      this.#faults.add(`settings of the registry: ${member} is not in the snapshot: ${String(why)}`);
  }

  async #apply(isWanted: (member: string) => boolean): Promise<void> {
    const { settings = {}, host, dryRun } = this.#request;
    const wanted = Object.entries(settings).filter(([member]) => member !== 'unread' && isWanted(member));
    if (wanted.length === 0) return;
    try {
      const registry = this.#backends.registry(host, 'target');
      const chosen = this.#withoutHarm(Object.fromEntries(wanted));
      for (const change of await registry.registrySettingsChanges(chosen, this.#options)) {
        const { member, from, to } = change;
        const message = `${host}: ${member}: ${from === undefined ? 'nothing' : escaped(from)} → ${escaped(to)}`;
        this.#options.report?.({ type: 'note', message });
        if (dryRun !== true) await this.#change(member, change.settings);
      }
    } catch (error) {
      checkAborted(this.#options);
      this.#faults.add(`settings of the registry ${host} were not restored: ${describeFailure(error)}`);
    }
  }

  async #change(member: string, settings: SettingsDocument): Promise<void> {
    const { host } = this.#request;
    try {
      await this.#backends.registry(host, 'target').applyRegistrySettings(settings, this.#options);
    } catch (error) {
      checkAborted(this.#options);
      this.#faults.add(`settings of the registry ${host}: ${member} was not restored: ${describeFailure(error)}`);
    }
  }

  /** The settings without a policy that would lock the account out of its own registry, or that grants access to others. */
  #withoutHarm(settings: SettingsDocument): SettingsDocument {
    const { registryPolicy: policy, ...others } = settings;
    if (typeof policy !== 'string') return settings;
    const { host, allowForeignGrants } = this.#request;
    const account = ecrHost(host)?.account;
    const accounts = account === undefined ? [] : [account];
    const leaveOut = (why: string): SettingsDocument => {
      this.#faults.add(`settings of the registry ${host}: the registry policy was left out: ${why}`);
      return others;
    };
    try {
      if (locksOut(policy, accounts))
        return leaveOut(
          'it denies the account of the registry itself, so that nobody could change it again: set it by hand, with an exception for an administrator',
        );
      const foreign = allowForeignGrants === true ? [] : foreignGrants(policy, accounts);
      if (foreign.length === 0) return settings;
      return leaveOut(
        `it grants access to ${foreign.map(quote).join(', ')}, outside the account of ${host}; pass --allow-foreign-grants to restore it`,
      );
    } catch (error) {
      return leaveOut(describeFailure(error));
    }
  }
}
