import { posix } from 'node:path';
import { openImage } from '../archive/reader.ts';
import { createdIn, rootIn, sourceIn } from '../archive/metadata.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import { archiveKindOf, SETTINGS_NAME } from '../oci/archive-key.ts';
import { isDigest, type Digest } from '../oci/digest.ts';
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
  /** Opens archives whose metadata do not say what they hold, unless they are compressed. Folders keep no metadata. Default false. */
  readonly opens?: boolean | undefined;
  /** Which objects count; the others are passed over. Default: all below the prefix. */
  readonly counts?: ((key: string) => boolean) | undefined;
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
 * listing, and a request for each archive that is asked what it holds. `base` is how the place is named: `s3://bucket/`.
 */
export async function* readArchiveInventories(
  store: ObjectStore,
  { base, prefix }: { readonly base: string; readonly prefix: string },
  options: ArchiveReading,
): AsyncIterable<Inventory> {
  const folders = new Map<string, Folder>();
  const { counts = () => true } = options;
  for await (const info of store.list(prefix, options)) {
    if (!counts(info.key)) continue;
    const isSettings = posix.basename(info.key) === SETTINGS_NAME;
    if (!isSettings && archiveKindOf(info.key) === undefined) continue;
    const name = folderOf(info.key);
    const folder = folders.get(name) ?? { archives: [], settings: [] };
    folders.set(name, folder);
    (isSettings ? folder.settings : folder.archives).push(info);
  }
  for (const [name, folder] of [...folders].sort(([a], [b]) => compareStrings(a, b))) {
    yield await inventoryOf(store, { base, prefix, name }, folder, options);
  }
}

/** The text, with `{date}` for each day in it. */
export function undated(text: string): string {
  return text.replaceAll(DATE, '{date}');
}

/** The folder of a key, with `{date}` for each day in it. */
export function folderOf(key: string): string {
  const folder = posix.dirname(undated(key));
  return folder === '.' ? '' : folder;
}

async function inventoryOf(
  store: ObjectStore,
  { base, prefix, name }: { readonly base: string; readonly prefix: string; readonly name: string },
  { archives, settings }: Folder,
  options: ArchiveReading,
): Promise<Inventory> {
  const described = new Map<string, ObjectInfo | undefined>();
  const opened = new Map<string, Held>();
  let incomplete: string | undefined;
  try {
    await forEachOf(
      askedOf(archives, options.names ?? 'few'),
      options.concurrency ?? AT_ONCE,
      async ({ key }, { signal }) => {
        const info = await ifFound(store.stat(key, { signal }));
        described.set(key, info);
        if (options.opens !== true || info === undefined || sourceIn(info.metadata) !== undefined) return;
        const held = await heldIn(store, key, { ...options, signal });
        if (held !== undefined) opened.set(key, held);
      },
      options,
    );
  } catch (error) {
    if (!isFailure(error) || error.code === 'ABORTED') throw error;
    incomplete = describeFailure(error);
  }
  const present = archives.filter(({ key }) => !described.has(key) || described.get(key) !== undefined);
  const items = [
    ...present.map((info) => itemOf(described.get(info.key) ?? info, opened.get(info.key))),
    ...settings.map((info) => itemOf(info)),
  ];
  const below = name.startsWith(prefix) ? name.slice(prefix.length) : name;
  const [repository, ...others] = repositoriesIn(items);
  return {
    // a folder has one name, whichever place it is found by
    place: name === '' && !base.startsWith('s3://') ? base.replace(/(?<=.)\/$/, '') : `${base}${name}`,
    repository: repository ?? (below === '' ? '.' : below),
    ...(others.length === 0 ? {} : { others }),
    kind: 'archives',
    items,
    incomplete,
    untags: false,
  };
}

/** The archives that are asked what they hold. */
function askedOf(archives: readonly ObjectInfo[], names: 'all' | 'few'): readonly ObjectInfo[] {
  if (names === 'all') return archives;
  const sharing = [...Map.groupBy(archives, ({ key }) => undated(key)).values()].filter((all) => all.length > 1);
  return sharing.length === 0 ? archives.slice(0, 1) : sharing.flat();
}

/** What an archive holds, from its own metadata. */
interface Held {
  readonly digest: Digest;
  readonly image: string;
}

/** Undefined for an archive that does not state it, cannot be read, or would have to be unpacked. */
export async function heldIn(store: ObjectStore, key: string, options: OperationOptions): Promise<Held | undefined> {
  if (archiveKindOf(key) !== 'tar') return undefined;
  try {
    await using archive = await openImage(store, key, options);
    const { repository, root } = archive;
    const [tag] = root.tags;
    const { digest } = root.descriptor;
    return repository === undefined
      ? undefined
      : { digest, image: `${repository}${tag === undefined ? `@${digest}` : `:${tag}`}` };
  } catch (error) {
    if (!isFailure(error, 'INVALID', 'CORRUPT', 'UNSUPPORTED', 'NOT_FOUND')) throw error;
    return undefined;
  }
}

function itemOf(info: ObjectInfo, held?: Held): Item {
  const root = rootIn(info.metadata) ?? held?.digest;
  const image = sourceIn(info.metadata) ?? held?.image;
  return {
    id: info.key,
    ...(isDigest(root) ? { digest: root } : {}),
    tags: image === undefined ? tagsOfKey(info.key) : [],
    bytes: info.size,
    pushedAtMs: writtenMs(info),
    children: [],
    image,
    etag: info.etag,
    ...(info.size === 0 ? { bad: 'it is empty' } : {}),
  };
}

/** When an archive was made. A bucket that it was copied to later has the time of that copy. */
export function writtenMs({ modified, metadata }: ObjectInfo): number {
  const created = Date.parse(createdIn(metadata) ?? '');
  return Number.isNaN(created) ? modified.getTime() : Math.min(created, modified.getTime());
}

/** The tag that the default template puts at the end of a key. */
export function tagsOfKey(key: string): readonly string[] {
  const kind = archiveKindOf(key);
  return kind === undefined ? [] : [posix.basename(key, `.${kind}`)];
}

/** The repositories that the archives of a folder name, of those that were asked, sorted. */
function repositoriesIn(items: readonly Item[]): readonly string[] {
  const names = new Set(items.flatMap(({ image }) => (image === undefined ? [] : repositoryIn(image))));
  return [...names].sort(compareStrings);
}

function repositoryIn(image: string): readonly string[] {
  try {
    return [parseReference(image).repository];
  } catch (error) {
    if (!isFailure(error)) throw error;
    return [];
  }
}
