import type { Backends } from '../../images/backends.ts';
import type { Digest } from '../../oci/digest.ts';
import { parseS3 } from '../../oci/location.ts';
import type { Reference, Repository } from '../../oci/reference.ts';
import type { Item } from '../../retention/inventory.ts';
import { destinationsOf } from '../../rules/destinations.ts';
import type { CopyRule } from '../../rules/rule.ts';
import type { Destinations, SyncRecord } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';
import { sameEtag } from '../../util/etag.ts';
import { isFailure } from '../../util/failure.ts';
import { shortened } from '../planner/plan-jobs.ts';

export interface RecordedBackupsOptions {
  /** `s3://bucket/prefix/`. */
  readonly place: string;
  /** Rules that back up. */
  readonly rules: readonly CopyRule[];
  readonly destinations: Pick<Destinations, 'list'>;
  readonly backends: Pick<Backends, 'bucket'>;
  readonly nowMs: number;
}

/**
 * Which images of one repository have a backup below a place: the state has a record that an archive was made equal to that digest, with
 * everything that belongs to it, and the object is there now, with the size and the ETag that it had then. Every byte of it was hashed when it
 * was written. No archive is read.
 *
 * Archives are looked for where rules put those of the repository today: with `{date}` in the name of a folder only those of today are found.
 * Memory is that of the objects of one folder, and of the records of the folders that were read.
 */
export class RecordedBackups {
  readonly #options: RecordedBackupsOptions;
  readonly #repository: Repository;
  /** Records of archives that are there, by the digest of the image. */
  readonly #found = new Map<string, SyncRecord[]>();
  /** Folders that were read. */
  readonly #read = new Set<string>();

  constructor(repository: Repository, options: RecordedBackupsOptions) {
    this.#repository = repository;
    this.#options = options;
  }

  /** Whether `item` has one. `parts` are digests of everything that goes with it. */
  async has(item: Item, parts: readonly Digest[], options: Abortable): Promise<boolean> {
    const { digest } = item;
    if (digest === undefined) return false;
    for (const image of this.#references(item))
      for (const group of this.#groups(image, digest)) await this.#readGroup(group, options);
    return (this.#found.get(digest) ?? []).some((record) => hasAll(record, digest, parts));
  }

  /** What the image is called: by its tags, and by its digest. */
  #references({ tags, digest }: Item): readonly Reference[] {
    const { registry, repository } = this.#repository;
    const named = tags.map((tag): Reference => ({ registry, repository, tag }));
    return [...named, { registry, repository, digest }];
  }

  /** The folders below the place where rules put the archive of the image. */
  #groups(image: Reference, digest: Digest): readonly string[] {
    const { rules, place, nowMs } = this.#options;
    const groups = rules.flatMap((rule) => {
      try {
        return destinationsOf(rule, image, digest, nowMs)
          .filter(({ location }) => location.startsWith(place))
          .map(({ group }) => group);
      } catch (error) {
        // a template that gives this image no name
        if (!isFailure(error, 'INVALID')) throw error;
        return [];
      }
    });
    return [...new Set(groups)];
  }

  async #readGroup(group: string, options: Abortable): Promise<void> {
    if (this.#read.has(group)) return;
    const { destinations, backends } = this.#options;
    const { bucket, key: folder } = parseS3(group);
    const prefix = folder === '' ? '' : `${folder}/`;
    const objects = new Map<string, { readonly size: number; readonly etag: string }>();
    for await (const { key, size, etag } of backends.bucket(bucket).list(prefix, options))
      objects.set(key, { size, etag });
    for await (const record of destinations.list(group, options)) {
      const key = `${prefix}${record.name}`;
      const object = objects.get(key);
      if (object === undefined || record.etag === undefined || !isAsRecorded(record, object)) continue;
      const known = this.#found.get(record.digest);
      if (known === undefined) this.#found.set(record.digest, [record]);
      else known.push(record);
    }
    this.#read.add(group);
  }
}

/**
 * Which of these archives are not as a worker wrote them, by their keys, and why: they may be cut off, or something else. An archive that no
 * worker wrote counts as whole: no archive is read.
 */
export async function changedArchives(
  place: string,
  items: readonly Item[],
  destinations: Pick<Destinations, 'list'>,
  options: Abortable,
): Promise<ReadonlyMap<string, string>> {
  const { bucket } = parseS3(place);
  const byFolder = Map.groupBy(items, ({ id }) => id.slice(0, Math.max(id.lastIndexOf('/'), 0)));
  const changed = new Map<string, string>();
  for (const [folder, archives] of byFolder) {
    const byName = new Map(archives.map((item) => [item.id.slice(item.id.lastIndexOf('/') + 1), item]));
    for await (const record of destinations.list(
      folder === '' ? `s3://${bucket}` : `s3://${bucket}/${folder}`,
      options,
    )) {
      const item = byName.get(record.name);
      const { bytes, etag } = item ?? {};
      if (item === undefined || bytes === undefined || etag === undefined || record.size === undefined) continue;
      if (!isAsRecorded(record, { size: bytes, etag })) changed.set(item.id, 'it is not as a worker wrote it');
    }
  }
  return changed;
}

function isAsRecorded({ size, etag }: SyncRecord, object: { readonly size: number; readonly etag: string }): boolean {
  return size === object.size && (etag === undefined || sameEtag(etag, object.etag));
}

/** Whether everything came along. Where a record does not say what did, an image alone is enough. */
function hasAll({ manifests }: SyncRecord, digest: Digest, parts: readonly Digest[]): boolean {
  const others = parts.filter((part) => part !== digest);
  if (manifests === undefined) return others.length === 0;
  return others.every((part) => manifests.includes(shortened(part)) && !manifests.includes(`!${shortened(part)}`));
}
