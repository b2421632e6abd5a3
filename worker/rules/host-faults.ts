import { ecrHostFault } from '../oci/ecr-host.ts';
import { isPattern } from '../oci/location.ts';
import { parseRepository } from '../oci/reference.ts';
import { quote } from '../util/text.ts';
import { parseTemplate } from './destinations.ts';
import type { Fault, Path } from './faults.ts';
import { isCopyRule, type Rule } from './rule.ts';
import { formatSource, parseSource } from './sources.ts';
import { isStore } from './stores.ts';

/**
 * What is known of a rule's registries without asking them: a host that looks like one of Amazon ECR and cannot be one, and a pattern of
 * repositories at Docker Hub, which does not list any.
 */
export function* hostFaults({ rule, path }: { readonly rule: Rule; readonly path: Path }): Iterable<Fault> {
  const read = isCopyRule(rule) ? rule.from : rule.kind === 'publish' ? [] : rule.at.filter(isOfRegistry);
  const key = isCopyRule(rule) ? 'from' : 'at';
  for (const source of read.flatMap(parseSource)) {
    const wrong = ecrHostFault(source.registry);
    if (wrong !== undefined) yield { path: [...path, rule.kind, key], message: wrong };
    if (source.registry === 'docker.io' && isPattern(source.pattern))
      yield {
        path: [...path, rule.kind, key],
        message: `${quote(formatSource(source))} is a pattern, and Docker Hub does not list its repositories: name each one, such as docker.io/library/{alpine,node}`,
      };
  }
  for (const registry of writtenRegistries(rule)) {
    const wrong = ecrHostFault(registry);
    if (wrong !== undefined) yield { path: [...path, rule.kind, 'to'], message: wrong };
  }
}

function isOfRegistry(at: string): boolean {
  return !at.startsWith('s3://') && !isStore(at);
}

function writtenRegistries(rule: Rule): readonly string[] {
  if (rule.kind === 'publish') return [parseRepository(rule.to).registry];
  if (!isCopyRule(rule)) return [];
  return rule.to.flatMap((to) => {
    const template = parseTemplate(rule.kind, to);
    return template.transport === 'docker' ? [template.registry] : [];
  });
}
