import { plainEtag, sameEtag } from '../../util/etag.ts';
import { jobId, type CopyJob, type PlanJob } from '../../queue/job.ts';
import { isDerivedTag } from '../../oci/derived-tag.ts';
import { hexOf, type Digest } from '../../oci/digest.ts';
import type { Reference } from '../../oci/reference.ts';
import { spreadId } from '../../state/spread-jobs.ts';
import type { DestinationKey, SyncRecord } from '../../state/state.ts';
import { choicesKey, destinationsOf } from '../../rules/destinations.ts';
import { formatLocation } from '../../oci/location.ts';
import type { StoredObject, WrittenImage } from '../../images/image-target.ts';
import type { Candidate, CopyRule } from '../../rules/rule.ts';

/** An image that a source has. */
export interface SourceImage {
  /** Absent: an image without one. */
  readonly tag: string | undefined;
  readonly digest: Digest;
}

/**
 * What is at a destination: the digest it stands for; the object that an archive is; `there` where only that is known; `gone`; `unknown` where
 * it could not be looked at.
 */
export type Presence = Digest | StoredObject | 'there' | 'gone' | 'unknown';

/** What is known when images are compared. */
export interface Known {
  record(key: DestinationKey): SyncRecord | undefined;
  presence(key: DestinationKey): Presence;
  /** What refers to manifests of the source's repository, both by `shortened`. Empty where that is not known. */
  readonly referrers: ReadonlyMap<string, readonly string[]>;
}

/** Images of one repository. */
export interface SourceImages {
  readonly rule: CopyRule;
  readonly run: string;
  /** When the run began: whatever is planned later for it has the same destinations. */
  readonly startedAtMs: number;
  readonly registry: string;
  readonly repository: string;
  readonly images: readonly SourceImage[];
  /** As in `BatchContext`. */
  readonly spread?: boolean | undefined;
}

/** What `planJobs` decided. */
export interface JobPlan {
  /**
   * One for each image that is not everywhere yet, with the destinations that need work, and another one for its archives that were changed.
   * In the order of the images.
   */
  readonly jobs: readonly CopyJob[];
  /** The fault that a job repairs, by the id of the job. */
  readonly faults: ReadonlyMap<string, string>;
  /** Images that need nothing. */
  readonly unchanged: number;
  /** Those of `unchanged` that rest on the record alone: one of their destinations could not be looked at. */
  readonly unseen: number;
}

/**
 * What has to be copied. An image needs nothing at a destination that was made equal to just this digest with the same choices, is still as
 * it was left, and has every signature that is known of. The same run gives the same image the same job, whatever else was done by then.
 */
export function planJobs(from: SourceImages, known: Known): JobPlan {
  const { rule, run, registry, repository, startedAtMs } = from;
  const choices = choicesKey(rule);
  const jobs: CopyJob[] = [];
  const faults = new Map<string, string>();
  let unchanged = 0;
  let unseen = 0;
  for (const image of from.images) {
    const reference = referenceOf(registry, repository, image);
    const needed = new Set<string>();
    const changed = new Map<string, string>();
    const destinations = destinationsOf(rule, reference, image.digest, startedAtMs);
    for (const destination of destinations) {
      const fault = changeOf(destination, known);
      if (fault !== undefined) changed.set(destination.location, fault);
      else if (!isUnchanged(image.digest, choices, rule.referrers, destination, known))
        needed.add(destination.location);
    }
    if (needed.size + changed.size === 0) {
      unchanged++;
      if (destinations.some((destination) => known.presence(destination) === 'unknown')) unseen++;
      continue;
    }
    const source = formatLocation({ transport: 'docker', reference });
    // by what is copied alone: when a run is planned again, some of its destinations may be done
    const idOf = (...more: readonly string[]): string => {
      const id = jobId(run, rule.kind, source, ...more);
      return from.spread === true ? spreadId(id) : id;
    };
    const job = (to: Iterable<string>, ...more: readonly string[]): CopyJob => ({
      version: 1,
      kind: rule.kind,
      id: idOf(...more),
      run,
      rule: rule.name,
      at: new Date(startedAtMs).toISOString(),
      from: source,
      digest: image.digest,
      to: [...to],
      ...(rule.platforms.length === 0 ? {} : { platforms: rule.platforms }),
      ...(rule.referrers ? {} : { referrers: false }),
      ...(rule.create === undefined ? {} : { create: rule.create }),
      ...(rule.settings === false ? { settings: false } : {}),
    });
    if (needed.size > 0) jobs.push(job(needed));
    // the record shows that this rule wrote an archive there, so its job may replace whatever is there now
    if (changed.size > 0) {
      const again: CopyJob = { ...job(changed.keys(), 'changed'), force: true };
      jobs.push(again);
      faults.set(again.id, [...changed].map(([location, fault]) => `${location}: ${fault}`).join('; '));
    }
  }
  return { jobs, faults, unchanged, unseen };
}

/** The image as jobs name it: by its tag, or by its digest if it does not have a tag. */
export function referenceOf(registry: string, repository: string, image: SourceImage): Reference {
  return image.tag === undefined
    ? { registry, repository, digest: image.digest }
    : { registry, repository, tag: image.tag };
}

