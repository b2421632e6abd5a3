import { ecrHost } from '../oci/ecr-host.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure, isFailure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { escaped } from '../util/text.ts';
import type { Backends, OperationOptions, RegistrySettingsChange } from './backends.ts';
import type { Faults } from './faults.ts';
import { locksOut } from './locks-out.ts';
import type { SettingsMode } from './restore-settings.ts';
import { withoutForeignParts } from './registry-settings-trust.ts';
import type { SettingsDocument } from './write-settings.ts';

export interface RegistrySettingsRestore {
  /** As a snapshot has them. */
  readonly settings: SettingsDocument;
  /** The host of the registry that gets them. */
  readonly to: string;
  /** `create` (default): only what the registry does not have; `replace`: also what it has; `none`. Nothing is removed. */
  readonly mode?: SettingsMode | undefined;
  /** Also what names accounts other than the target's: replication, roles, secrets, signing profiles, policies. Default false. */
  readonly allowForeignGrants?: boolean | undefined;
  /** Also a policy that may deny the caller what the registry is used and repaired with. Default false. */
  readonly allowLockout?: boolean | undefined;
  /** Reports what would be changed, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
}

/**
 * Restores the settings of a registry itself, after all images: a policy may deny what they need. Each change is noted before it is made. A setting
 * that cannot be restored, or that was not backed up, is a fault; the others are restored all the same. Registries other than ECR do not have
 * settings.
 */
export async function restoreRegistrySettings(
  request: RegistrySettingsRestore,
  backends: Backends,
  faults: Faults,
  options: OperationOptions,
): Promise<void> {
  const { to, mode = 'create', dryRun = false } = request;
  const here = ecrHost(to);
  if (mode === 'none' || here === undefined) return;
  const note = (message: string): void => options.report?.({ type: 'note', message });
  const fault = (what: string, why: string): void => faults.add(`settings of the registry ${to}: ${what}: ${why}`);
  const registry = backends.registry(to, 'target');
  try {
    const { unread, ...settings } = request.settings;
    for (const [member, why] of Object.entries(isRecord(unread) ? unread : {}))
      fault(`${member} is not in the backup`, String(why));
    const wanted = withoutForeignParts(settings, here, request.allowForeignGrants === true, fault);
    const changes = await registry.registrySettingsChanges(wanted, options);
    const kept = mode === 'replace' ? [] : changes.filter(({ from }) => from !== undefined);
    for (const change of changes) {
      if (kept.includes(change)) continue;
      const why = request.allowLockout === true ? undefined : lockout(change, here.account);
      if (why !== undefined) {
        fault('the policy was left out', `${why}; pass --allow-lockout to restore it`);
        continue;
      }
      note(
        `${to}: ${change.member}: ${change.from === undefined ? 'nothing' : escaped(change.from)} → ${escaped(change.to)}`,
      );
      if (dryRun) continue;
      try {
        await registry.applyRegistrySettings(change.settings, options);
      } catch (error) {
        checkAborted(options);
        if (!isFailure(error)) throw error;
        fault(`${change.member} was not restored`, describeFailure(error));
      }
    }
    if (kept.length > 0)
      note(`${to} kept its ${kept.map(({ member }) => member).join(', ')}; pass --settings replace to replace them`);
  } catch (error) {
    checkAborted(options);
    if (!isFailure(error)) throw error;
    faults.add(`the registry's own settings were not restored: ${describeFailure(error)}`);
  }
}

function lockout({ settings }: RegistrySettingsChange, account: string): string | undefined {
  const policy = settings['registryPolicy'];
  if (typeof policy !== 'string') return undefined;
  try {
    return locksOut(policy, account);
  } catch (error) {
    return describeFailure(error);
  }
}
