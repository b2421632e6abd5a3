import type { Source } from '../content/content.ts';
import { isDerivedTag } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import { isPattern, matchesPattern } from '../oci/location.ts';
import type { Descriptor } from '../oci/manifest.ts';
import { isTag } from '../oci/reference.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure, isFailure, onSide } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import { quote } from '../util/text.ts';
import type { ListedImage, OperationOptions, Registry } from './backends.ts';
import { chosenTags, type SelectImages } from './select-images.ts';

/** A manifest as its repository lists it: an image, a child of one, or what refers to one. */
export interface ListedManifest extends ListedImage {
  /** Bytes of the manifest itself. Absent: not listed. */
  readonly size?: number | undefined;
}

/** What a repository listed at one time. */
export interface RepositoryListing {
  readonly manifests: ReadonlyMap<Digest, ListedManifest>;
  /**
   * Every tag of the repository with what it stands for; those of cosign, and fallback tags of referrers, without it where that takes a request.
   * Undefined: not all were listed.
   */
  readonly tags: ReadonlyMap<string, Digest | undefined> | undefined;
  /** What names which manifest as its subject, archived or not. Undefined where the registry has no such list: it is asked for each manifest. */
  readonly bySubject: ReadonlyMap<Digest, readonly Digest[]> | undefined;
}

/** Called for what is listed and could not be found out about: a tag, or something that cannot be one. */
export type OnUnlisted = (tag: string | undefined, error: Failure) => void;

const HEADS_AT_ONCE = 8;

/**
 * Lists a repository: by pages of a thousand rows where the registry has such a list (ECR), else by its tags and a HEAD for each. With `tags`,
 * those that match are enough, or the image with that one; with `select`, those that it takes, where tags are listed by name. A tag that cannot be resolved goes to `onUnlisted`, and one that is gone is left out.
 * NOT_FOUND without the repository.
 */
export async function listRepository(
  registry: Registry,
  repository: string,
  tags: string | undefined,
  onUnlisted: OnUnlisted,
  options: OperationOptions & { readonly select?: SelectImages | undefined },
): Promise<RepositoryListing> {
  if (tags !== undefined && !isPattern(tags)) return onSide('source', listOne(registry, repository, tags, options));
  const { images } = registry;
  return onSide(
    'source',
    images === undefined
      ? listTags(registry.repository(repository), tags, onUnlisted, options)
      : listRows(images(repository, options), onUnlisted),
  );
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
  const manifest = listedAs(found, [tag]);
  return { manifests: new Map([[found.digest, manifest]]), tags: undefined, bySubject: undefined };
}

/** Reads the whole list of a repository. */
export async function listRows(
  rows: AsyncIterable<ListedImage> | Iterable<ListedImage>,
  onUnlisted: OnUnlisted,
): Promise<RepositoryListing> {
  const manifests = new Map<Digest, ListedManifest>();
  const byTag = new Map<string, Digest>();
  const bySubject = new Map<Digest, Digest[]>();
  for await (const row of rows) {
    const tags = row.tags.filter((tag) => isListedTag(tag, onUnlisted));
    for (const tag of tags) byTag.set(tag, row.digest);
    if (row.subject !== undefined) {
      const others = bySubject.get(row.subject);
      if (others === undefined) bySubject.set(row.subject, [row.digest]);
      else others.push(row.digest);
    }
    manifests.set(row.digest, { ...row, tags });
  }
  return { manifests, tags: byTag, bySubject };
}

async function listTags(
  source: Source,
  pattern: string | undefined,
  onUnlisted: OnUnlisted,
  options: OperationOptions & { readonly select?: SelectImages | undefined },
): Promise<RepositoryListing> {
  const { select } = options;
  const all: string[] = [];
  for await (const tag of source.tags({ ...options, all: true })) if (isListedTag(tag, onUnlisted)) all.push(tag);
  const tags = new Map<string, Digest | undefined>(all.map((tag) => [tag, undefined]));
  // what refers to an image is resolved with it
  const named = all.filter((tag) => !isDerivedTag(tag) && (pattern === undefined || matchesPattern(pattern, tag)));
  const found = new Map<Digest, { readonly manifest: ListedManifest; readonly tags: string[] }>();
  await forEachOf(
    select === undefined ? named : chosenTags(select, named),
    HEADS_AT_ONCE,
    async (tag, { signal }) => {
      try {
        const descriptor = await source.resolve(tag, { signal });
        tags.set(tag, descriptor.digest);
        const before = found.get(descriptor.digest);
        if (before === undefined) {
          const own = [tag];
          found.set(descriptor.digest, { manifest: listedAs(descriptor, own), tags: own });
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

/** A manifest that was found by one of its tags. */
export function listedAs({ digest, mediaType, size }: Descriptor, tags: readonly string[]): ListedManifest {
  return { digest, mediaType, size, tags, pushedAt: undefined, subject: undefined, status: 'ACTIVE' };
}

/** Whether it is a tag: a registry may list anything. */
function isListedTag(tag: string, onUnlisted: OnUnlisted): boolean {
  if (isTag(tag)) return true;
  onUnlisted(undefined, new Failure('INVALID', `the registry lists ${quote(tag)}, which cannot be a tag`));
  return false;
}
