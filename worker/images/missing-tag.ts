import type { Source } from '../content/content.ts';
import { isDerivedTag } from '../oci/derived-tag.ts';
import { formatReference, formatRepository, isTag, type Reference } from '../oci/reference.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { nearest } from '../util/suggest.ts';

/** Tags that the message for a missing one names. */
const NAMED = 5;

/**
 * `error`; where it means that the registry does not have the tag of `reference`, the same with the nearest tags that the repository has. The list of
 * tags costs a request or a few; where it cannot be read, `error` is returned unchanged.
 */
export async function withNearestTags(
  error: unknown,
  { tag, digest, ...repository }: Reference,
  source: Source,
  options: Abortable,
): Promise<unknown> {
  if (tag === undefined || digest !== undefined || !isFailure(error, 'NOT_FOUND')) return error;
  // an archived image exists, and the message of its failure already has the next step
  if (error.context['archived'] === true) return error;
  const listed = await source.listedTags?.(options);
  if (listed === undefined || listed.has(tag)) return error;
  const others = [...listed].filter((one) => isTag(one) && !isDerivedTag(one));
  const has =
    others.length === 0
      ? `${formatRepository(repository)} has no tags`
      : `${others.length > NAMED ? 'the nearest tags are' : 'its tags are'} ${nearest(tag, others, NAMED).join(', ')}`;
  return new Failure('NOT_FOUND', `read ${formatReference({ ...repository, tag })}: there is no such tag; ${has}`, {
    cause: error,
    context: error.context,
  });
}
