import { undated } from '../../images/inventory-archives.ts';
import { matchesPattern } from '../../oci/location.ts';
import { parseRepository } from '../../oci/reference.ts';
import type { Rule } from '../../rules/rule.ts';
import { parseSource, registryName } from '../../rules/sources.ts';
import { isStore } from '../../rules/stores.ts';

/** Whether a rule prunes a place, by its canonical name. */
export function coverOf(rules: readonly Rule[]): (place: string) => boolean {
  const at = rules.flatMap((rule) => (rule.kind === 'prune' ? rule.at : []));
  const folders = at.filter((one) => one.startsWith('s3://'));
  const patterns = at
    .filter((one) => !one.startsWith('s3://') && !isStore(one))
    .flatMap(parseSource)
    .map(({ registry, pattern }) => ({ registry: registryName(registry), pattern }));
  return (place) => {
    if (isStore(place)) return at.includes(place);
    if (place.startsWith('s3://')) return folders.some((folder) => `${place}/`.startsWith(undated(folder)));
    const slash = place.indexOf('/');
    const [registry, repository] = [place.slice(0, slash), place.slice(slash + 1)];
    return patterns.some((one) => one.registry === registry && matchesPattern(one.pattern, repository));
  };
}

/** The tags that no rule deletes, by place: the latest snapshots of what rules publish. */
export function keptTagsOf(rules: readonly Rule[]): ReadonlyMap<string, ReadonlyMap<string, string>> {
  const kept = new Map<string, ReadonlyMap<string, string>>();
  for (const rule of rules) {
    if (rule.kind !== 'publish') continue;
    const { registry, repository } = parseRepository(rule.to);
    kept.set(
      `${registryName(registry)}/${repository}`,
      new Map([['latest', `the last snapshot of rule ${rule.name}`]]),
    );
  }
  return kept;
}
