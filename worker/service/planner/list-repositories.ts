import type { Backends } from '../../images/backends.ts';
import { matchesPattern } from '../../oci/location.ts';
import { formatRepository, isRepositoryName, type Repository } from '../../oci/reference.ts';
import type { CopyRule } from '../../rules/rule.ts';
import { formatSource, sourcesOf } from '../../rules/sources.ts';
import type { Abortable } from '../../util/abort.ts';
import type { Report } from '../../util/events.ts';
import { atSide } from '../../util/failure.ts';
import { compareStrings, quote } from '../../util/text.ts';

export interface ListRepositoriesOptions extends Abortable {
  readonly report?: Report | undefined;
  /** Called for a source that cannot be listed; the others go on. */
  readonly fail: (title: string, error: unknown) => Promise<void>;
}

/** The repositories that a rule names, each once, in the order of their names (`registry/repository`). Patterns are listed. */
export async function listRepositories(
  rule: CopyRule,
  backends: Backends,
  options: ListRepositoriesOptions,
): Promise<readonly Repository[]> {
  const { signal, report, fail } = options;
  const found = new Map<string, Repository>();
  const add = (one: Repository): void => void found.set(formatRepository(one), one);
  for (const { registry, pattern, prefix } of sourcesOf(rule)) {
    if (!pattern.includes('*')) {
      add({ registry, repository: pattern });
      continue;
    }
    try {
      for await (const repository of backends.registry(registry, 'source').repositories(prefix, { signal })) {
        if (!matchesPattern(pattern, repository)) continue;
        // it becomes part of a name or key
        if (isRepositoryName(repository)) add({ registry, repository });
        else {
          const message = `${registry} lists ${quote(repository)}, which cannot be a repository: it is left out`;
          report?.({ type: 'warning', message });
        }
      }
    } catch (error) {
      await fail(`list docker://${formatSource({ registry, pattern, prefix })}`, atSide('source', error));
    }
  }
  return [...found.entries()].toSorted(([a], [b]) => compareStrings(a, b)).map(([, one]) => one);
}