/** The job that plans `run` after `after`. */
export function planJobOf(plan: {
  readonly rule: string;
  readonly run: { readonly id: string; readonly startedAtMs: number };
  readonly after: PlanJob['after'];
}): PlanJob {
  const { rule, run, after } = plan;
  const at = new Date(run.startedAtMs).toISOString();
  return { version: 1, kind: 'plan', id: planJobId(run.id, after), run: run.id, rule, at, after };
}

/** The id of the job that goes on with planning `run` after `after`. */
export function planJobId(run: string, after: PlanJob['after']): string {
  return `${PLAN}${jobId(run, 'plan', after.repository, after.name)}`;
}

/** Whether it is one of `planJobId`. */
export function isPlanJobId(id: string): boolean {
  return id.startsWith(PLAN);
}

const PLAN = 'plan-';

/** What orders the images of a repository, and what `PlanJob.after` names. */
export function nameOf({ tag, digest }: Pick<Candidate, 'tag' | 'digest'>): string {
  return tag ?? `@${digest}`;
}

/** Before all images. */
export const FROM_THE_START: PlanJob['after'] = { repository: '', name: '' };
/** After the name of every image. */
const LAST_NAME = '~';

/** After every image of the repository. */
export function afterRepository(repository: string): PlanJob['after'] {
  return { repository, name: LAST_NAME };
}

/** Whether the image comes after `after`, in the order of repositories (`registry/repository`) and then names. */
export function isAfter(after: PlanJob['after'], repository: string, name: string): boolean {
  return repository === after.repository ? name > after.name : repository > after.repository;
}

/** Whether any image of the repository can come after `after`. */
export function mayHaveAfter(after: PlanJob['after'], repository: string): boolean {
  return isAfter(after, repository, LAST_NAME);
}

function isUnchanged(digest: Digest, choices: string, referrers: boolean, key: DestinationKey, known: Known): boolean {
  const record = known.record(key);
  if (record === undefined || record.sourceDigest !== digest || record.choices !== choices) return false;
  // a source may be again what it was before a copy of it failed: recording that ends the failure
  if (record.failing === true) return false;
  const presence = known.presence(key);
  if (typeof presence === 'string' && !isTakenFor(presence, record)) return false;
  return !referrers || !hasNewReferrer(record, known.referrers);
}

/** Whether what is at the destination of `record` is, as far as is known, what was left there. */
function isTakenFor(presence: Exclude<Presence, StoredObject>, { digest }: SyncRecord): boolean {
  return presence === 'there' || presence === 'unknown' || presence === digest;
}

/** How an archive differs from the object that was written there; undefined where it does not, or neither is known. */
function changeOf(key: DestinationKey, known: Known): string | undefined {
  const { size, etag } = known.record(key) ?? {};
  const now = known.presence(key);
  if (size === undefined || etag === undefined || typeof now === 'string') return undefined;
  if (now.size !== size) return `archive changed since it was written: ${now.size} bytes instead of ${size}`;
  return sameEtag(now.etag, etag)
    ? undefined
    : `archive changed since it was written: its ETag is ${plainEtag(now.etag)} instead of ${plainEtag(etag)}`;
}

/** What people know the job by. */
export function titleOf(job: Pick<CopyJob, 'from' | 'to'>): string {
  return `${job.from} → ${job.to.join(', ')}`;
}

/** Whether something refers to the image, its children or what refers to them, that did not come along. */
function hasNewReferrer(record: SyncRecord, referrers: Known['referrers']): boolean {
  if (referrers.size === 0) return false;
  const came = record.manifests ?? [shortened(record.digest)];
  return came.some((subject) => referrers.get(subject)?.some((referrer) => !came.includes(referrer)));
}

/** An image with more has no manifest remembered: a worker looks each time at those that anything refers to. */
const MAX_REMEMBERED = 1000;
const SHORT = 16;

/** `SyncRecord.manifests` of an image with these, as `copied` left them at a registry. */
export function rememberedManifests(
  digests: readonly Digest[],
  copied?: WrittenImage['copied'],
): readonly string[] | undefined {
  if (digests.length > MAX_REMEMBERED) return undefined;
  const { absent = [], referrers = [] } = copied ?? {};
  const tags = referrers.filter(({ refused }) => refused === undefined).flatMap((referrer) => referrer.tags);
  return [...digests.map(shortened), ...absent.map((digest) => ABSENT + shortened(digest)), ...tags];
}

/** What must be at the destination by `SyncRecord.manifests`: manifests, by `shortened`, and the tags of cosign. */
export function rememberedThere({ manifests = [] }: Pick<SyncRecord, 'manifests'>): {
  readonly manifests: readonly string[];
  readonly tags: readonly string[];
} {
  const all = new Set(manifests);
  const there = manifests.filter((entry) => !entry.startsWith(ABSENT) && !all.has(ABSENT + entry));
  const tags = there.filter(isDerivedTag);
  return { manifests: tags.length === 0 ? there : there.filter((entry) => !isDerivedTag(entry)), tags };
}

/** Begins a manifest that is known and not at the destination. */
const ABSENT = '!';

/** A digest as records remember it. */
export function shortened(digest: Digest): string {
  return hexOf(digest).slice(0, SHORT);
}
