import { posix } from 'node:path';
import { rootIn, sourceIn } from '../archive/metadata.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import { archiveKindOf, SETTINGS_NAME } from '../oci/archive-key.ts';
import { isDigest } from '../oci/digest.ts';
import { parseReference } from '../oci/reference.ts';
import type { Inventory, Item } from '../retention/inventory.ts';
import { describeFailure, ifFound, isFailure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import { compareStrings } from '../util/text.ts';
import type { OperationOptions } from './backends.ts';

export interface ArchiveReading extends OperationOptions {
  /**
   * Which archives are asked what they hold, a request each: `all`; or `few`, those that share a key with others but for the day in it, and one
   * of each folder. Tags of the others are those of their keys. Default `few`.
   */
  readonly names?: 'all' | 'few' | undefined;
  /** Reads this folder alone, as `folderOf` names it. Default: all. */
  readonly folder?: string | undefined;
}

/** The archives of one folder; days in the names of folders do not make them others. */
interface Folder {
  readonly archives: ObjectInfo[];
  readonly settings: ObjectInfo[];
}

/** `{date}` in a key. */
const DATE = /(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)/g;
const AT_ONCE = 8;

/**
 * The archives below a prefix, an inventory for each folder, in order of folders. Folders that differ in a day alone (`2026-11-21/app`) are one. One
 * listing, and a request for each archive that has to say what it holds. `base` is how the place is named: `s3://bucket/`.
 */
export async function* readArchiveInventories(
  store: ObjectStore,
  { base, prefix }: { readonly base: string; readonly prefix: string },
  options: ArchiveReading,
): AsyncIterable<Inventory> {
  const folders = new Map<string, Folder>();
  for await (const info of store.list(prefix, options)) {
    const isSettings = posix.basename(info.key) === SETTINGS_NAME;
    if (!isSettings && archiveKindOf(info.key) === undefined) continue;
    const name = folderOf(info.key);
    if (options.folder !== undefined && name !== options.folder) continue;
    const folder = folders.get(name) ?? { archives: [], settings: [] };
    folders.set(name, folder);
    (isSettings ? folder.settings : folder.archives).push(info);
  }
  for (const [name, folder] of [...folders].sort(([a], [b]) => compareStrings(a, b))) {
    yield await inventoryOf(store, { base, prefix, name }, folder, options);
  }
}

/** The folder of a key, with `{date}` for each day in it. */
export function folderOf(key: string): string {
  const folder = posix.dirname(key.replaceAll(DATE, '{date}'));
  return folder === '.' ? '' : folder;
}

async function inventoryOf(
  store: ObjectStore,
  { base, prefix, name }: { readonly base: string; readonly prefix: string; readonly name: string },
  { archives, settings }: Folder,
  options: ArchiveReading,
): Promise<Inventory> {
  const described = new Map<string, ObjectInfo | undefined>();
  let incomplete: string | undefined;
  try {
    await forEachOf(
      askedOf(archives, options.names ?? 'few'),
      options.concurrency ?? AT_ONCE,
      async ({ key }, { signal }) => {
        described.set(key, await ifFound(store.stat(key, { signal })));
      },
      options,
    );
  } catch (error) {
    if (!isFailure(error) || error.code === 'ABORTED') throw error;
    incomplete = describeFailure(error);
  }
  const present = archives.filter(({ key }) => !described.has(key) || described.get(key) !== undefined);
  const items = [...present.map((info) => itemOf(described.get(info.key) ?? info)), ...settings.map(itemOf)];
  const below = name.startsWith(prefix) ? name.slice(prefix.length) : name;
  return {
    place: `${base}${name}`,
    repository: repositoryOf(items) ?? (below === '' ? '.' : below),
    kind: 'archives',
    items,
    incomplete,
    untags: false,
  };
}

/** The archives that are to say what they hold. */
function askedOf(archives: readonly ObjectInfo[], names: 'all' | 'few'): readonly ObjectInfo[] {
  if (names === 'all') return archives;
  const sharing = [...Map.groupBy(archives, ({ key }) => key.replaceAll(DATE, '{date}')).values()].filter(
    (all) => all.length > 1,
  );
  return sharing.length === 0 ? archives.slice(0, 1) : sharing.flat();
}

function itemOf(info: ObjectInfo): Item {
  const root = rootIn(info.metadata);
  const image = sourceIn(info.metadata);
  return {
    id: info.key,
    ...(isDigest(root) ? { digest: root } : {}),
    tags: image === undefined ? tagsOfKey(info.key) : [],
    bytes: info.size,
    pushedAtMs: info.modified.getTime(),
    children: [],
    image,
    etag: info.etag,
    ...(info.size === 0 ? { bad: 'it is empty' } : {}),
  };
}

/** The tag that the default template puts at the end of a key. */
function tagsOfKey(key: string): readonly string[] {
  const kind = archiveKindOf(key);
  return kind === undefined ? [] : [posix.basename(key, `.${kind}`)];
}

/** The repository that the archives of a folder name, where those that were asked agree. */
function repositoryOf(items: readonly Item[]): string | undefined {
  const names = new Set(items.flatMap(({ image }) => (image === undefined ? [] : repositoryIn(image))));
  return names.size === 1 ? [...names][0] : undefined;
}

function repositoryIn(image: string): readonly string[] {
  try {
    return [parseReference(image).repository];
  } catch (error) {
    if (!isFailure(error)) throw error;
    return [];
  }
}
