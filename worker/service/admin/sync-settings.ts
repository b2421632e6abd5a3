import type { Backends, OperationOptions } from '../../images/backends.ts';
import type { ItemResult } from '../../images/copy-images.ts';
import { collectFaults } from '../../images/faults.ts';
import { settingsBeside, settingsReader, writeSettings, type SettingsReader } from '../../images/store-settings.ts';
import { formatLocation, parseLocation } from '../../oci/location.ts';
import { formatRepository, type Repository } from '../../oci/reference.ts';
import type { CopyRule } from '../../rules/rule.ts';
import { checkAborted } from '../../util/abort.ts';
import { describeFailure, isFailure } from '../../util/failure.ts';
import { orUnwanted, settingsTitle } from '../planner/plan-settings.ts';

/** One repository, and one place beside archives of it. */
interface Owed extends Repository {
  readonly to: ReturnType<typeof settingsBeside>;
}

/**
 * Stores the settings of the repositories of a backup rule beside the archives that could be written, as a run of the deployed system does.
 * Returns what went wrong, a sentence each. Does nothing for other rules, and for registries without settings. Idempotent.
 */
export async function syncSettings(
  rule: CopyRule,
  items: readonly ItemResult[],
  backends: Backends,
  options: OperationOptions,
): Promise<readonly string[]> {
  if (rule.kind !== 'backup' || rule.settings === false) return [];
  const faults = collectFaults(options.report);
  const readers = new Map<string, SettingsReader>();
  for (const { registry, repository, to } of owedBeside(items)) {
    const source = { registry, repository };
    const name = formatRepository(source);
    const read = readers.get(name) ?? settingsReader(source, backends, options);
    readers.set(name, read);
    try {
      const document = await read();
      if (document !== undefined) await writeSettings({ repository: source, to }, document, backends, options);
    } catch (error) {
      checkAborted(options);
      if (!isFailure(error)) throw error;
      const why = describeFailure(orUnwanted(error, rule.name));
      faults.add(`rule ${rule.name}: ${settingsTitle(source)}: ${why}`);
    }
  }
  return faults.messages;
}

/** Each repository and place once. Those beside archives that could not be written are left out: they may be another repository's. */
function owedBeside(items: readonly ItemResult[]): Iterable<Owed> {
  const owed = new Map<string, Owed>();
  for (const { from, to, outcome } of items) {
    const [source, archive] = [parseLocation(from), parseLocation(to)];
    if (outcome === 'failed' || source.transport !== 'docker' || archive.transport !== 's3') continue;
    const { registry, repository } = source.reference;
    const place = settingsBeside(archive);
    owed.set(`${formatRepository({ registry, repository })} ${formatLocation(place)}`, {
      registry,
      repository,
      to: place,
    });
  }
  return owed.values();
}
