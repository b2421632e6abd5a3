import { matchesPattern } from '../oci/location.ts';
import { parseScratchPlace, scratchFolder } from '../oci/scratch.ts';
import { quote } from '../util/text.ts';
import type { Fault, Path } from './faults.ts';
import { isCopyRule, type Rule } from './rule.ts';
import { registryName, sourcesOf } from './sources.ts';

/** Finds drills whose scratch repositories another rule would copy: a backup would then contain its own drills. */
export function* drillFaults(rules: readonly { readonly rule: Rule; readonly path: Path }[]): Iterable<Fault> {
  const sources = rules.flatMap(({ rule }) =>
    isCopyRule(rule) ? sourcesOf(rule).map((source) => ({ source, name: rule.name })) : [],
  );
  for (const { rule, path } of rules) {
    if (rule.kind !== 'verify' || rule.restoreTo === undefined) continue;
    const place = parseScratchPlace(rule.restoreTo);
    const scratch = `${scratchFolder(place, '0')}/repository`;
    const copied = sources.find(
      ({ source: { registry, pattern } }) =>
        registryName(registry) === registryName(place.registry) && matchesPattern(pattern, scratch),
    );
    if (copied !== undefined)
      yield {
        path: [...path, 'verify', 'restoreTo'],
        message: `rule ${quote(copied.name)} copies ${quote(`${copied.source.registry}/${copied.source.pattern}`)} and would copy the scratch repositories of drills too: expected another registry or Region, or sources that leave ${quote(place.prefix)} out`,
      };
  }
}
