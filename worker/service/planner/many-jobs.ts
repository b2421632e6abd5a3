import { isPattern } from '../../oci/location.ts';
import { formatRepository, type Repository } from '../../oci/reference.ts';
import { jobId, type BackupStoreJob, type SnapshotJob } from '../../queue/job.ts';
import type { ImageSelection, ManyImages, NamedImage } from '../../queue/many-images.ts';
import type { CopyRule, TagSelection } from '../../rules/rule.ts';
import { registryName, sourcesOf } from '../../rules/sources.ts';
import type { Run } from '../../state/state.ts';

/** The images of one repository that pushes concern. */
export interface PushedImages extends Repository {
  readonly only: readonly NamedImage[];
}

/**
 * The jobs of a run that back images up into stores: one for each store and registry, whatever the number of images. No registry is asked.
 *
 * @param pushed only these images. Default: all that the rule names
 */
export function storeJobsOf(
  rule: CopyRule,
  run: Pick<Run, 'id' | 'startedAtMs'>,
  pushed?: PushedImages,
): readonly BackupStoreJob[] {
  const { stores = [], includeArchived } = rule;
  // what was pushed just now is not archived
  const choices = includeArchived === true && pushed === undefined ? { includeArchived } : {};
  const jobs: BackupStoreJob[] = [];
  for (const to of stores) {
    for (const { host, images } of imagesOf(rule, pushed)) {
      const id = jobId(run.id, 'backup-store', host, to);
      jobs.push({ ...commonOf(rule, run), kind: 'backup-store', id, ...images, ...choices, to });
    }
  }
  return jobs;
}

/** The jobs of a run that write its snapshots, as `storeJobsOf`: one for each template of archives and registry. */
export function snapshotJobsOf(
  rule: CopyRule,
  run: Pick<Run, 'id' | 'startedAtMs'>,
  pushed?: PushedImages,
): readonly SnapshotJob[] {
  if (rule.kind !== 'backup' || rule.snapshots === false) return [];
  const jobs: SnapshotJob[] = [];
  for (const to of rule.to) {
    for (const { host, images } of imagesOf(rule, pushed)) {
      const id = `${SNAPSHOT}${jobId(run.id, 'snapshot', host, to)}`;
      jobs.push({ ...commonOf(rule, run), kind: 'snapshot', id, ...images, to });
    }
  }
  return jobs;
}

/** Whether it is the id of a job of `snapshotJobsOf`: it is done when every other job of its run has ended. */
export function isSnapshotJobId(id: string): boolean {
  return id.startsWith(SNAPSHOT);
}

/** What the ids of these jobs begin with. */
export const SNAPSHOT = 'snapshot-';

function commonOf(
  { name: rule }: CopyRule,
  { id: run, startedAtMs }: Pick<Run, 'id' | 'startedAtMs'>,
): Pick<SnapshotJob, 'version' | 'run' | 'rule' | 'at'> {
  return { version: 1, run, rule, at: new Date(startedAtMs).toISOString() };
}

/** What a rule is about, by the canonical name of each registry. */
function imagesOf(
  rule: CopyRule,
  pushed: PushedImages | undefined,
): readonly { readonly host: string; readonly images: ManyImages }[] {
  const { platforms, referrers, settings, report } = rule;
  const select = selectionOf(rule.tags);
  const choices = {
    ...(select === undefined ? {} : { select }),
    ...(platforms.length === 0 ? {} : { platforms }),
    ...(referrers ? {} : { referrers: false }),
    ...(settings === false ? { settings: false as const } : {}),
  };
  if (pushed?.only.length === 0) return [];
  // pushes are many, and a page is made of every snapshot there is: the next whole run writes it
  if (pushed !== undefined) {
    const from = [`docker://${formatRepository(pushed)}`];
    return [{ host: registryName(pushed.registry), images: { from, only: pushed.only, ...choices } }];
  }
  const byRegistry = Map.groupBy(sourcesOf(rule), ({ registry }) => registryName(registry));
  return Array.from(byRegistry, ([host, sources]) => {
    const [registry = host] = sources.map((source) => source.registry);
    const patterns = sources.map(({ pattern }) => pattern);
    // a repository that a pattern names already is not named twice
    const from = patterns.includes('*') ? ['*'] : [...new Set(patterns)].sort((a, b) => order(a) - order(b));
    const wanted = report === true ? { report } : {};
    return { host, images: { from: from.map((pattern) => `docker://${registry}/${pattern}`), ...choices, ...wanted } };
  });
}

function order(pattern: string): number {
  return isPattern(pattern) ? 0 : 1;
}

/** Undefined where a rule takes every tag, and nothing else. */
function selectionOf(tags: TagSelection): ImageSelection | undefined {
  const { include, exclude, semver, latest, maxAgeDays, untagged } = tags;
  const words: ImageSelection = {
    ...(include.length === 0 ? {} : { include }),
    ...(exclude.length === 0 ? {} : { exclude }),
    ...(semver === undefined ? {} : { semver }),
    ...(latest === undefined ? {} : { latest }),
    ...(maxAgeDays === undefined ? {} : { maxAgeDays }),
    ...(untagged ? { untagged } : {}),
  };
  return Object.keys(words).length === 0 ? undefined : words;
}
