import { createHash } from 'node:crypto';
import { z } from 'zod';
import { isRecord } from '../util/record.ts';
import { MANY_IMAGES, type ManyImages } from './many-images.ts';
import { checked, digest, invalid, isDocker, moment, name, shown, withoutSecrets, type Fields } from './checked.ts';
import { parseEvent, type ParsedEvent } from './events.ts';
import { MAX_MESSAGE_BYTES } from './queue.ts';

/**
 * The work that a worker is asked to do: one message of the queue, as JSON. The schema of `parseMessage` is the contract, and docs/jobs.md shows it
 * by example. Within a version members are only added, and absent ones have a default.
 */
export type Job = CopyJob | BackupStoreJob | SnapshotJob | RestoreJob | PublishJob | VerifyJob | SettingsJob | PlanJob;

interface JobCommon {
  readonly version: 1;
  /** The same for every message that asks for the same work of the same run: what a run counts, and what duplicates are recognized by. */
  readonly id: string;
  /** The run that counts it. */
  readonly run: string;
  /** The rule that asked for it; absent for a request by hand. */
  readonly rule?: string | undefined;
  /** When it was asked for, ISO 8601. */
  readonly at: string;
  /** How often it was handed on to a new message, since one message is kept in flight for 12 hours at most. Default 0. */
  readonly handovers?: number | undefined;
  /** Large workers do it, where the deployment has them. Default false. */
  readonly large?: boolean | undefined;
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
  /** Replaces also what is not an image at an archive's key. Default false. */
  readonly force?: boolean | undefined;
  /**
   * `backup` only. False: the settings of the repository are not stored beside its archives. Default: they are stored where no settings are stored
   * yet.
   */
  readonly settings?: false | undefined;
}

/** Backs images of one registry up into a store, and writes a snapshot of what it found. */
export interface BackupStoreJob extends JobCommon, ManyImages {
  readonly kind: 'backup-store';
  /** `store:s3://bucket/prefix/`. */
  readonly to: string;
}

/** Writes the snapshot of a run that keeps images of one registry as archives. It is done when every other job of its run has ended. */
export interface SnapshotJob extends JobCommon, ManyImages {
  readonly kind: 'snapshot';
  readonly rule: string;
  /** The template of the archives: `s3://bucket/{regionName}/{repository}/{tag}.tar`. */
  readonly to: string;
}

/** Puts one archive back. */
export interface RestoreJob extends JobCommon, Pick<Choices, 'referrers' | 'create'> {
  readonly kind: 'restore';
  /** `s3://bucket/key`. */
  readonly from: string;
  /** `docker://host/repository[:tag]`. */
  readonly to: string;
}

/** Keeps the objects of a bucket as artifacts in a repository, and a snapshot that lists them. */
export interface PublishJob extends JobCommon {
  readonly kind: 'publish';
  /** `s3://bucket/prefix`. */
  readonly from: string;
  /** `docker://host/repository`. */
  readonly to: string;
}

/** Reads every byte of an image, and compares it with another where one is named; or verifies a place of many images. */
export interface VerifyJob extends JobCommon {
  readonly kind: 'verify';
  /** `s3://bucket/key` or `docker://…`; a place: `store:s3://bucket/prefix/`, `s3://bucket/prefix/`, `docker://host/repositories*`. */
  readonly from: string;
  /** How deep a place is verified. Default: `bytes` for archives, `blobs` for stores and registries. */
  readonly depth?: 'tags' | 'blobs' | 'bytes' | undefined;
  /** Which part of a place is read, counted from 0. Default: everything. */
  readonly sample?: { readonly slice: number; readonly slices: number } | undefined;
  readonly against?: string | undefined;
  /**
   * `docker://host/prefix`: the job is a drill, which restores images of a store or of archives into scratch repositories there. Only the jobs
   * of rules have it.
   */
  readonly restoreTo?: string | undefined;
}

/** Stores the settings of a repository beside its archives, where they are not stored already. */
export interface SettingsJob extends JobCommon {
  readonly kind: 'settings';
  readonly rule: string;
  /** `docker://host/repository`. */
  readonly from: string;
  /** `s3://bucket/folder/repository.json`. */
  readonly to: string;
}

/** Goes on with planning a run, after the image where the planner had to stop. */
export interface PlanJob extends JobCommon {
  readonly kind: 'plan';
  readonly rule: string;
  /** Images up to this one, in order of repository and then name, are planned. */
  readonly after: { readonly repository: string; readonly name: string };
}

/**
 * A job that a person asks for, with a message written by hand: `id`, `run` and `at` are for the worker to fill in, since it is a run of its
 * own. `{ ...request, id, run, at }` is the job. With the message's id in the run's, duplicates of the message are the same run. None asks
 * for settings: it could store those of another registry where a rule keeps its own.
 */
