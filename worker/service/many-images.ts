import type { SelectableImage } from '../images/select-images.ts';
import { withoutTransport } from '../oci/location.ts';
import type { SnapshotJob } from '../queue/job.ts';
import type { ManyImages } from '../queue/many-images.ts';
import type { CopyRule, TagSelection } from '../rules/rule.ts';
import { select } from '../rules/select.ts';

/** What chooses the images of a job. */
export interface ChosenImages {
  readonly untagged: boolean;
  /** Absent: every image that has a tag and, with `untagged`, the others. */
  readonly select?: (images: readonly SelectableImage[]) => readonly SelectableImage[];
}

/** How a job chooses images: those that it names, or as `tags` of its rule. INVALID for a selection that cannot be read. */
export function chosenBy({ select: words, only }: Pick<ManyImages, 'select' | 'only'>, nowMs: number): ChosenImages {
  if (only !== undefined) {
    const names = new Set(only.map(({ tag, digest }) => tag ?? digest));
    return {
      untagged: only.some(({ tag }) => tag === undefined),
      select: (images) => images.filter(({ tag, digest }) => names.has(tag ?? digest ?? '')),
    };
  }
  if (words === undefined) return { untagged: false };
  const selection = selectionOf(words);
  return takesAll(selection)
    ? { untagged: selection.untagged }
    : { untagged: selection.untagged, select: (images) => select(images, selection, nowMs) };
}

function selectionOf(words: NonNullable<ManyImages['select']>): TagSelection {
  const { include = [], exclude = [], untagged = false, semver, latest, maxAgeDays } = words;
  return {
    include,
    exclude,
    untagged,
    ...(semver === undefined ? {} : { semver }),
    ...(latest === undefined ? {} : { latest }),
    ...(maxAgeDays === undefined ? {} : { maxAgeDays }),
  };
}

/** Whether every tag is taken: then a repository is listed as a whole. */
function takesAll({ include, exclude, semver, latest, maxAgeDays }: TagSelection): boolean {
  return (
    include.length === 0 &&
    exclude.length === 0 &&
    semver === undefined &&
    latest === undefined &&
    maxAgeDays === undefined
  );
}

/** Whether a job is about every tag of its repositories: then a repository is listed as a whole. */
export function listsAll({ select: words = {}, only }: Pick<ManyImages, 'select' | 'only'>): boolean {
  return only === undefined && takesAll(selectionOf(words));
}

/** The part of its rule that a job names. */
export function ruleOf(job: SnapshotJob): CopyRule {
  const { from, to, rule, select: words = {}, platforms = [], referrers = true } = job;
  return {
    kind: 'backup',
    name: rule,
    schedule: { cron: '0 0 1 1 *', timeZone: 'UTC' },
    onPush: false,
    from: from.map(withoutTransport),
    to: [to],
    tags: selectionOf(words),
    platforms,
    referrers,
  };
}
