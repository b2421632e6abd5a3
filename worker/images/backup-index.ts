import { rootIn } from '../archive/metadata.ts';
import { archiveKindOf } from '../oci/archive-key.ts';
import { isDigest, shortDigest, type Digest } from '../oci/digest.ts';
import { formatLocation, type Location } from '../oci/location.ts';
import type { ObjectRoot } from '../oci/place.ts';
import { checkAborted } from '../util/abort.ts';
import type { Report } from '../util/events.ts';
import { ifFound, isFailure, type Failure } from '../util/failure.ts';
import type { Item } from '../retention/inventory.ts';
import { forEachOf } from '../util/limit.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { archiveAt, storeAndPrefix } from './open-place.ts';
import { openLocation } from './open-location.ts';
import { verify } from './verify.ts';

/** The archives of a place, by the image that they hold. */
export interface BackupIndex {
  /**
   * Whether an archive holds the image with all of `parts`, and was read whole just now without a fault. It reads every byte, of each archive
   * once.
   */
  holds(digest: Digest, parts: readonly Digest[]): Promise<boolean>;
}

const AT_ONCE = 8;

/**
 * Lists the archives of a place, and finds out which image each holds: from its metadata or, where these do not state it, from the archive itself.
 */
export async function indexBackups(
  root: ObjectRoot,
  backends: Backends,
  options: OperationOptions,
): Promise<BackupIndex> {
  const { store } = storeAndPrefix(root, backends);
  const keys: string[] = [];
  for await (const { key } of store.list(root.prefix, options)) if (archiveKindOf(key) !== undefined) keys.push(key);
  const byRoot = new Map<Digest, string[]>();
  await forEachOf(
    keys,
    options.concurrency ?? AT_ONCE,
    async (key, { signal }) => {
      const info = await ifFound(store.stat(key, { signal }));
      if (info === undefined) return;
      const said = rootIn(info.metadata);
      const digest = isDigest(said) ? said : await rootOf(archiveAt(root, key), backends, { ...options, signal });
      if (digest === undefined) return;
      const known = byRoot.get(digest);
      if (known === undefined) byRoot.set(digest, [key]);
      else known.push(key);
    },
    options,
  );
  const whole = new Map<string, ReadonlySet<Digest>>();
  return {
    holds: async (digest, parts) => {
      for (const key of (byRoot.get(digest) ?? []).sort()) {
        const manifests = whole.get(key) ?? (await wholeManifests(archiveAt(root, key), digest, backends, options));
        whole.set(key, manifests);
        if (manifests.has(digest) && parts.every((part) => manifests.has(part))) return true;
      }
      return false;
    },
  };
}

/**
 * Those of these archives from which nothing can be restored, by key, with the reason: they cannot be opened, are cut off, or hold another image than
 * their metadata name. Reads the beginning of each. Compressed ones are passed over: they would have to be unpacked.
 */
export async function unreadableArchives(
  root: ObjectRoot,
  items: readonly Item[],
  backends: Backends,
  options: OperationOptions,
): Promise<ReadonlyMap<string, string>> {
  const unreadable = new Map<string, string>();
  await forEachOf(
    items.filter(({ id }) => archiveKindOf(id) === 'tar'),
    options.concurrency ?? AT_ONCE,
    async ({ id, digest }, { signal }) => {
      const found = await openedRoot(archiveAt(root, id), backends, { ...options, signal });
      // what is in Glacier, or in a form that is not read here, may well be whole
      if (isFailure(found, 'UNSUPPORTED')) return;
      if (isFailure(found)) unreadable.set(id, `it cannot be restored: ${found.message}`);
      else if (digest !== undefined && found !== digest)
        unreadable.set(id, `it holds ${found}, and its metadata say ${digest}`);
    },
    options,
  );
  return unreadable;
}

/** The image that an archive holds; undefined for what is not a readable archive. */
async function rootOf(location: Location, backends: Backends, options: OperationOptions): Promise<Digest | undefined> {
  const found = await openedRoot(location, backends, options);
  return isFailure(found) ? undefined : found;
}

/** The image that an archive holds, or why it cannot be read. */
async function openedRoot(
  location: Location,
  backends: Backends,
  options: OperationOptions,
): Promise<Digest | Failure> {
  try {
    await using image = await openLocation(backends, location, 'source', options);
    return image.root.descriptor.digest;
  } catch (error) {
    checkAborted(options);
    if (isFailure(error, 'INVALID', 'CORRUPT', 'UNSUPPORTED', 'NOT_FOUND')) return error;
    throw error;
  }
}

/** The manifests of an archive that is whole and holds this image; none of any other. */
async function wholeManifests(
  location: Location,
  digest: Digest,
  backends: Backends,
  options: OperationOptions,
): Promise<ReadonlySet<Digest>> {
  const at = formatLocation(location);
  const manifests = new Set<Digest>();
  const onManifests = (digests: Iterable<Digest>): void => {
    for (const one of digests) manifests.add(one);
  };
  // only warnings: a plan that reads archives is not to read like a copy
  const report: Report = (event) =>
    void ((event.type === 'warning' || event.type === 'retry') && options.report?.(event));
  const [result] = await verify({ at, onManifests }, backends, { ...options, report });
  const fault = result?.faults[0];
  if (fault !== undefined) options.report?.({ type: 'warning', message: `${at} does not count as a backup: ${fault}` });
  if (result === undefined || fault !== undefined || result.digest !== digest) return new Set();
  options.report?.({ type: 'note', message: `${at} is whole: a backup of ${shortDigest(digest)}` });
  return manifests;
}