export type JobRequest =
  | RequestOf<CopyJob, 'rule'>
  | RequestOf<BackupStoreJob, 'rule'>
  | RequestOf<RestoreJob, 'rule'>
  | RequestOf<PublishJob, 'rule'>
  | RequestOf<VerifyJob, 'rule' | 'restoreTo'>
  | RequestOf<PlanJob>;

type RequestOf<J extends Job, More extends keyof J = never> = Omit<J, 'id' | 'run' | 'at' | 'handovers' | More>;

/** What a message of the queue asks for. */
export type ParsedMessage =
  | { readonly type: 'job'; readonly job: Job }
  | { readonly type: 'request'; readonly request: JobRequest }
  | ParsedEvent;

/** The id of a job: the same for the same words. */
export function jobId(...words: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(words)).digest('hex').slice(0, 24);
}

/** Longer than a bucket and a key of S3, and than any reference. */
const MAX_LOCATION = 2048;
/** The most destinations of one job. */
export const MAX_DESTINATIONS = 100;
/** A policy has some five; what is nested by the thousands can be read, and not be written again. */
const MAX_SETTINGS_DEPTH = 50;

const image = location('docker://', 'docker://host/repository:tag');
const archive = location('s3://', 's3://bucket/key');
const objects = location('s3://', 's3://bucket/prefix');
const repository = location('docker://', 'docker://host/repository');
const scratch = location('docker://', 'docker://host/prefix');
const store = location('store:s3://', 'store:s3://bucket/prefix/');
const template = location('s3://', 's3://bucket/{repository}/{tag}.tar');
const verified = location(
  '(?:docker://|s3://|store:s3://)',
  'docker://host/repository:tag, s3://bucket/key or store:s3://bucket/prefix/',
);
const either = location('(?:docker|s3)://', 'docker://host/repository:tag or s3://bucket/key');

const common = {
  version: z.literal(1),
  id: name,
  run: name,
  rule: name.optional(),
  at: moment,
  handovers: z.int().min(0, 'expected 0 or more').optional(),
  large: z.boolean('expected true or false').optional(),
};
const { referrers } = MANY_IMAGES;
const create = z
  .union(
    [z.literal(false), z.record(z.string(), z.unknown())],
    'expected an object, as repository.json has it, or false',
  )
  .refine(
    (value) => isShallow(value, MAX_SETTINGS_DEPTH),
    `expected settings nested ${MAX_SETTINGS_DEPTH} deep at most`,
  )
  .optional();
const choices = {
  platforms: MANY_IMAGES.platforms,
  referrers,
  create,
};

const BY_KIND = {
  mirror: z.object({ ...common, ...choices, kind: z.literal('mirror'), ...copyTo(image) }),
  backup: z.object({
    ...common,
    ...choices,
    kind: z.literal('backup'),
    ...copyTo(archive),
    settings: z.literal(false, 'expected false').optional(),
  }),
  'backup-store': z.object({ ...common, ...MANY_IMAGES, kind: z.literal('backup-store'), to: store }),
  snapshot: z.object({ ...common, ...MANY_IMAGES, kind: z.literal('snapshot'), rule: name, to: template }),
  restore: z.object({ ...common, kind: z.literal('restore'), referrers, create, from: archive, to: image }),
  publish: z.object({ ...common, kind: z.literal('publish'), from: objects, to: repository }),
  verify: z.object({
    ...common,
    kind: z.literal('verify'),
    from: verified,
    depth: z.enum(['tags', 'blobs', 'bytes'], 'expected tags, blobs or bytes').optional(),
    sample: z
      .strictObject({ slice: z.int().min(0), slices: z.int().min(1).max(9999) })
      .refine(({ slice, slices }) => slice < slices, 'expected a slice below the number of slices')
      .optional(),
    against: either.optional(),
    restoreTo: scratch.optional(),
  }),
  settings: z.object({ ...common, kind: z.literal('settings'), rule: name, from: repository, to: archive }),
  plan: z.object({
    ...common,
    kind: z.literal('plan'),
    rule: name,
    after: z.object({ repository: z.string(), name: z.string() }),
  }),
};

const JOB: z.ZodType<Job> = z.discriminatedUnion('kind', [
  BY_KIND.mirror,
  BY_KIND.backup,
  BY_KIND['backup-store'],
  BY_KIND.snapshot,
  BY_KIND.restore,
  BY_KIND.publish,
  BY_KIND.verify,
  BY_KIND.settings,
  BY_KIND.plan,
]);

const FILLED_IN = { id: true, run: true, at: true, handovers: true } as const;
const FILLED_IN_AND_RULE = { ...FILLED_IN, rule: true } as const;

