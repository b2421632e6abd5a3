import { resolve } from 'node:path';
import type { Inventory } from '../retention/inventory.ts';
import type { ObjectRoot } from '../oci/place.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure, isFailure } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { readArchiveInventories, type ArchiveReading } from './inventory-archives.ts';
import { readEcrInventory } from './inventory-ecr.ts';
import { readRegistryInventory } from './inventory-registry.ts';
import { repositoriesOf } from './list-repositories.ts';
import { formatRoot, storeAndPrefix } from './open-place.ts';
import type { PrunePlace } from './prune-places.ts';

export interface InventoryOptions extends ArchiveReading {
  /** Leaves out everything up to this place, as an inventory names it: a run that goes on where another stopped. */
  readonly after?: string | undefined;
}

/**
 * What is in these places now: an inventory for each repository, and for each folder of archives, one at a time. Places in the order that they are
 * given, in each the repositories or folders by name; what two places name comes once. An inventory that could not be read whole is `incomplete`,
 * with the reason. Throws where repositories cannot be listed at all.
 */
export async function* inventories(
  places: readonly PrunePlace[],
  backends: Backends,
  options: InventoryOptions,
): AsyncIterable<Inventory> {
  const seen = new Set<string>();
  let skips = options.after !== undefined;
  const isNew = (name: string, where = name): boolean => {
    if (seen.has(where)) return false;
    seen.add(where);
    if (!skips) return true;
    skips = name !== options.after;
    return false;
  };
  for (const place of places) {
    if (place.kind === 'archives') {
      for await (const inventory of archivesAt(place.root, backends, options))
        if (isNew(inventory.place, whereIs(inventory.place, place.root))) yield inventory;
      continue;
    }
    const { registry: host } = place.pattern;
    for (const repository of await repositoriesOf(place, backends, { ...options, side: 'target' })) {
      if (isNew(`${host}/${repository}`)) yield await readRepository(host, repository, backends, options);
    }
  }
  // where it stopped is not there any more
  if (skips) yield* inventories(places, backends, { ...options, after: undefined });
}

/** What is in one repository now. `incomplete` where it cannot be read whole. */
export async function readRepository(
  host: string,
  repository: string,
  backends: Backends,
  options: OperationOptions,
): Promise<Inventory> {
  const registry = backends.registry(host, 'target');
  const { images, manifests } = registry;
  const name = { host, repository };
  try {
    if (images !== undefined && manifests !== undefined)
      return await readEcrInventory({ images, manifests }, name, options);
    return await readRegistryInventory(registry.repository(repository), name, options);
  } catch (error) {
    checkAborted(options);
    if (!isFailure(error)) throw error;
    const incomplete =
      error.code === 'NOT_FOUND'
        ? `there is no repository ${host}/${repository}: check its name`
        : describeFailure(error);
    return { place: `${host}/${repository}`, repository, kind: 'images', items: [], incomplete, untags: false };
  }
}

/** What is the same for two names of one place: one folder may be given as a part of another. */
function whereIs(name: string, root: ObjectRoot): string {
  return 'bucket' in root ? name : resolve(name);
}

async function* archivesAt(root: ObjectRoot, backends: Backends, options: InventoryOptions): AsyncIterable<Inventory> {
  const { store } = storeAndPrefix(root, backends);
  const base = formatRoot({ ...root, prefix: '' });
  yield* readArchiveInventories(store, { base, prefix: root.prefix }, { ...options, opens: 'folder' in root });
}
