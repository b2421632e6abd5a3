import type { Backends, OperationOptions } from '../../images/backends.ts';
import { repositoriesOf } from '../../images/list-repositories.ts';
import { folderOf, readArchiveInventories, undated } from '../../images/inventory-archives.ts';
import { choosesByTag } from '../../images/plan-places.ts';
import type { PrunePlace } from '../../images/prune-places.ts';
import { archiveKindOf } from '../../oci/archive-key.ts';
import { parseS3 } from '../../oci/location.ts';
import type { Inventory } from '../../retention/inventory.ts';
import type { PruneRule } from '../../rules/rule.ts';
import { Failure } from '../../util/failure.ts';
import { compareStrings } from '../../util/text.ts';

/**
 * The places that `at` of a rule names, as their inventories do, in order: `host/repository`, or `s3://bucket/folder` of each folder that has
 * archives. Nothing of them is read yet.
 */
export async function placesAt(
  place: PrunePlace,
  backends: Backends,
  options: OperationOptions,
): Promise<readonly string[]> {
  if (place.kind === 'registry')
    return (await repositoriesOf(place, backends, { ...options, side: 'target' })).map(
      (name) => `${place.pattern.registry}/${name}`,
    );
  const { root } = place;
  if (!('bucket' in root)) throw new Failure('BUG', `prune ${place.text}: a rule names no folder of this machine`);
  const folders = new Set<string>();
  for await (const { key } of backends.bucket(root.bucket).list(root.prefix, options))
    if (archiveKindOf(key) !== undefined) folders.add(`s3://${root.bucket}/${folderOf(key)}`);
  return [...folders].sort(compareStrings);
}

/** The archives of one folder that `placesAt` named for one of `at`. No items where they are gone. */
export async function readFolder(
  place: string,
  { at, policies }: Pick<PruneRule, 'at' | 'policies'>,
  backends: Backends,
  options: OperationOptions,
): Promise<Inventory> {
  const { bucket, key: folder } = parseS3(place);
  const base = `s3://${bucket}/`;
  // below the part that has no day in it
  const [whole = ''] = folder.split('{date}');
  const prefix = whole === folder ? (folder === '' ? '' : `${folder}/`) : whole;
  const names = policies.some(choosesByTag) ? 'all' : 'few';
  // a rule may name the prefix of one day: other days are in the same place
  const counts = (key: string): boolean =>
    folderOf(key) === folder && at.some((one) => `${base}${key}`.startsWith(one));
  const store = backends.bucket(bucket);
  for await (const inventory of readArchiveInventories(store, { base, prefix }, { ...options, names, counts }))
    return { ...inventory, repository: namedBelow(inventory.repository, { place, prefix, at }) };
  return { place, repository: folder, kind: 'archives', items: [], untags: false };
}

/** Where archives do not say which repository is theirs, it is called by its folder, below the prefix that the rule names. */
function namedBelow(
  repository: string,
  { place, prefix, at }: { readonly place: string; readonly prefix: string; readonly at: readonly string[] },
): string {
  const { key: folder } = parseS3(place);
  const isFolder = repository === folder || (folder.startsWith(prefix) && repository === folder.slice(prefix.length));
  if (!isFolder) return repository;
  const root = undated(at.find((one) => `${place}/`.startsWith(undated(one))) ?? '');
  const below = `${place}/`.slice(root.length, -1);
  return below === '' ? '.' : below;
}
