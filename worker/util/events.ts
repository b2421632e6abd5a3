import type { Code } from './failure.ts';

/**
 * How a blob or manifest came to be at the target. `trusted`: it was not looked at, because the target shows a manifest that it is below, which a
 * registry takes only after what it names.
 */
export type Outcome = 'copied' | 'mounted' | 'exists' | 'trusted' | 'foreign';

/** What an event is about, where the code that reports it knows. */
export interface About {
  /** The image, by its location: `docker://host/repository:tag`. */
  readonly image?: string | undefined;
  /** The rule that asked for it. */
  readonly rule?: string | undefined;
  /** The side of the copy. */
  readonly side?: 'source' | 'target' | undefined;
}

/** Everything that is worth reporting during work. Logs, metrics and progress bars read this one stream. Digests are strings. */
export type Event = Happening & About;

type Happening =
  /** This many more images will be looked at. */
  | { readonly type: 'images-planned'; readonly images: number }
  /** An image is settled. */
  | {
      readonly type: 'image-done';
      readonly image: string;
      /** Where it was written to; absent where that follows from the command. */
      readonly to?: string | undefined;
      readonly outcome: 'copied' | 'unchanged' | 'planned' | 'failed';
      readonly digest?: string | undefined;
      readonly bytesSent: number;
      /** Why it failed. */
      readonly code?: Code;
      readonly message?: string;
    }
  /** The graph is known: how many blobs and bytes there are in all, before anything is skipped. */
  | { readonly type: 'planned'; readonly blobs: number; readonly manifests: number; readonly bytes: number }
  | { readonly type: 'blob-started'; readonly digest: string; readonly bytes: number }
  /** `bytes` more of the blob were taken from the source. */
  | { readonly type: 'blob-progress'; readonly digest: string; readonly bytes: number }
  /** `bytes` more left for the target: those of a request that is repeated count again. */
  | { readonly type: 'bytes-sent'; readonly bytes: number }
  /** An interrupted write of an archive goes on: `parts` of its `total` parts were there. */
  | { readonly type: 'resumed'; readonly location: string; readonly parts: number; readonly total: number }
  | { readonly type: 'blob-done'; readonly digest: string; readonly bytes: number; readonly outcome: Outcome }
  | { readonly type: 'manifest-done'; readonly digest: string; readonly bytes: number; readonly outcome: Outcome }
  | { readonly type: 'tagged'; readonly name: string; readonly digest: string }
  /** The target did not take something that refers to the image; the image itself is not affected. */
  | { readonly type: 'referrer-refused'; readonly digest: string; readonly code: Code; readonly message: string }
  | {
      readonly type: 'retry';
      readonly what: string;
      readonly attempt: number;
      readonly delayMs: number;
      readonly code: Code;
      readonly message: string;
    }
  | { readonly type: 'warning'; readonly message: string }
  /** Good to know, and no cause for concern: a process that starts or stops. */
  | { readonly type: 'note'; readonly message: string }
  | ServeEvent
  | ObjectEvent
  | PruneEvent
  | JobEvent
  | PlanEvent
  | CleanEvent;

/** A request to a registry that `serve` opened was answered, or broken off. */
export interface ServeEvent {
  readonly type: 'request-served';
  /** When it came; ISO 8601, UTC. */
  readonly at: string;
  /** The address of the client. */
  readonly client: string;
  /** Absent: no login was needed, or none was given. */
  readonly user?: string;
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly status: number;
  /** The bytes of the body that were sent. */
  readonly bytes: number;
  readonly durationMs: number;
  /** Why the answer failed or was cut off. Absent: it was sent whole. */
  readonly message?: string;
}

