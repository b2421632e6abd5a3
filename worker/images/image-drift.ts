import { unseenOf, walk, type Graph, type Root } from '../content/graph.ts';
import { formatLocation, parseLocation } from '../oci/location.ts';
import { describeFailure, isFailure, onSide } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { openLocation } from './open-location.ts';

/**
 * How `root` differs from the image at `against`, a sentence each. What refers to the image there has to be here too. More may refer to it
 * here: ECR's managed signing adds signatures of its own.
 */
export async function drift(
  root: Root,
  graph: Graph,
  against: string,
  backends: Backends,
  options: OperationOptions,
): Promise<{ readonly faults: readonly string[]; readonly unchecked: readonly string[] }> {
  const location = parseLocation(against);
  const name = formatLocation(location);
  try {
    await using other = await openLocation(backends, location, 'target', options);
    const theirs = other.root.descriptor.digest;
    if (theirs !== root.descriptor.digest)
      return { faults: [`${name} is ${theirs}, not ${root.descriptor.digest}`], unchecked: [] };
    const known = await onSide('target', walk(other.source, [other.root], options));
    const unchecked = unseenOf(known).map((why) => `of ${name}, with which it is compared, ${why}`);
    const tags = new Set(graph.referrers.flatMap((referrer) => referrer.tags));
    const missing = known.referrers.filter(
      (referrer) => !graph.manifests.has(referrer.descriptor.digest) || !referrer.tags.every((tag) => tags.has(tag)),
    );
    const [first] = missing;
    if (first === undefined) return { faults: [], unchecked };
    const few = missing.length === 1 ? '1 manifest that refers' : `${missing.length} manifests that refer`;
    const example = [first.descriptor.digest, ...first.tags].join(' with the tag ');
    const verb = missing.length === 1 ? 'is' : 'are';
    return { faults: [`${few} to the image at ${name} ${verb} missing, such as ${example}`], unchecked };
  } catch (error) {
    if (isFailure(error, 'NOT_FOUND')) return { faults: [describeFailure(error)], unchecked: [] };
    throw error;
  }
}
