import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { matchesPattern } from './location.ts';

/** Which images of a registry are meant: a pattern of repositories, and one of tags. */
export interface ImageFilter {
  readonly repositories: string;
  /** Absent: every image, untagged ones too. */
  readonly tags: string | undefined;
}

/**
 * Reads `pattern[:tags]`, each of them with `*` and `{a,b}`: `team/*`, `team/app:1.*`. INVALID for what cannot match a repository or a tag.
 */
export function parseImageFilter(text: string): ImageFilter {
  const colon = text.indexOf(':', text.lastIndexOf('/') + 1);
  const repositories = colon === -1 ? text : text.slice(0, colon);
  const tags = colon === -1 ? undefined : text.slice(colon + 1);
  if (!/^[a-z0-9._/*{},-]+$/.test(repositories) || (tags !== undefined && !/^[\w.*{},-]+$/.test(tags)))
    throw new Failure(
      'INVALID',
      `${quote(text)} matches no image: expected a pattern of repositories, and perhaps one of tags, such as team/*:1.*`,
    );
  // a brace that is not closed
  matchesPattern(repositories, '');
  if (tags !== undefined) matchesPattern(tags, '');
  return { repositories, tags };
}

/** The filters as a command line has them: `--only team/* --only base:1.*`. */
export function formatImageFilters(filters: readonly ImageFilter[]): string {
  return filters
    .map(({ repositories, tags }) => `--only ${tags === undefined ? repositories : `${repositories}:${tags}`}`)
    .join(' ');
}

/** The failure of filters that choose no image of `where`. */
export function matchesNothing(filters: readonly ImageFilter[], where: string): Failure {
  return new Failure('NOT_FOUND', `${formatImageFilters(filters)} matches no image of ${where}`);
}

/** Whether one of `filters` matches the repository. Without filters every one does. */
export function matchesRepository(filters: readonly ImageFilter[], repository: string): boolean {
  return filters.length === 0 || filters.some(({ repositories }) => matchesPattern(repositories, repository));
}

/**
 * Which of the tags of an image match; undefined where the image does not. An image without a matching tag matches where a filter names no tags.
 */
export function matchingTags(
  filters: readonly ImageFilter[],
  repository: string,
  tags: readonly string[],
): readonly string[] | undefined {
  const ofRepository = filters.filter(({ repositories }) => matchesPattern(repositories, repository));
  if (filters.length === 0 || ofRepository.some((filter) => filter.tags === undefined)) return tags;
  const matching = tags.filter((tag) => ofRepository.some((filter) => matchesPattern(filter.tags ?? '*', tag)));
  return matching.length === 0 ? undefined : matching;
}