/** Objects are published as artifacts, and extracted from them. */
type ObjectEvent =
  /** The object is in the registry, under the tag `hex of digest`. `outcome` `exists`: its bytes were there already. */
  | {
      readonly type: 'object-published';
      readonly key: string;
      readonly digest: string;
      readonly bytes: number;
      readonly outcome: 'copied' | 'exists';
    }
  | {
      readonly type: 'object-extracted';
      readonly key: string;
      readonly digest: string;
      readonly bytes: number;
      /** A dry run: it would be written. */
      readonly planned?: boolean;
    }
  | { readonly type: 'object-unchanged'; readonly key: string }
  /** The last snapshot has it, and the place no longer does. */
  | { readonly type: 'object-removed'; readonly key: string }
  | { readonly type: 'object-failed'; readonly key: string; readonly code: Code; readonly message: string }
  | {
      readonly type: 'snapshot-published';
      readonly tag: string;
      readonly digest: string;
      readonly objects: number;
      readonly bytes: number;
      readonly failed: number;
    };

/** Items are deleted because a policy names them. `place` is a repository, or a folder of archives. */
type PruneEvent =
  /** It is gone by this run. `action` `untag`: `tags` were removed from an image that stays. */
  | {
      readonly type: 'pruned';
      readonly place: string;
      readonly kind: 'images' | 'archives';
      /** A digest, or the key of an archive. */
      readonly id: string;
      readonly tags: readonly string[];
      readonly action: 'delete' | 'untag';
      /** 0 where they are not known. */
      readonly bytes: number;
      readonly reason: string;
    }
  /** `id` is absent where nothing of the place could be deleted. */
  | {
      readonly type: 'prune-failed';
      readonly place: string;
      readonly id?: string | undefined;
      readonly code: Code;
      readonly message: string;
    };

/** What became of the objects of one place. `published`: new or changed; `removed`: no longer there. */
export interface ObjectCounts {
  readonly published: number;
  readonly unchanged: number;
  readonly removed: number;
  readonly failed: number;
}

/** What became of the images of one backup of many. `archived`: in the archive storage class of ECR, and not stored. */
export interface ImageCounts {
  readonly stored: number;
  readonly unchanged: number;
  readonly archived: number;
  readonly failed: number;
}

/** A worker's. `job`, `run`, `rule` and `title` say which job; `code` is absent where it succeeded. */
type JobEvent =
  | { readonly type: 'job-started'; readonly job: JobName; readonly attempt: number; readonly waitedMs: number }
  | {
      readonly type: 'job-done';
      readonly job: JobName;
      readonly durationMs: number;
      /** Whether it needed nothing. */
      readonly unchanged: boolean;
      /** Whether the source no longer had the image. Default false. */
      readonly gone?: boolean | undefined;
      /** What it did with the bytes of images, over all destinations; absent where it moves none. */
      readonly bytesSent?: number;
      readonly bytesReused?: number;
      readonly bytesSkipped?: number;
      /** What became of objects; absent where it publishes none. */
      readonly objects?: ObjectCounts | undefined;
    }
  /** A snapshot lists what a registry has, and where each image is stored. The backup that wrote it may have failed images. */
  | {
      readonly type: 'snapshot-written';
      readonly registry: string;
      /** `store:s3://bucket/prefix/`, or `s3://bucket/prefix/` of archives. */
      readonly place: string;
      readonly id: string;
      readonly images: ImageCounts;
      /** What had to be sent, and what all images have, each digest once. Bytes. */
      readonly bytesAdded: number;
      readonly bytes: number;
    }
  /** A place was looked at to the depth `depth`. Findings are listed by warnings, and fail the job. */
  | {
      readonly type: 'verify-ended';
      /** `store:s3://bucket/prefix/`, `s3://bucket/prefix/` or `docker://host/repositories*`. */
      readonly place: string;
      readonly depth: 'tags' | 'blobs' | 'bytes';
      /** Which part was read. Absent: everything. */
      readonly sample?: { readonly slice: number; readonly slices: number } | undefined;
      readonly names: { readonly checked: number; readonly of: number };
      readonly blobs?: { readonly checked: number; readonly of: number } | undefined;
      readonly hashedBytes: number;
      readonly findings: number;
      /** Whether every byte of everything was looked at. */
      readonly complete: boolean;
    }
  /** A drill restored images of a backup and compared them. Findings are listed by warnings, and fail the job. */
  | {
      readonly type: 'drill-ended';
      /** `store:s3://bucket/prefix/`, or `s3://bucket/prefix/`. */
      readonly place: string;
      /** What the names of the scratch repositories begin with, with their host. */
      readonly scratch: string;
      /** Which part was restored. Absent: everything. */
      readonly sample?: { readonly slice: number; readonly slices: number } | undefined;
      /** Images that were restored and compared, and how many there are. */
      readonly images: { readonly checked: number; readonly of: number };
      /** Those of them that are equal at the target. */
      readonly equal: number;
      readonly bytesSent: number;
      readonly findings: number;
    }
  /** `again`: it is tried again; otherwise a dead letter reports it. */
  | {
      readonly type: 'job-failed';
      readonly job: JobName;
      readonly durationMs: number;
      readonly code: Code;
      readonly message: string;
      readonly again: boolean;
    }
  /** It goes back to the queue, for the next worker: this one is stopping, or its message reaches the end of its life. */
  | { readonly type: 'job-handed-back'; readonly job: JobName; readonly message: string }
  /** A message that is not a job. */
  | { readonly type: 'message-refused'; readonly message: string };

