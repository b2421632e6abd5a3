import { canonicalHost, ecrHost } from '../oci/ecr-host.ts';
import type { SnapshotRegistry } from '../store/snapshot.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure, isFailure, onSide } from '../util/failure.ts';
import type { OperationOptions, Registry } from './backends.ts';

/** What a snapshot records of the registry at `host`, without its settings. */
export function registryFacts(host: string): SnapshotRegistry {
  const { account, region } = ecrHost(host) ?? {};
  return {
    host: canonicalHost(host),
    ...(account === undefined ? {} : { account }),
    ...(region === undefined ? {} : { region }),
  };
}

/** The settings of a registry or a repository for a snapshot: `settings`; absent where it has no readable settings. */
export interface SettingsFact {
  readonly settings?: Readonly<Record<string, unknown>>;
}

/**
 * Reads the settings of `what`. A refusal is a warning, because credentials that read images may lack the permission to read settings; any other
 * failure goes to `onFailure`. Throws ABORTED.
 */
export async function settingsFact(
  what: string,
  read: () => ReturnType<Registry['settings']>,
  onFailure: (reason: string) => void,
  options: OperationOptions,
): Promise<SettingsFact> {
  try {
    const settings = await onSide('source', read());
    return settings === undefined ? {} : { settings };
  } catch (error) {
    checkAborted(options);
    if (!isFailure(error)) throw error;
    const message = `settings of ${what} were not backed up: ${describeFailure(error)}`;
    options.report?.({ type: 'warning', message });
    if (!isFailure(error, 'DENIED', 'UNSUPPORTED')) onFailure(message);
    return {};
  }
}
