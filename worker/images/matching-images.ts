import { isPattern, matchesPattern, type ImagePattern } from '../oci/location.ts';
import { formatReference, isTag, type Reference } from '../oci/reference.ts';
import { checkAborted } from '../util/abort.ts';
import { isFailure, onSide, type Failure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { repositoriesOf } from './list-repositories.ts';
import { chosenTags, type SelectImages } from './select-images.ts';

const LISTS_AT_ONCE = 8;

export interface MatchingOptions extends OperationOptions {
  readonly select: SelectImages;
  /** Called for a repository of several that cannot be listed, and is left out. */
  readonly onFailure: (repository: string, failure: Failure) => void;
}

/**
 * The images of a registry that a pattern and `select` choose, by repositories and then in the order that `select` gives. Costs a
 * list of repositories where these are a pattern, and a list of tags for each. Empty where nothing matches, and
 * NOT_FOUND where no repository does.
 */
export async function matchingImages(
  pattern: ImagePattern,
  backends: Backends,
  { select, onFailure, ...options }: MatchingOptions,
): Promise<readonly Reference[]> {
  const registry = backends.registry(pattern.registry, 'source');
  const names = await onSide('source', repositoriesOf({ pattern }, backends, { ...options, side: 'source' }));
  const found = new Map<string, readonly string[]>();
  await forEachOf(
    names,
    LISTS_AT_ONCE,
    async (name, { signal }) => {
      try {
        const tags: string[] = [];
        for await (const tag of registry.repository(name).tags({ signal }))
          if (isTag(tag) && (pattern.tag === undefined || matchesPattern(pattern.tag, tag))) tags.push(tag);
        found.set(name, chosenTags(select, tags));
      } catch (error) {
        checkAborted(options);
        // a registry lists repositories that are gone, or were never finished: the others are copied
        if (!isFailure(error) || error.code === 'INVALID' || !isPattern(pattern.repository)) throw error;
        onFailure(name, error);
      }
    },
    options,
  );
  return names.flatMap((repository) =>
    (found.get(repository) ?? []).map((tag) => ({ registry: pattern.registry, repository, tag })),
  );
}

/** Each image once, in the order of the first. */
export function withoutRepeated(images: readonly Reference[]): readonly Reference[] {
  return [...new Map(images.map((image) => [formatReference(image), image])).values()];
}
