import type { Digest } from '../oci/digest.ts';
import type { Abortable } from '../util/abort.ts';

/**
 * What the service remembers. Nothing in it is needed to restore. Every write is one conditional write of one item, so that two writers
 * never both believe to be first. Expiry is decided by the reader's clock, never by the table's own expiry.
 */
export interface StateStore {
  readonly destinations: Destinations;
  readonly rules: Rules;
  readonly runs: Runs;
  readonly scratchPlaces: ScratchPlaces;
  /** A lease by name, for what is not a destination. As `Destinations.lock`. */
  lock(name: string, ttlSeconds: number, options?: Abortable): Promise<Lease | undefined>;
  /** The first of these different names whose lease may be held at this moment, so that `lock` would not get it. One read for all names. */
  findLocked(names: readonly string[], options?: Abortable): Promise<string | undefined>;
}

/**
 * The right to write, for as long as `signal` has not fired. It renews itself; `signal` fires with CONFLICT as soon as holding it can no longer be
 * proved: another process has it, or it could not be renewed in time. Disposing gives it back, and does not throw.
 */
export interface Lease extends AsyncDisposable {
  readonly name: string;
  /** Greater than that of every holder before. */
  readonly fence: number;
  readonly signal: AbortSignal;
}

/** The destination of one image. */
export interface DestinationKey {
  /** What is listed together: `docker://host/repository` or `s3://bucket/folder`. */
  readonly group: string;
  /** The tag, `@digest` or name of the archive in it. */
  readonly name: string;
}

/** What a destination was made equal to. */
export interface SyncRecord extends DestinationKey {
  /** `docker://host/repository:tag`, or `…@digest`. */
  readonly source: string;
  /** What the source stood for. */
  readonly sourceDigest: Digest;
  /** What the destination stands for: another one where platforms were chosen. */
  readonly digest: Digest;
  /** Platforms, referrers: equal where equal choices were made. */
  readonly choices: string;
  /**
   * Every manifest that came along, children and what refers to them included, each by 16 characters of its digest. A new signature shows by
   * not being among them. With a `!` before it again: it is not at the destination, because the source cannot give it or the destination
   * refuses it. The tags of cosign that were made there stand among them. Absent: not known.
   */
  readonly manifests?: readonly string[] | undefined;
  /** Bytes of the whole image. */
  readonly bytes: number;
  /** When it was found equal, in milliseconds since 1970. */
  readonly atMs: number;
  /** When a planner last looked and found it as it was left; absent: not since `atMs`. */
  readonly lookedAtMs?: number | undefined;
  /** The version of an archive's object, where its bucket has versions. */
  readonly version?: string | undefined;
  /** For an archive, the size and the ETag of its object when it was written. Absent: not known. */
  readonly size?: number | undefined;
  readonly etag?: string | undefined;
  readonly run: string;
  readonly rule?: string | undefined;
  /** Whether a dead letter reports a failure there since. `record` ignores it: recording a destination ends its failures. */
  readonly failing?: true | undefined;
}

/** A dead letter that reports a failure at a destination. */
export interface Letter {
  /** The code of the failure. */
  readonly cause: string;
  /** The id of the job in the message. */
  readonly job: string;
  /** When it was sent, in milliseconds since 1970. */
  readonly atMs: number;
}

/** Where drills restore to, `host/prefix`. */
export interface ScratchPlaces {
  /** Notes the places that rules name now. Returns them and those that rules named within two weeks, in order. */
  noteNamed(named: readonly string[], options?: Abortable): Promise<readonly string[]>;
}

/** What was recorded of destinations, and the leases to write them. */
export interface Destinations {
  get(key: DestinationKey, options?: Abortable): Promise<SyncRecord | undefined>;
  /** All of a group, in order of names. */
  list(group: string, options?: Abortable): AsyncIterable<SyncRecord>;
  /** The right to write to a destination; undefined while another process has it. */
  lock(key: DestinationKey, ttlSeconds: number, options?: Abortable): Promise<Lease | undefined>;
  /** Whether a destination of the group is written to at this moment: its lease may be held. */
  isWritten(group: string, options?: Abortable): Promise<boolean>;
  /** The record of the destination as it was when `lease` was taken. Makes no request. */
  foundBy(lease: Lease, key: DestinationKey): SyncRecord | undefined;
  /**
   * Remembers it, and gives `lease`, of the same destination, back in the same write. CONFLICT when it is no longer held. Where the write fails,
   * the lease is held to the end of its time, or until it is disposed.
   */
  record(record: SyncRecord, lease: Lease, options?: Abortable): Promise<void>;
  /** Remembers that the destination matched `record` at `lookedAtMs`. Does nothing where it was recorded again since. Idempotent. */
  looked(record: SyncRecord, lookedAtMs: number, options?: Abortable): Promise<void>;
  /** The dead letters that report failures there since it was recorded, one for each cause. */
  letters(key: DestinationKey, options?: Abortable): Promise<readonly Letter[]>;
  /** Remembers a dead letter in the place of an earlier one of the same cause. CONFLICT when `lease` is no longer held. */
  addLetter(key: DestinationKey, letter: Letter, lease: Lease, options?: Abortable): Promise<void>;
  /** Forgets the dead letters of a job, so that the next failure is a dead letter again. Success when the job does not have dead letters. */
  forgetLetters(key: DestinationKey, job: string, options?: Abortable): Promise<void>;
}

