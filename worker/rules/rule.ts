import type { RepositoryPolicy } from '../retention/policy.ts';

/** What to keep, where, and when: the rules of a configuration file, as `parseConfig` gives them, defaults filled in. */
export interface Config {
  readonly version: 1;
  /** How registries are reached, by host. */
  readonly registries: Access;
  /** Where requests by hand may write beside what rules write to, as `parseAllowed` reads it. Empty: nowhere else. */
  readonly allow: readonly string[];
  readonly rules: readonly Rule[];
}

/** How registries are reached, by host. Hosts that are absent: with what the process has. */
export type Access = Readonly<Record<string, RegistryAccess>>;

interface RegistryAccess {
  /** ARN of a secret of AWS Secrets Manager: `{"username": …, "password": …}` or `{"username": …, "accessToken": …}` as JSON. */
  readonly secret?: string | undefined;
  /** ARN of the role to assume, of an ECR registry. */
  readonly assumeRole?: string | undefined;
  readonly externalId?: string | undefined;
}

/** One rule of the rules file. */
export type Rule = CopyRule | PublishRule | PruneRule | VerifyRule;

interface RuleCommon {
  /** Letters, digits, `-`, `_` and `.`, 64 at most. */
  readonly name: string;
  /** When all of it is compared; a rule that is only `on: push` gets a daily one, since events of ECR are best effort. */
  readonly schedule: Schedule;
  /** Whether a push to one of its sources starts a job at once. */
  readonly onPush: boolean;
  /** From this moment on it is not planned, in milliseconds since 1970. */
  readonly expiresAtMs?: number | undefined;
}

/** When a rule runs. */
export interface Schedule {
  /** Five fields, or six with seconds, as croner reads them. */
  readonly cron: string;
  /** IANA name. Default `UTC`. */
  readonly timeZone: string;
}

/** Keeps images equal in other registries (`mirror`), or as archives in S3 (`backup`). */
export interface CopyRule extends RuleCommon {
  readonly kind: 'mirror' | 'backup';
  /** `host/repository`, its path with `*` and `{a,b}`; `host` alone or `host/*` is every repository of an ECR registry. One at least. */
  readonly from: readonly string[];
  /**
   * Templates of destinations: `host/path/{repository}[:{tag}]` of a mirror, whose tag is the source's where none is named, or
   * `s3://bucket/{regionName}/{repository}/{tag}.tar` of a backup. Variables as `expandTemplate` has them. One at least, where there are no
   * `stores`.
   */
  readonly to: readonly string[];
  /** `backup` only. Stores that get every image, each blob once: `store:s3://bucket/prefix/`. Absent: none. */
  readonly stores?: readonly string[] | undefined;
  readonly tags: TagSelection;
  /** `os/architecture[/variant]`; empty for all. */
  readonly platforms: readonly string[];
  /** Signatures, SBOMs and what else refers to an image. Default true. */
  readonly referrers: boolean;
  /** Settings of repositories that have to be created, as `repository.json` has them; false: none are created. Absent: as ECR has it. */
  readonly create?: Readonly<Record<string, unknown>> | false | undefined;
  /** `backup` only. False: settings of repositories are not stored beside their archives. Absent: a run stores them, or is not a good one. */
  readonly settings?: false | undefined;
  /** `backup` only. False: its runs write no snapshots of their archives. Absent: they do. Stores always get snapshots. */
  readonly snapshots?: false | undefined;
  /** `backup` into stores only. True: images in ECR's archive storage class are restored, stored and archived again. Absent: only listed. */
  readonly includeArchived?: true | undefined;
  /** `backup` only. True: each run writes a page about all backups of each place beside its snapshots. Absent: none does. */
  readonly report?: true | undefined;
}

/** Which images of a repository. Those that pass every condition named; `latest` counts last. */
export interface TagSelection {
  /** Globs, or `/regular expressions/`; empty for all. */
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  /** A range as of npm's semver; tags that are not versions do not match it. */
  readonly semver?: string | undefined;
  /** The N highest versions, or the N pushed last. */
  readonly latest?: { readonly count: number; readonly by: 'version' | 'push' } | undefined;
  /** Pushed at most so many days ago. */
  readonly maxAgeDays?: number | undefined;
  /** Images without a tag too, of ECR: those that are no child of an index and refer to no image. Default false. */
  readonly untagged: boolean;
}

/** Keeps S3 objects as OCI artifacts in a registry. */
export interface PublishRule extends RuleCommon {
  readonly kind: 'publish';
  /** `s3://bucket/prefix/`, or `s3://bucket/` for all of it. */
  readonly from: string;
  /** `host/repository`. */
  readonly to: string;
}

/** Deletes what is no longer kept. A Cleaner runs it. */
export interface PruneRule extends RuleCommon {
  readonly kind: 'prune';
  /** `host/repositories*` or `s3://bucket/prefix/`, or stores alone (`store:s3://bucket/prefix/`), one at least. */
  readonly at: readonly string[];
  /** The first that matches a repository decides; what none matches is kept. */
  readonly policies: readonly RepositoryPolicy[];
  /** `s3://bucket/prefix/`: only what a rule has backed up there is deleted. */
  readonly requireBackup?: string | undefined;
  /** The most that one run deletes. Default 1000. */
  readonly maxDeletes: number;
  /** Only logs what would be deleted. Default false. */
  readonly dryRun: boolean;
}

/** Proves that places are what they should be. */
export interface VerifyRule extends RuleCommon {
  readonly kind: 'verify';
  /** `store:s3://bucket/prefix/`, `s3://bucket/prefix/` or `host/repositories*`, one at least. */
  readonly at: readonly string[];
  /** Absent: every byte of archives, and the presence of all blobs of stores and registries. */
  readonly depth?: 'tags' | 'blobs' | 'bytes' | undefined;
  /** The most that one run reads, in percent; each run reads another part. Absent: everything. */
  readonly sample?: number | undefined;
  /** `host/prefix`: each run is a drill, which restores images of `at` into scratch repositories there. Absent: runs only read. */
  readonly restoreTo?: string | undefined;
}

/** A rule whose runs a planner begins and workers do. */
export type PlannedRule = CopyRule | PublishRule | VerifyRule;

/** Whether the rule copies images. */
export function isCopyRule(rule: Rule): rule is CopyRule {
  return rule.kind === 'mirror' || rule.kind === 'backup';
}

/** Whether a planner begins the runs of the rule. A Cleaner begins those of the others. */
export function isPlannedRule(rule: Rule): rule is PlannedRule {
  return isCopyRule(rule) || rule.kind === 'publish' || rule.kind === 'verify';
}

/** Whether the rule is not planned any more. */
export function isExpired(rule: Rule, nowMs: number): boolean {
  return rule.expiresAtMs !== undefined && rule.expiresAtMs <= nowMs;
}

/** An image that a source has, as a selection sees it. */
export interface Candidate {
  /** Absent: an image without one. */
  readonly tag: string | undefined;
  /** Known where the list of the registry has it. */
  readonly digest: string | undefined;
  readonly pushedAtMs: number | undefined;
  /** Whether the tag, which looks like that of a list of referrers (`sha256-…`), is known to name an image. Default false. */
  readonly namesImage?: boolean | undefined;
}
