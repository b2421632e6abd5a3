import { isDerivedTag } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import { isPattern, matchesPattern } from '../oci/location.ts';
import { isTag } from '../oci/reference.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure, isFailure, onSide } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import { quote } from '../util/text.ts';
import type { ListedImage, OperationOptions, Registry } from './backends.ts';

/** A manifest as its repository lists it: an image, a child of one, or what refers to one. */
export interface ListedManifest {
  readonly digest: Digest;
  /** Also those of cosign and of the referrers' fallback. Empty: it is listed without a tag. */
  readonly tags: readonly string[];
  /** Absent: not listed. */
  readonly mediaType?: string | undefined;
  /** Bytes of the manifest itself. Absent: not listed. */
  readonly size?: number | undefined;
  readonly artifactType?: string | undefined;
  readonly pushedAt?: Date | undefined;
  readonly subject?: Digest | undefined;
  /** Whether it is in ECR's archive storage class, where it cannot be pulled. */
  readonly isArchived: boolean;
}

/** What a repository listed at one time. */
export interface RepositoryListing {
  readonly manifests: ReadonlyMap<Digest, ListedManifest>;
  /** Every tag of the repository with what it stands for; those of cosign without it where that takes a request. Undefined: not all were listed. */
  readonly tags: ReadonlyMap<string, Digest | undefined> | undefined;
  /** What names which manifest as its subject. Undefined where the registry has no such list: it is asked for each manifest. */
  readonly bySubject: ReadonlyMap<Digest, readonly Digest[]> | undefined;
}

/** A tag that is listed and was not found out about. */
export type OnUnlisted = (tag: string | undefined, error: Failure) => void;

const HEADS_AT_ONCE = 8;

/**
 * Lists a repository: by pages of a thousand rows where the registry has such a list (ECR), else by its tags and a HEAD for each. With `tags`,
 * the images whose tags match, or the one with that tag. A tag that cannot be resolved goes to `onUnlisted`, and one that is gone is left out.
 * NOT_FOUND without the repository.
 */
export async function listRepository(
  registry: Registry,
  repository: string,
  tags: string | undefined,
  onUnlisted: OnUnlisted,
  options: OperationOptions,
): Promise<RepositoryListing> {
  if (tags !== undefined && !isPattern(tags)) return onSide('source', listOne(registry, repository, tags, options));
  const list = registry.images === undefined ? listTags : listRows;
  return onSide('source', list(registry, repository, tags, onUnlisted, options));
}

/** The image with this tag alone. */
async function listOne(
  registry: Registry,
  repository: string,
  tag: string,
  options: Abortable,
): Promise<RepositoryListing> {
  if (!isTag(tag)) throw new Failure('INVALID', `${quote(tag)} is not a tag`);
  const found = await registry.repository(repository).resolve(tag, options);
  const manifest = { ...listedAs(found), tags: [tag] };
  return { manifests: new Map([[found.digest, manifest]]), tags: undefined, bySubject: undefined };
}

async function listRows(
  { images }: Registry,
  repository: string,
  pattern: string | undefined,
  onUnlisted: OnUnlisted,
  options: Abortable,
): Promise<RepositoryListing> {
  const manifests = new Map<Digest, ListedManifest>();
  const byTag = new Map<string, Digest>();
  const bySubject = new Map<Digest, Digest[]>();
  for await (const row of images?.(repository, options) ?? []) {
    for (const tag of row.tags) byTag.set(tag, row.digest);
    if (row.subject !== undefined && row.status === 'ACTIVE') {
      const others = bySubject.get(row.subject);
      if (others === undefined) bySubject.set(row.subject, [row.digest]);
      else others.push(row.digest);
    }
    manifests.set(row.digest, listedRow(row, checkedTags(row.tags, pattern, onUnlisted)));
  }
  return { manifests, tags: byTag, bySubject };
}

async function listTags(
  registry: Registry,
  repository: string,
  pattern: string | undefined,
  onUnlisted: OnUnlisted,
  options: OperationOptions,
): Promise<RepositoryListing> {
  const source = registry.repository(repository);
  const all: string[] = [];
  for await (const tag of source.tags(options)) all.push(tag);
  const tags = new Map<string, Digest | undefined>(all.map((tag) => [tag, undefined]));
  const found = new Map<Digest, { readonly manifest: ListedManifest; readonly tags: string[] }>();
  await forEachOf(
    // tags of cosign are resolved with the image that they are about
    checkedTags(all, pattern, onUnlisted).filter((tag) => !isDerivedTag(tag)),
    HEADS_AT_ONCE,
    async (tag, { signal }) => {
      try {
        const descriptor = await source.resolve(tag, { signal });
        tags.set(tag, descriptor.digest);
        const before = found.get(descriptor.digest);
        if (before === undefined) {
          const own = [tag];
          found.set(descriptor.digest, { manifest: { ...listedAs(descriptor), tags: own }, tags: own });
        } else before.tags.push(tag);
      } catch (error) {
        checkAborted(options);
        if (!isFailure(error)) throw error;
        if (error.code === 'NOT_FOUND') tags.delete(tag);
        else onUnlisted(tag, error);
      }
    },
    options,
  );
  const manifests = new Map(Array.from(found, ([digest, { manifest }]) => [digest, manifest]));
  for (const { tags: own } of found.values()) own.sort();
  return { manifests, tags, bySubject: undefined };
}

function listedAs(descriptor: {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
}): Omit<ListedManifest, 'tags'> {
  const { digest, mediaType, size } = descriptor;
  return { digest, mediaType, size, isArchived: false };
}

function listedRow(row: ListedImage, tags: readonly string[]): ListedManifest {
  const { digest, mediaType, pushedAt, subject, artifactMediaType: artifactType } = row;
  return { digest, tags, mediaType, artifactType, pushedAt, subject, isArchived: row.status !== 'ACTIVE' };
}

/** Those that are tags and match. A registry may list anything. */
function checkedTags(tags: readonly string[], pattern: string | undefined, onUnlisted: OnUnlisted): readonly string[] {
  return tags.filter((tag) => {
    if (pattern !== undefined && (isDerivedTag(tag) || !matchesPattern(pattern, tag))) return false;
    if (isTag(tag)) return true;
    onUnlisted(undefined, new Failure('INVALID', `the registry lists ${quote(tag)}, which cannot be a tag`));
    return false;
  });
}
