import { createHash } from 'node:crypto';

/**
 * What a worker is asked to do: one message of the queue, as JSON. The schema of `parseJob` is the contract; within a version members are
 * only added, and those that are absent have a default.
 */
export type Job = CopyJob | RestoreJob | VerifyJob | PlanJob;

interface JobCommon {
  readonly version: 1;
  /** The same for every message that asks for the same work of the same run: what a run counts, and what duplicates are told by. */
  readonly id: string;
  /** The run that counts it. */
  readonly run: string;
  /** The rule that asked for it; absent for a request by hand. */
  readonly rule?: string | undefined;
  /** When it was asked for, ISO 8601. */
  readonly at: string;
  /** How often it was handed on to a new message, since one message lives 12 hours. Default 0. */
  readonly handovers?: number | undefined;
}

/** What of an image, and how. */
export interface Choices {
  /** `os/architecture[/variant]`; absent: all. */
  readonly platforms?: readonly string[] | undefined;
  /** Signatures, SBOMs and what else refers to the image. Default true. */
  readonly referrers?: boolean | undefined;
  /** Settings of repositories that have to be created, as `repository.json` has them; false: none are created. Default: as ECR has it. */
  readonly create?: Readonly<Record<string, unknown>> | false | undefined;
}

/** Makes every destination equal to the source: a registry's (`mirror`) or an archive (`backup`). */
export interface CopyJob extends JobCommon, Choices {
  readonly kind: 'mirror' | 'backup';
  /** `docker://host/repository:tag`, or `…@digest` of an untagged image. */
  readonly from: string;
  /** What `from` was when the job was planned: for people; what it is when the job runs is copied. */
  readonly digest?: string | undefined;
  /** `docker://…` or `s3://bucket/key`, one at least. */
  readonly to: readonly string[];
  /** Replaces also what is no image at an archive's key. Default false. */
  readonly force?: boolean | undefined;
}

/** Puts one archive back. */
export interface RestoreJob extends JobCommon, Pick<Choices, 'referrers' | 'create'> {
  readonly kind: 'restore';
  /** `s3://bucket/key`. */
  readonly from: string;
  /** `docker://host/repository[:tag]`. */
  readonly to: string;
}

/** Reads every byte of an image, and compares it with another where one is named. */
export interface VerifyJob extends JobCommon {
  readonly kind: 'verify';
  /** `s3://bucket/key` or `docker://…`. */
  readonly from: string;
  readonly against?: string | undefined;
}

/** Goes on with planning a run, behind where the planner had to stop. */
export interface PlanJob extends JobCommon {
  readonly kind: 'plan';
  readonly rule: string;
  /** Images up to this one, in order of repository and then name, are planned. */
  readonly after: { readonly repository: string; readonly name: string };
}

/** The id of a job: the same for the same words. */
export function jobId(...words: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(words)).digest('hex').slice(0, 24);
}