// an unknown member that a person wrote is a slip, and refused; one that a newer planner wrote may be left aside, see docs/jobs.md
const REQUEST: z.ZodType<JobRequest> = z.discriminatedUnion('kind', [
  BY_KIND.mirror.omit(FILLED_IN_AND_RULE).strict(),
  BY_KIND.backup.omit(FILLED_IN_AND_RULE).strict(),
  BY_KIND['backup-store'].omit(FILLED_IN_AND_RULE).strict(),
  BY_KIND.restore.omit(FILLED_IN_AND_RULE).strict(),
  BY_KIND.publish.omit(FILLED_IN_AND_RULE).strict(),
  // a drill writes, and only a rule may name where
  BY_KIND.verify.omit({ ...FILLED_IN_AND_RULE, restoreTo: true }).strict(),
  BY_KIND.plan
    .omit(FILLED_IN)
    .extend({ after: BY_KIND.plan.shape.after.default({ repository: '', name: '' }) })
    .strict(),
]);

const KINDS = [
  'mirror',
  'backup',
  'backup-store',
  'snapshot',
  'restore',
  'publish',
  'verify',
  'settings',
  'plan',
] as const satisfies readonly Job['kind'][];

/**
 * Reads the body of a message: a job, a job that a person asks for (without `run`), or an event of ECR or S3 as EventBridge sends it, also
 * by way of SNS. Places are checked by their beginning only. INVALID, with the reason, for everything else.
 */
export function parseMessage(body: string): ParsedMessage {
  const bytes = Buffer.byteLength(body);
  if (bytes > MAX_MESSAGE_BYTES) throw invalid(`message of ${bytes} bytes: a queue takes ${MAX_MESSAGE_BYTES} at most`);
  const message = parseObject(body);
  // https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html: what SNS sends to a queue without raw delivery
  const { Type: type, Message: inner } = message;
  return fromObject(type === 'Notification' && typeof inner === 'string' ? parseObject(inner) : message);
}

/** What `parseMessage` reads back. Characters that SQS does not take are escaped. */
export function formatJob(job: Job): string {
  // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html: those of XML; JSON escapes the others
  return JSON.stringify(job).replace(/[\uFFFE\uFFFF]/g, (c) => `\\u${c.charCodeAt(0).toString(16)}`);
}

function parseObject(text: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid(`message is no JSON: it begins with ${shown(text.slice(0, 40))}`);
  }
  if (!isRecord(value)) throw invalid(`message is ${shown(value)}: expected a JSON object`);
  return value;
}

function fromObject(message: Fields): ParsedMessage {
  if (message['detail-type'] !== undefined) return parseEvent(message);
  const { version } = message;
  if (version === undefined)
    throw invalid('message without a version: expected "version": 1, or an event of ECR or S3 as EventBridge sends it');
  if (typeof version === 'number' && Number.isInteger(version) && version > 1)
    throw invalid(`message of version ${version}: this worker reads version 1, deploy a newer one`);
  if (version !== 1) throw invalid(`message of version ${shown(version)}: expected 1`);
  const kind = KINDS.find((known) => known === message['kind']);
  if (kind === undefined) {
    const what = message['kind'] === undefined ? 'message without a kind' : `message of kind ${shown(message['kind'])}`;
    throw invalid(`${what}: this worker knows ${KINDS.join(', ')}`);
  }
  if (message['run'] !== undefined) return { type: 'job', job: checked(JOB, message, `${kind} job`) };
  for (const member of ['id', 'at', 'handovers'])
    if (message[member] !== undefined)
      throw invalid(`${kind} job: it has ${member}, but no run: leave both out, the worker fills them in`);
  if (kind === 'settings')
    throw invalid('settings job: it has no run: only rules ask for settings; request a backup of an image instead');
  if (kind === 'snapshot')
    throw invalid('snapshot job: it has no run: it is about a run of a rule; request a run of the rule instead');
  return { type: 'request', request: checked(REQUEST, message, `${kind} job`) };
}

/** Whether `value` has lists and objects within each other at most so many times. */
function isShallow(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return true;
  return levels > 0 && Object.values(value).every((member) => isShallow(member, levels - 1));
}

function location(prefix: string, example: string): z.ZodString {
  return (
    z
      .string()
      .regex(new RegExp(`^${prefix}[^\\p{Cc}]+$`, 'u'), `expected ${example}`)
      // it would be in logs and in the state
      .refine(
        (text) => !isDocker(text) || withoutSecrets(text) === text,
        `expected ${example} without password and query`,
      )
      .max(MAX_LOCATION, `expected ${MAX_LOCATION} characters at most`)
  );
}

function copyTo(destination: z.ZodString): {
  readonly from: z.ZodString;
  readonly digest: z.ZodOptional<z.ZodString>;
  readonly to: z.ZodArray<z.ZodString>;
  readonly force: z.ZodOptional<z.ZodBoolean>;
} {
  return {
    from: image,
    digest: digest.optional(),
    to: z
      .array(destination)
      .min(1, 'expected one destination at least')
      .max(MAX_DESTINATIONS, `expected ${MAX_DESTINATIONS} destinations at most`)
      // it would wait for its own lease
      .refine((list) => new Set(list).size === list.length, 'one destination is named twice'),
    force: z.boolean('expected true or false').optional(),
  };
}
