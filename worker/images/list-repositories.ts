import { isPattern, matchesPattern, parseImagePattern, withoutTransport, type ImagePattern } from '../oci/location.ts';
import { isHostAlone } from '../oci/place.ts';
import { isRepositoryName } from '../oci/reference.ts';
import { Failure, type Side } from '../util/failure.ts';
import { compareStrings, quote } from '../util/text.ts';
import type { Backends, OperationOptions } from './backends.ts';

/**
 * Reads which images of a registry are meant: as `parseImagePattern`, and the host of any registry alone for all of it. INVALID also for a pattern of
 * tags that cannot be one.
 */
export function parseRegistryImages(text: string): ImagePattern {
  const bare = withoutTransport(text);
  const pattern = parseImagePattern(isHostAlone(bare) ? `${bare.replace(/\/$/, '')}/*` : text);
  if (pattern.tag !== undefined) matchesPattern(pattern.tag, '');
  return pattern;
}

export interface ListRepositoriesOptions extends OperationOptions {
  /** Whose credentials are used. */
  readonly side: Side;
  /** Called with a sentence for each name that cannot be a repository, which is left out. Default: a warning. */
  readonly onStrange?: ((message: string) => void) | undefined;
}

/** The repositories that a pattern names, each once, sorted; without `*` the one that it names, whether it exists or not. NOT_FOUND where none matches. */
export async function repositoriesOf(
  { pattern }: { readonly pattern: ImagePattern },
  backends: Backends,
  { side, onStrange, ...options }: ListRepositoriesOptions,
): Promise<readonly string[]> {
  const { repository, registry: host } = pattern;
  if (!isPattern(repository)) return [repository];
  const found = new Set<string>();
  const prefix = repository.slice(0, repository.search(/[*{]/));
  const strange = onStrange ?? ((message: string): void => options.report?.({ type: 'warning', message }));
  for await (const name of backends.registry(host, side).repositories(prefix, options)) {
    if (!matchesPattern(repository, name)) continue;
    // it may become part of a key or a path
    if (isRepositoryName(name)) found.add(name);
    else strange(`${host} lists ${quote(name)}, which cannot be a repository: it was left out`);
  }
  if (found.size === 0) throw new Failure('NOT_FOUND', `${host} has no repository that matches ${repository}`);
  return [...found].sort(compareStrings);
}
