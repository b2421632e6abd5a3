import type { CopyJob } from '../queue/job.ts';
import { parseLocation, matchesPattern } from '../oci/location.ts';
import type { Reference } from '../oci/reference.ts';
import type { SyncRecord } from '../state/state.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { choicesKey, destinationsOf, publishedAt } from './destinations.ts';
import { isCopyRule, type CopyRule, type Rule } from './rule.ts';
import { aloneSelector } from './select.ts';
import { registryName, sourcesOf } from './sources.ts';

/** The job of a rule, before it writes a destination. */
export interface Writer extends Pick<CopyJob, 'from' | 'platforms' | 'referrers'> {
  readonly rule: string;
}

/** What is remembered of the writer of a destination. */
export type Written = Pick<SyncRecord, 'rule' | 'source' | 'choices'>;

/**
 * Whether the destination was last written for another rule, or for this rule from another repository. Another tag of the same repository is
 * not another source: `latest` gives one destination to one tag after another. A rule that
 * copies the same image with the same choices writes the same bytes, so it is not foreign either.
 */
export function isForeign(written: Written, writer: Writer): boolean {
  const { rule, from } = writer;
  if (written.rule === undefined) return false;
  if (written.source === from && written.choices === choicesKey(writer)) return false;
  if (written.rule !== rule) return true;
  const [before, now] = [imageOf(written.source), imageOf(from)];
  return before !== undefined && now !== undefined && repositoryOf(before) !== repositoryOf(now);
}

/**
 * Whether `rule` still makes the destination of `record` from the image that it was made from. `latest` and `maxAgeDays` count as fulfilled.
 *
 * @param dateMs the moment that `{date}` stands for, in milliseconds since 1970
 */
export function stillWrites(rule: Rule, record: SyncRecord, dateMs: number): boolean {
  if (rule.kind === 'publish') return rule.from === record.source && publishedAt(rule.to).group === record.group;
  const image = imageOf(record.source);
  if (image === undefined || !isCopyRule(rule)) return false;
  // it was copied, so a tag that looks like that of a list of referrers named an image
  if (!aloneSelector(rule.tags)({ ...image, namesImage: true })) return false;
  return sourcesOf(rule).some(
    ({ registry, pattern }) =>
      registryName(registry) === registryName(image.registry) &&
      matchesPattern(pattern, image.repository) &&
      makes(rule, { ...image, registry }, record, dateMs),
  );
}

function makes(rule: CopyRule, image: Reference, record: SyncRecord, dateMs: number): boolean {
  try {
    return destinationsOf(rule, image, record.sourceDigest, dateMs).some(
      ({ group, name }) => group === record.group && name === record.name,
    );
  } catch (error) {
    // a template that makes no name of this image
    if (isFailure(error, 'INVALID')) return false;
    throw error;
  }
}

/** The refusal of a second writer of `destination`: CONFLICT, with the names of both rules. */
export function writtenTwice(
  destination: string,
  writer: Pick<Writer, 'rule' | 'from'>,
  first: Pick<Writer, 'rule' | 'from'>,
): Failure {
  const { rule, from } = writer;
  const why =
    first.rule === rule
      ? `the rule writes it from ${first.from} already: leave one of these images out, or give them destinations that differ`
      : `rule ${quote(first.rule)} writes it already, from ${first.from}: change the destinations or the selection of one of the rules, or remove one`;
  return new Failure('CONFLICT', `copy ${from} to ${destination} for rule ${quote(rule)}: ${why}`, {
    context: { side: 'target' },
  });
}

/** The image that `source` names; undefined where it is not one of a registry. */
function imageOf(source: string): Reference | undefined {
  try {
    const location = parseLocation(source);
    return location.transport === 'docker' ? location.reference : undefined;
  } catch (error) {
    if (isFailure(error, 'INVALID')) return undefined;
    throw error;
  }
}

function repositoryOf({ registry, repository }: Reference): string {
  return `${registryName(registry)}/${repository}`;
}
