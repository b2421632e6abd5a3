import semver from 'semver';
import type { Digest } from '../oci/digest.ts';
import { isTag, type Reference } from '../oci/reference.ts';
import { expressionParts } from '../oci/tag-pattern.ts';
import type { TagSelection } from './rule.ts';
import type { SourcePattern } from './sources.ts';

/** Stands for a tag that is selected, where no example is known. */
export const ANY_TAG = 'x';
/** Stands for the digest of every sample. */
export const SAMPLE_DIGEST: Digest = `sha256:${'0'.repeat(64)}`;

const USUAL_TAGS = ['latest', '1.0.0', '1.0', 'v1.0.0', 'v1', 'main'];

/** An image of a source. A pattern stands for one of the repositories that it matches. Without `tag` the image goes by its digest. */
export function sampleImage(
  { registry, pattern }: Pick<SourcePattern, 'registry' | 'pattern'>,
  tag: string | undefined,
): Reference {
  const repository = pattern.replace(/\*+/g, 'x');
  return tag === undefined ? { registry, repository, digest: SAMPLE_DIGEST } : { registry, repository, tag };
}

/**
 * Tags to try with a selection: those that it names, examples of its patterns, the lowest version of its range, and usual ones. The selection
 * need not take all of them.
 */
export function sampleTags({ include, semver: range }: TagSelection): readonly string[] {
  const lowest = range === undefined ? undefined : semver.minVersion(range)?.version;
  const examples = [...include.flatMap(examplesOf), ...(lowest === undefined ? [] : [lowest]), ...USUAL_TAGS];
  return [...new Set(examples)].filter(isTag);
}

function examplesOf(pattern: string): readonly string[] {
  const expression = expressionParts(pattern);
  if (expression !== undefined) return [expression.source.replace(/[\^$\\]/g, '')];
  const plain = pattern.replace(/\{([^,}]*)[^}]*\}/g, '$1').replace(/\[([A-Za-z0-9._])[^\]]*\]/g, '$1');
  return ['0', 'a'].map((filling) => plain.replace(/[*?]/g, filling));
}