/** A rule as it was applied: `document` is a string that `parseRule` of rules/config.ts reads. */
export interface StoredRule {
  readonly name: string;
  readonly document: string;
  readonly appliedAtMs: number;
  /** Counts up with every change. */
  readonly revision: number;
}

/** The rules and the access to registries that were applied. */
export interface Rules {
  /** In order of names. */
  list(options?: Abortable): Promise<readonly StoredRule[]>;
  /** Stores a rule. `revision` as it was read (0: it does not exist). CONFLICT when another process changed it in between. */
  put(
    rule: { readonly name: string; readonly document: string },
    revision: number,
    options?: Abortable,
  ): Promise<StoredRule>;
  /** Deletes a rule. CONFLICT when another process changed it in between. Success when it is gone. */
  remove(name: string, revision: number, options?: Abortable): Promise<void>;
  /** How registries are reached and what requests may write to, as `parseAccess` of rules/config.ts reads it; undefined: none were applied. */
  access(options?: Abortable): Promise<{ readonly document: string; readonly revision: number } | undefined>;
  /** Stores the access. `revision` and CONFLICT as for `put`. */
  putAccess(document: string, revision: number, options?: Abortable): Promise<void>;
}

/** What a run was begun by. */
export type RunTrigger = 'schedule' | 'push' | 'request';

/** One run, with the counts of its jobs. */
export interface Run {
  readonly id: string;
  readonly rule?: string | undefined;
  readonly trigger: RunTrigger;
  readonly startedAtMs: number;
  /** When every job was planned; until then more may come. */
  readonly plannedAtMs?: number | undefined;
  readonly endedAtMs?: number | undefined;
  /** Declared dead: it did not end in time. */
  readonly dead?: boolean | undefined;
  /** Images looked at that needed nothing: no job was made for them. */
  readonly unchanged: number;
  /** Those of `unchanged` that rest on the record alone: one of their destinations could not be looked at. */
  readonly unseen: number;
  /** For a rule that prunes, how much it was about to delete so far. Never too low; too high after a crash. Absent: nothing. */
  readonly deletes?: number | undefined;
  readonly jobs: JobCounts;
}

/** A run that may have open jobs. */
export interface OpenRun {
  readonly id: string;
  /** Goes up with every change that makes more jobs open. */
  readonly epoch: number;
}

/** By state; their sum is what was planned. */
export interface JobCounts {
  readonly waiting: number;
  readonly running: number;
  readonly done: number;
  /** Needed nothing when a worker came to them. */
  readonly skipped: number;
  /** The source no longer had the image when a worker came to them. */
  readonly gone: number;
  readonly failed: number;
}

/** The state of a job. */
export type JobState = keyof JobCounts;

/** One job of a run. */
export interface JobRecord {
  readonly id: string;
  readonly run: string;
  readonly state: JobState;
  /** `docker://…:tag → s3://…`, for people. */
  readonly title: string;
  readonly rule?: string | undefined;
  /** Its message: what is sent again when it was lost. */
  readonly body?: string | undefined;
  /** The fingerprint of its message, by `fingerprintOf`: a message with another one is not this job. Absent: it never had a message. */
  readonly fingerprint?: string | undefined;
  /** Times that a worker began it. */
  readonly attempts: number;
  /** The code of the last failure, also of one that is tried again. */
  readonly code?: string | undefined;
  readonly reason?: string | undefined;
  /** Whether the source's repository had no referrers when the job was planned, as its list showed. Absent: not known. */
  readonly unreferenced?: true | undefined;
  /** What was found wrong at its destination when it was planned, which is so until it is done. */
  readonly fault?: string | undefined;
  /** For a job of the Cleaner, what it was about to delete when it was begun last, as the Cleaner wrote it. */
  readonly doomed?: string | undefined;
  /** The result of the parts of a verification that are done, as the worker wrote it. Absent where it was never handed over. */
  readonly verified?: string | undefined;
  readonly changedAtMs: number;
  /** When its message is redelivered for the next attempt, after one that failed. */
  readonly dueAtMs?: number | undefined;
}

