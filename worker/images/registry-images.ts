import { isPattern, matchesPattern, parseImagePattern, withoutTransport, type ImagePattern } from '../oci/location.ts';
import { isRepositoryName } from '../oci/reference.ts';
import { Failure, onSide } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import type { OperationOptions, Registry } from './backends.ts';

/** The host of a registry alone: with a dot or a port, and no repository. */
const HOST = /^(?:[a-z0-9-]+(?:\.[a-z0-9-]+)+|localhost(?=:))(?::[0-9]{1,5})?\/?$/i;

/**
 * Reads which images of a registry are meant: as `parseImagePattern`, and the host of any registry alone for all of it. INVALID also for a pattern of
 * tags that cannot be one.
 */
export function parseRegistryImages(text: string): ImagePattern {
  const bare = withoutTransport(text);
  const pattern = parseImagePattern(HOST.test(bare) ? `${bare.replace(/\/$/, '')}/*` : text);
  if (pattern.tag !== undefined) matchesPattern(pattern.tag, '');
  return pattern;
}

/** The repositories of a registry that match, sorted, and what it lists that cannot be one: a sentence each. */
export interface MatchingRepositories {
  readonly names: readonly string[];
  readonly faults: readonly string[];
}

/** The repositories that the pattern names. NOT_FOUND where none matches; without a pattern the one that it names, whether it exists or not. */
export async function repositoriesMatching(
  registry: Registry,
  { registry: host, repository: pattern }: ImagePattern,
  options: OperationOptions,
): Promise<MatchingRepositories> {
  if (!isPattern(pattern)) return { names: [pattern], faults: [] };
  return onSide('source', list(registry, host, pattern, options));
}

async function list(
  registry: Registry,
  host: string,
  pattern: string,
  options: OperationOptions,
): Promise<MatchingRepositories> {
  const names = new Set<string>();
  const faults: string[] = [];
  for await (const name of registry.repositories(pattern.slice(0, pattern.search(/[*{]/)), options)) {
    if (!matchesPattern(pattern, name)) continue;
    // it becomes part of a key or path
    if (isRepositoryName(name)) names.add(name);
    else faults.push(`${host} lists ${quote(name)}, which cannot be a repository: it was not backed up`);
  }
  if (names.size === 0) throw new Failure('NOT_FOUND', `${host} has no repository that matches ${pattern}`);
  return { names: [...names].sort(), faults };
}
