import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { isRepositoryName } from './reference.ts';

/** Gives repositories other names: `team/*=archive/*` puts `team/app` at `archive/app`. */
export interface RepositoryMap {
  /** As it was written. */
  readonly text: string;
  readonly from: string;
  readonly to: string;
}

/**
 * Reads `from=to`. Each side is the name of a repository, or has one `*`, which stands for the same characters on both sides. INVALID
 * otherwise.
 */
export function parseRepositoryMap(text: string): RepositoryMap {
  const [from = '', to = '', ...more] = text.split('=');
  const stars = (side: string): number => side.split('*').length - 1;
  const isSide = (side: string): boolean => /^[a-z0-9._/*-]+$/.test(side) && stars(side) <= 1;
  if (more.length > 0 || !isSide(from) || !isSide(to) || stars(from) !== stars(to))
    throw new Failure(
      'INVALID',
      `${quote(text)} maps no repositories: expected from=to, such as team/*=archive/*, with one "*" on both sides or on neither`,
    );
  return { text, from, to };
}

/**
 * The name that the first map that matches gives to `repository`, and that map; `repository` itself where none matches. INVALID where the name
 * cannot be one of a repository.
 */
export function mapRepository(
  maps: readonly RepositoryMap[],
  repository: string,
): { readonly name: string; readonly by: RepositoryMap | undefined } {
  for (const map of maps) {
    const middle = middleOf(map.from, repository);
    if (middle === undefined) continue;
    const name = map.to.replace('*', () => middle);
    if (isRepositoryName(name)) return { name, by: map };
    throw new Failure('INVALID', `${quote(map.text)} maps ${repository} to ${quote(name)}, which is not a repository`);
  }
  return { name: repository, by: undefined };
}

/** What `*` stands for in `pattern`; empty for a pattern without `*`. Undefined where `name` does not match. */
function middleOf(pattern: string, name: string): string | undefined {
  const star = pattern.indexOf('*');
  if (star === -1) return pattern === name ? '' : undefined;
  const [start, end] = [pattern.slice(0, star), pattern.slice(star + 1)];
  const isMatch = name.length >= start.length + end.length && name.startsWith(start) && name.endsWith(end);
  return isMatch ? name.slice(start.length, name.length - end.length) : undefined;
}
