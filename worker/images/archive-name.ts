import { posix } from 'node:path';
import { archiveKindOf } from '../oci/archive-key.ts';
import { templateValues } from '../oci/key-template.ts';
import type { Location } from '../oci/location.ts';
import type { Reference } from '../oci/reference.ts';

/**
 * Whether the key of an archive contains the name that the archive itself has, as the key of a backup does: it ends in `{repository}/{tag}`. What
 * stands before that, below the prefix that was asked for, must be what templates make of the registry (`{regionName}` in the default one) or of the
 * day, and may have folders before it. A key inside the folder of another repository is therefore not one: its own registry comes first.
 */
export function isNamedByKey(location: Location, prefix: string, image: Reference): boolean {
  const path = location.transport === 's3' ? location.key : location.transport === 'archive' ? location.path : '';
  const kind = archiveKindOf(path);
  if (kind === undefined) return false;
  const all = segmentsOf(path.slice(0, -kind.length - 1));
  const name = [...image.repository.split('/'), image.tag ?? image.digest?.replace(':', '-') ?? ''];
  if (all.slice(-name.length).join('/') !== name.join('/')) return false;
  const folders = all.slice(segmentsOf(prefix).length, -name.length);
  const before = folders.filter((segment) => !isDate(segment));
  const at = before.findIndex(isOfRegistry);
  if (at === -1) return before.length === 0;
  const values: readonly (string | undefined)[] = Object.values(templateValues(image.registry));
  return before.slice(at).every((segment) => isOfRegistry(segment) && values.includes(segment));
}

/**
 * Whether a template can have made the segment of a registry: a region, a host or an account. Decided by its form alone, because an archive may
 * name any host, such as `x.dkr.ecr.anything.amazonaws.com`.
 */
function isOfRegistry(segment: string): boolean {
  return /^[a-z]{2,4}(?:-[a-z]+)+-\d+$|\.|[:_]\d+$|^localhost$|^\d{12}$/.test(segment);
}

/** Whether `{date}` can have made the segment. */
function isDate(segment: string): boolean {
  return /^\d{4}-\d{2}-\d{2}$/.test(segment) && !Number.isNaN(Date.parse(segment));
}

function segmentsOf(path: string): readonly string[] {
  return posix
    .normalize(path)
    .split('/')
    .filter((segment) => segment !== '' && segment !== '.');
}
