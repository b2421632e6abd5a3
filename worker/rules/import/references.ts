import { parseReference, type Repository, formatRepository } from '../../oci/reference.ts';
import { isDerivedTag } from '../../oci/derived-tag.ts';
import { isFailure } from '../../util/failure.ts';
import type { Tags } from './mapping.ts';
import { tagMatcher } from '../../oci/tag-pattern.ts';

/** An image as another tool names it. */
export interface NamedImage {
  readonly repository: Repository;
  /** Absent: the tool's own default. */
  readonly tag: string | undefined;
  readonly digest: string | undefined;
}

/** Reads `[host/]repository[:tag][@digest]`. Undefined for what is not an image, such as a template or a folder. */
export function readImage(text: string): NamedImage | undefined {
  try {
    const { registry, repository, tag, digest } = parseReference(text);
    const isTagged = /:[^/@]*(?:@|$)/.test(text.slice(text.lastIndexOf('/') + 1).replace(/@.*$/, ''));
    return { repository: { registry, repository }, tag: isTagged ? tag : undefined, digest };
  } catch (error) {
    if (isFailure(error, 'INVALID')) return undefined;
    throw error;
  }
}

/** `host/repository`. */
export function nameOf({ repository }: NamedImage): string {
  return formatRepository(repository);
}

/** What a rule is called: the repository, without the namespace of Docker Hub's own images. */
export function plainName({ registry, repository }: Repository): string {
  return registry === 'docker.io' ? repository.replace(/^library\//, '') : repository;
}

/** Whether a selection of another tool takes tags of signatures, as tags like all others. */
export function takesSignatures({ include = [], exclude = [], semver, latest }: Tags): boolean {
  if (semver !== undefined || latest !== undefined) return false;
  const example = `sha256-${'0'.repeat(64)}.sig`;
  const matches = (pattern: string): boolean => tagMatcher(pattern)(example);
  return isDerivedTag(example) && (include.length === 0 || include.some(matches)) && !exclude.some(matches);
}

export const BY_DIGEST = 'a rule chooses images by tag, and this is one digest: copy it once with `transship copy`';
export const ONE_PLATFORM =
  'it wrote the manifest of this platform; the rule writes an index of this platform alone, which has another digest';
export const NOT_AN_IMAGE = 'it is not the name of an image in a registry';
export const INSECURE =
  'a rules file has no such setting: the certificate of this registry has to be one that the machine trusts (docs/registries.md)';
