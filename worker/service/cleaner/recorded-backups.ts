import type { Backends } from '../../images/backends.ts';
import type { Digest } from '../../oci/digest.ts';
import { parseS3 } from '../../oci/location.ts';
import type { Reference, Repository } from '../../oci/reference.ts';
import type { Item } from '../../retention/inventory.ts';
import { destinationsOf } from '../../rules/destinations.ts';
import type { CopyRule } from '../../rules/rule.ts';
import type { Destinations, SyncRecord } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';
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
        // a template that makes no name of this image
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
      if (object === undefined || record.size !== object.size || record.etag === undefined) continue;
      if (plainEtag(record.etag) !== plainEtag(object.etag)) continue;
      const known = this.#found.get(record.digest);
      if (known === undefined) this.#found.set(record.digest, [record]);
      else known.push(record);
    }
    this.#read.add(group);
  }
}

/** Whether everything came along. Where a record does not say what did, an image alone is enough. */
function hasAll({ manifests }: SyncRecord, digest: Digest, parts: readonly Digest[]): boolean {
  const others = parts.filter((part) => part !== digest);
  if (manifests === undefined) return others.length === 0;
  return others.every((part) => manifests.includes(shortened(part)) && !manifests.includes(`!${shortened(part)}`));
}

/** Some stores quote an ETag in one answer and not in another. */
function plainEtag(etag: string): string {
  return etag.replaceAll('"', '');
}
