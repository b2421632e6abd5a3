import { matchesPattern } from '../oci/location.ts';
import { isExpired, type Candidate, type Rule } from './rule.ts';
import { select } from './select.ts';
import { registryName, sourcesOf } from './sources.ts';

/** The candidates of a repository that no rule of kind `backup` selects now. INVALID as `select`. */
export function notBackedUpBy<C extends Candidate>(
  rules: readonly Rule[],
  { registry, repository }: { readonly registry: string; readonly repository: string },
  candidates: readonly C[],
  nowMs: number,
): readonly C[] {
  const selected = new Set<C>();
  for (const rule of rules) {
    if (rule.kind !== 'backup' || isExpired(rule, nowMs)) continue;
    const isSource = sourcesOf(rule).some(
      (source) =>
        registryName(source.registry) === registryName(registry) && matchesPattern(source.pattern, repository),
    );
    if (isSource) for (const one of select(candidates, rule.tags, nowMs)) selected.add(one);
  }
  return candidates.filter((one) => !selected.has(one));
}
