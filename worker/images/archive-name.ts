import { posix } from 'node:path';
import { archiveKindOf } from '../oci/archive-key.ts';
import { templateValues } from '../oci/key-template.ts';
import type { Location } from '../oci/location.ts';
import type { Reference } from '../oci/reference.ts';

/**
 * Whether the key of an archive names the same image as the archive itself, as the key of a backup does: it ends in `{repository}/{tag}`.
 * Before that, below the given prefix, it must have what templates make of the registry (`{regionName}` in the default one), which folders
 * may precede. So a key inside the folder of another repository names none: there, the registry of that repository comes first.
 */
export function isNamedByKey(location: Location, prefix: string, image: Reference): boolean {
  const path = location.transport === 's3' ? location.key : location.transport === 'archive' ? location.path : '';
  const kind = archiveKindOf(path);
  if (kind === undefined) return false;
  const all = segmentsOf(path.slice(0, -kind.length - 1));
  const name = [...image.repository.split('/'), image.tag ?? image.digest?.replace(':', '-') ?? ''];
  if (all.slice(-name.length).join('/') !== name.join('/')) return false;
  const before = all.slice(segmentsOf(prefix).length, -name.length);
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

function segmentsOf(path: string): readonly string[] {
  return posix
    .normalize(path)
    .split('/')
    .filter((segment) => segment !== '' && segment !== '.');
}
