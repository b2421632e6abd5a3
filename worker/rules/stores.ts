import { parseImagePattern } from '../oci/location.ts';
import { parseStoreRoot } from '../oci/place.ts';
import type { BackupStoreJob, SnapshotJob } from '../queue/job.ts';
import { patternOf } from '../queue/many-images.ts';
import type { DestinationKey } from '../state/state.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { registryName } from './sources.ts';

// Destinations of many images: the stores that rules name in `to`, and what the jobs about them are remembered by.

/** Whether a `to` names a store, and no template of archives. */
export function isStore(to: string): boolean {
  return to.startsWith('store:');
}

/** Reads a `to` that names a store: `store:s3://bucket[/prefix/]`. Returns it with the slash at its end. INVALID for folders and others. */
export function parseStore(text: string): string {
  const root = isStore(text) ? parseStoreRoot(text.slice('store:'.length), text) : undefined;
  if (root === undefined || 'folder' in root)
    throw invalid(text, 'a store that workers reach is in S3: store:s3://bucket/prefix/');
  if (/[{}:]|\p{Cc}|\p{Cs}/u.test(root.prefix))
    throw invalid(
      text,
      'a store is one place for all images: expected a prefix without variables, colons and invisible characters',
    );
  return `store:s3://${root.bucket}/${root.prefix}`;
}

/**
 * What a backup into a store is remembered by, and leased: one for each rule, registry and repository that was pushed to. Several processes may
 * fill a store at once, so a push does not wait for a run of hours, nor one rule for another.
 */
export function storedFor(job: Pick<BackupStoreJob, 'from' | 'to' | 'rule' | 'only'>): DestinationKey {
  return { group: parseStore(job.to), name: nameOf(job) };
}

/** What the snapshots that a rule's runs write of one registry are remembered by, and leased. */
export function snapshotFor(job: Pick<SnapshotJob, 'from' | 'to' | 'rule' | 'only'>): DestinationKey {
  return { group: `snapshots:${job.to}`, name: nameOf(job) };
}

function nameOf(job: Pick<BackupStoreJob, 'from' | 'rule' | 'only'>): string {
  const { registry, repository } = parseImagePattern(patternOf(job));
  const host = registryName(registry);
  if (job.rule === undefined) return `${host}/${repository}`;
  return job.only === undefined ? `${job.rule}@${host}` : `${job.rule}@${host}/${repository}`;
}

function invalid(text: string, why: string): Failure {
  return new Failure('INVALID', `${quote(text)} is not a destination: ${why}`);
}
