import { isIndexType } from '../oci/manifest.ts';
import type { Place } from '../oci/place.ts';
import type { Backends } from './backends.ts';
import { listPlace } from './list-place.ts';
import type { ListOptions } from './place-entry.ts';
import { placeStats } from './place-stats.ts';

/** How much a backup of a registry would copy. */
export interface InventorySize {
  readonly repositories: number;
  readonly tags: number;
  /** Every image with all its layers, since each is in an archive of its own. */
  readonly bytes: number;
  /** Tags that were pushed within the last 30 days. Undefined: the registry does not say when. */
  readonly pushedTags: number | undefined;
}

const MONTH_MS = 30 * 24 * 60 * 60 * 1000;

/**
 * Measures a registry: ECR by its lists alone, in which the images of an index have their own sizes, and any other registry by every manifest and
 * no layer.
 */
export async function measureInventory(place: Place, backends: Backends, options: ListOptions): Promise<InventorySize> {
  const repositories = new Set<string>();
  const counted = new Set<string>();
  const since = options.clock.now() - MONTH_MS;
  let [tags, bytes, pushedTags, isDated] = [0, 0, 0, true];
  for await (const entry of listPlace(place, backends, { ...options, untagged: true })) {
    const { digest, mediaType, repository, tag, size, pushedAt } = entry;
    repositories.add(repository);
    const name = `${repository}@${digest ?? ''}`;
    // ECR states for an index the size of its largest image, and lists each of its images too
    if (!isIndexType(mediaType ?? '') && !counted.has(name)) bytes += size ?? 0;
    counted.add(name);
    if (size === undefined || pushedAt === undefined) isDated = false;
    else if (tag !== undefined && Date.parse(pushedAt) >= since) pushedTags++;
    if (tag !== undefined) tags++;
  }
  if (isDated) return { repositories: repositories.size, tags, bytes, pushedTags };
  const { archiveBytes } = await placeStats(place, backends, options);
  return { repositories: repositories.size, tags, bytes: archiveBytes, pushedTags: undefined };
}