/** What is known of a rule's runs of everything that it names: those on schedule, and those that were asked for. */
export interface RuleProgress {
  readonly rule: string;
  /** The run that is going on. */
  readonly current?: { readonly run: string; readonly startedAtMs: number } | undefined;
  /** The latest scheduled time that a run was begun for, in milliseconds since 1970. */
  readonly lastScheduledAtMs?: number | undefined;
  /** When the last run that ended without a failure started: destinations have at least what their sources had then. */
  readonly lastGoodRunAtMs?: number | undefined;
  /** When the last run that ended with a failure, or was declared dead, started. */
  readonly lastFailedRunAtMs?: number | undefined;
}

/** A run that a schedule begins. */
export interface ScheduledRun {
  readonly id: string;
  readonly rule: string;
  /** The moment that the schedule names, in milliseconds since 1970. */
  readonly scheduledAtMs: number;
  /** The id of the current run, which has ended, is declared dead, or only waits for retries. It goes on beside the new one. */
  readonly replacing?: string | undefined;
}

/** A run that no schedule begins. */
export interface NewRun extends Pick<Run, 'id' | 'rule' | 'trigger'> {
  /** Whether it covers everything that its rule names, so that its end counts as one on schedule does. Default false. */
  readonly whole?: boolean | undefined;
}

/** A job that is made known. */
export interface NewJob extends Pick<
  JobRecord,
  'id' | 'title' | 'rule' | 'body' | 'fingerprint' | 'fault' | 'unreferenced'
> {
  /** Why it has failed already: it is made as one that has ended. Absent: it waits. */
  readonly failed?: { readonly code: string; readonly reason: string } | undefined;
}

/** The events of one place that one run plans for a rule. */
export interface PushGroup {
  readonly rule: string;
  /** `registry/repository` of pushes, `s3://bucket/prefix/` of objects. */
  readonly place: string;
  /** The id of the run to begin when no run gathers them at this moment. */
  readonly run: string;
  /** Until when that run gathers others, in milliseconds since 1970. */
  readonly untilMs: number;
}

/** A push as its run keeps it. */
export interface GatheredPush {
  /** The id of its event. */
  readonly id: string;
  readonly registry: string;
  readonly repository: string;
  readonly tag?: string | undefined;
  readonly digest: string;
}

/** Which runs `list` returns. */
export interface RunListOptions extends Abortable {
  /** Default: 50, or all with `unendedSinceMs`. */
  readonly limit?: number | undefined;
  /** Only runs of this rule. */
  readonly rule?: string | undefined;
  /** Only runs that began at this time or later and are not listed as ended. One that ended a moment ago may be among them. */
  readonly unendedSinceMs?: number | undefined;
}

/** Which jobs of a run `jobs` returns. Default: all. */
export interface JobListOptions extends Abortable {
  readonly state?: JobState | undefined;
  readonly prefix?: string | undefined;
}

/** Reads runs. One that does not exist, or is older than 90 days, is undefined and has no jobs. */
export interface RunReader {
  progress(rule: string, options?: Abortable): Promise<RuleProgress | undefined>;
  get(run: string, options?: Abortable): Promise<Run | undefined>;
  /** Newest first. */
  list(options?: RunListOptions): Promise<readonly Run[]>;
  /** The runs that began at this time or later and have not ended, or were declared dead: workers may still do the jobs of those. */
  open(sinceMs: number, options?: Abortable): Promise<readonly OpenRun[]>;
  /** One job of a run. */
  job(run: string, job: string, options?: Abortable): Promise<JobRecord | undefined>;
  /** The jobs of a run, or those in one state, or whose ids begin with `prefix`: others are not read. */
  jobs(run: string, options?: JobListOptions): AsyncIterable<JobRecord>;
}