export interface JobName {
  readonly kind: string;
  readonly id: string;
  readonly run: string;
  readonly rule?: string | undefined;
  readonly title: string;
}

/** A planner's. */
type PlanEvent =
  | { readonly type: 'run-started'; readonly run: string; readonly rule: string }
  | {
      readonly type: 'run-planned';
      readonly run: string;
      readonly rule: string;
      readonly jobs: number;
      readonly unchanged: number;
      /** Those of `unchanged` that rest on the record alone: one of their destinations could not be looked at. */
      readonly unseen: number;
      /** Whether the rest is planned by a worker. */
      readonly continued: boolean;
    }
  | { readonly type: 'run-ended'; readonly run: string; readonly rule: string; readonly failed: number }
  /** A scheduled time came while the run before was going on, or the run was declared dead. */
  | {
      readonly type: 'run-late';
      readonly run: string;
      /** Absent: of a request by hand for one image. */
      readonly rule: string | undefined;
      readonly dead: boolean;
      readonly message: string;
    }
  | { readonly type: 'rule-expired'; readonly rule: string }
  | { readonly type: 'rule-failed'; readonly rule: string; readonly code: Code; readonly message: string }
  /** How old the last good copy of everything in the rule is, or its last verification or drill without a finding. */
  | {
      readonly type: 'rule-age';
      readonly rule: string;
      readonly what: 'copy' | 'verification' | 'drill';
      readonly ageSeconds: number;
      /** Since its schedule asked for a run that would have been newer. 0: it did not. */
      readonly overdueSeconds: number;
    }
  /** A run listed a repository whose registry reports sizes. Layers that images share count for each image. */
  | {
      readonly type: 'repository-listed';
      readonly rule: string;
      /** With its registry. */
      readonly repository: string;
      readonly images: number;
      readonly bytes: number;
    };

/** A Cleaner's. */
type CleanEvent =
  /** It would go, and a dry run deletes nothing. Members as those of `pruned`. */
  | (Omit<Extract<PruneEvent, { readonly type: 'pruned' }>, 'type'> & { readonly type: 'prune-planned' })
  /** A place is done. `left` items go in a later run. */
  | {
      readonly type: 'place-pruned';
      readonly place: string;
      readonly deleted: number;
      readonly kept: number;
      readonly left: number;
      readonly failed: number;
    }
  /** A scratch repository of a drill that is over was deleted. */
  | { readonly type: 'scratch-deleted'; readonly place: string }
  /** A place is left for the next pass: a copy is writing to it, or another Cleaner is there. */
  | { readonly type: 'place-postponed'; readonly place: string; readonly message: string };

export type Report = (event: Event) => void;

/** The same report, with `about` added to each event that does not name it itself. */
export function reportAbout(report: Report, about: About): Report;
export function reportAbout(report: Report | undefined, about: About): Report | undefined;
export function reportAbout(report: Report | undefined, about: About): Report | undefined {
  // the type stays the first member of the JSON
  return report === undefined ? undefined : (event) => report(Object.assign({ ...event }, about, event));
}
