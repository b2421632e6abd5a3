import { rootIn } from '../archive/metadata.ts';
import { archiveKindOf } from '../oci/archive-key.ts';
import { isDigest, shortDigest, type Digest } from '../oci/digest.ts';
import { formatLocation, type Location } from '../oci/location.ts';
import { checkAborted } from '../util/abort.ts';
import type { Report } from '../util/events.ts';
import { ifFound, isFailure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { openRoot } from './inventories.ts';
import { openLocation } from './open-location.ts';
import type { ArchiveRoot } from './prune-places.ts';
import { verify } from './verify.ts';

/** The archives of a place, by the image that they hold. */
export interface BackupIndex {
  /** Whether an archive holds the image and was read whole just now without a fault. Asked once for each digest: it reads every byte. */
  holds(digest: Digest): Promise<boolean>;
}

const AT_ONCE = 8;

/** Lists the archives of a place, and asks each which image it holds: its metadata, or where they do not say the archive itself. */
export async function indexBackups(
  root: ArchiveRoot,
  backends: Backends,
  options: OperationOptions,
): Promise<BackupIndex> {
  const { store } = openRoot(root, backends);
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
      const digest = isDigest(said) ? said : await rootOf(locationOf(root, key), backends, { ...options, signal });
      if (digest === undefined) return;
      const known = byRoot.get(digest);
      if (known === undefined) byRoot.set(digest, [key]);
      else known.push(key);
    },
    options,
  );
  return {
    holds: async (digest) => {
      for (const key of (byRoot.get(digest) ?? []).sort()) {
        if (await isWhole(locationOf(root, key), digest, backends, options)) return true;
      }
      return false;
    },
  };
}

/** The image that an archive holds; undefined for what is no archive that can be read. */
async function rootOf(location: Location, backends: Backends, options: OperationOptions): Promise<Digest | undefined> {
  try {
    await using image = await openLocation(backends, location, 'source', options);
    return image.root.descriptor.digest;
  } catch (error) {
    checkAborted(options);
    if (isFailure(error, 'INVALID', 'CORRUPT', 'UNSUPPORTED', 'NOT_FOUND')) return undefined;
    throw error;
  }
}

async function isWhole(
  location: Location,
  digest: Digest,
  backends: Backends,
  options: OperationOptions,
): Promise<boolean> {
  const at = formatLocation(location);
  // only warnings: a plan that reads archives is not to read like a copy
  const report: Report = (event) =>
    void ((event.type === 'warning' || event.type === 'retry') && options.report?.(event));
  const [result] = await verify({ at }, backends, { ...options, report });
  if (result === undefined) return false;
  const [fault] = result.faults;
  if (fault !== undefined) options.report?.({ type: 'warning', message: `${at} does not count as a backup: ${fault}` });
  if (fault !== undefined || result.digest !== digest) return false;
  options.report?.({ type: 'note', message: `${at} is whole: a backup of ${shortDigest(digest)}` });
  return true;
}

function locationOf(root: ArchiveRoot, key: string): Location {
  return 'bucket' in root
    ? { transport: 's3', bucket: root.bucket, key }
    : { transport: 'archive', path: `${root.folder}${key}` };
}