/** Begins and plans runs. NOT_FOUND for a run that was not begun. */
interface RunWriter {
  /**
   * Begins the run of a rule for a scheduled time, and makes it the current one. Undefined when another planner began that run, or a later
   * one, in between: of two planners one begins it.
   */
  beginScheduled(run: ScheduledRun, options?: Abortable): Promise<Run | undefined>;
  /** Begins a run that is not a rule's current one. Idempotent. */
  begin(run: NewRun, options?: Abortable): Promise<Run>;
  /**
   * Adds a push to the run that gathers those of its repository, or begins one. Returns that run. Idempotent while the run gathers. Without a
   * push it finds or begins the run: one that no process has closed yet lists what is there after this call.
   */
  gatherPush(group: PushGroup, push: GatheredPush | undefined, options?: Abortable): Promise<Run>;
  /** Ends the gathering of a run, so that no push is added to it any more, and returns its pushes. NOT_FOUND without the run. Idempotent. */
  closePushes(run: string, options?: Abortable): Promise<readonly GatheredPush[]>;
  /** Makes jobs known as waiting, before they are sent, or as failed. Those that are known already stay as they are. Returns those that have not ended. */
  addJobs(run: string, jobs: readonly NewJob[], options?: Abortable): Promise<ReadonlySet<string>>;
  /** Counts images that needed nothing. Not idempotent: an estimate after a crash. */
  addUnchanged(run: string, counts: Pick<Run, 'unchanged' | 'unseen'>, options?: Abortable): Promise<void>;
  /** Counts items that are about to be deleted. Not idempotent: too high after a crash. */
  addDeletes(run: string, count: number, options?: Abortable): Promise<void>;
  /** Marks the run as planned: all its jobs are known. Ends the run if none is left. Idempotent. */
  planned(run: string, options?: Abortable): Promise<void>;
  /** Counts the jobs of a run again, and ends it if none is left: what a worker that crashed between two writes did not do. Idempotent. */
  settle(run: string, options?: Abortable): Promise<Run>;
  /** Declares a run dead, which frees its rule. Idempotent. */
  declareDead(run: string, options?: Abortable): Promise<void>;
}

/**
 * What `takeJob` found: `taken`, the job is running and the attempt counts; `open`, another delivery began it, and may still run it; `ended`;
 * `other`, the job with this id asks for something else; `unknown`, no such job was made.
 */
export type JobTaken =
  | ({ readonly state: 'taken'; readonly attempt: number } & Pick<JobRecord, 'unreferenced'>)
  | { readonly state: 'open' | 'ended' | 'other' | 'unknown' };

/** Changes the states of jobs. NOT_FOUND for a job that was not added. */
interface JobWriter {
  /**
   * Marks a waiting job with this fingerprint as running, and counts the attempt. Changes nothing otherwise, except that a job which has ended
   * is counted in its run. Never NOT_FOUND.
   */
  takeJob(run: string, job: string, fingerprint: string, options?: Abortable): Promise<JobTaken>;
  /** Marks a job as running, and counts the attempt: returns which it is, from 1. Undefined when it has ended already: a duplicate. */
  startJob(run: string, job: string, options?: Abortable): Promise<number | undefined>;
  /** Remembers what is about to be deleted, 300 KB at most. Nothing when the job has ended already. */
  setDoomed(run: string, job: string, doomed: string, options?: Abortable): Promise<void>;
  /** Remembers the result of the parts of a verification that are done, 300 KB at most. Does nothing when the job has ended. */
  setVerified(run: string, job: string, verified: string, options?: Abortable): Promise<void>;
  /**
   * Sets a job back to waiting as if it had not been begun: the attempt does not count. Does nothing when the job has ended, or, with `attempt`,
   * when another attempt began since. With `body`, that is what is sent if its message is lost.
   */
  giveBackJob(
    run: string,
    job: string,
    options?: Abortable & { readonly attempt?: number | undefined; readonly body?: string | undefined },
  ): Promise<void>;
  /** Back to waiting until `dueAtMs`, with the reason. Nothing when it has ended already. */
  retryJob(
    run: string,
    job: string,
    why: { readonly code: string; readonly reason: string; readonly dueAtMs: number },
    options?: Abortable,
  ): Promise<void>;
  /**
   * Its message is about to be sent again: it waits from now on. False when the job does not wait, or has changed since `changedAtMs`, where that
   * is given: another process sends it.
   */
  resendJob(run: string, job: string, changedAtMs: number | undefined, options?: Abortable): Promise<boolean>;
  /**
   * Ends a job, once: the first end stays. Ends the run if all are planned and none is left. Returns how many are left, as far as is known: after
   * a crash it may be wrong until the run is settled.
   */
  endJob(run: string, job: string, end: JobEnd, options?: Abortable): Promise<number>;
  /** From failed back to waiting, and the run goes on: its message was put back to the queue. */
  reviveJob(run: string, job: string, options?: Abortable): Promise<void>;
}

/** Runs and jobs, for readers, planners and workers. Ending a job also updates its run, so no caller can forget that. */
export interface Runs extends RunReader, RunWriter, JobWriter {}

/** How a job ends, as `JobCounts` explains the states. `code` and `reason` are those of the failure. */
export type JobEnd =
  | { readonly state: 'done' | 'skipped' | 'gone' }
  | { readonly state: 'failed'; readonly code: string; readonly reason: string };
