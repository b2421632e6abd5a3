import { isPattern, matchesPattern, type ImagePattern } from '../oci/location.ts';
import { isRepositoryName } from '../oci/reference.ts';
import { Failure, type Side } from '../util/failure.ts';
import { compareStrings, quote } from '../util/text.ts';
import type { Backends, OperationOptions } from './backends.ts';

/** The repositories that a place in a registry names, sorted. NOT_FOUND where a pattern matches none. `side`: whose credentials are used. */
export async function repositoriesOf(
  { pattern, text }: { readonly pattern: ImagePattern; readonly text: string },
  backends: Backends,
  { side, ...options }: OperationOptions & { readonly side: Side },
): Promise<readonly string[]> {
  const { repository, registry: host } = pattern;
  if (!isPattern(repository)) return [repository];
  const found: string[] = [];
  const prefix = repository.slice(0, repository.search(/[*{]/));
  for await (const name of backends.registry(host, side).repositories(prefix, options)) {
    if (!matchesPattern(repository, name)) continue;
    if (isRepositoryName(name)) found.push(name);
    else
      options.report?.({
        type: 'warning',
        message: `${host} lists ${quote(name)}, which cannot be a repository: it is passed over`,
      });
  }
  if (found.length === 0) throw new Failure('NOT_FOUND', `no repository matches ${quote(text)}`);
  return found.sort(compareStrings);
}
