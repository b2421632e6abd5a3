import { Cron } from 'croner';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { Failure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { quote } from '../util/text.ts';
import type { Assumptions } from './model.ts';

/** The settings of a deployment that decide its costs. */
export interface DeployedParts {
  readonly network: 'own' | 'existing' | 'public';
  readonly prunes: boolean;
  readonly pullAlarm: boolean;
  /** Large images have workers of their own. */
  readonly large: boolean;
  /** Archives go to Glacier Instant Retrieval after 30 days. */
  readonly isCold: boolean;
  readonly vault: { readonly tested: boolean } | undefined;
  /** The assumptions that the settings replace. */
  readonly assumptions: Assumptions;
}

const list = z.array(z.unknown()).default([]);
/** The members that have a price, with the defaults of infra/settings/schema.ts: test/infra/documents.test.ts compares both. */
const schema = z.looseObject({
  version: z.literal(1, 'expected version: 1, as settings of a deployment have'),
  network: z
    .looseObject({
      type: z.enum(['own', 'existing', 'public']),
      natGateways: z.number().default(1),
      availabilityZones: list,
    })
    .prefault({ type: 'own' }),
  largeJobs: z
    .looseObject({
      cpu: z.number().default(4096),
      memoryMiB: z.number().default(16_384),
      diskGiB: z.number().default(200),
    })
    .optional(),
  planEveryMinutes: z.number().positive().default(5),
  encryption: z.string().default('aws'),
  notifications: z.looseObject({ key: z.string().optional() }).prefault({}),
  worker: z
    .looseObject({
      cpu: z.number().default(1024),
      memoryMiB: z.number().default(2048),
      maxTasks: z.number().default(4),
      onDemandBase: z.number().default(1),
      onDemandWeight: z.number().default(0),
      spotWeight: z.number().default(1),
    })
    .prefault({}),
  bucket: z
    .looseObject({ storageClass: z.string().default('STANDARD'), keepOldVersionsDays: z.number().default(90) })
    .prefault({}),
  access: z.looseObject({ roles: list, secrets: list }).prefault({}),
  prune: z.looseObject({ prefixes: list, stores: list }).optional(),
  alarms: z.looseObject({ pullsPerFiveMinutes: z.number().default(0) }).prefault({}),
  vault: z
    .looseObject({
      plan: z
        .looseObject({ deleteAfterDays: z.number().default(35), copyDeleteAfterDays: z.number().default(90) })
        .prefault({}),
      restoreTest: z.looseObject({ cron: z.string().default('0 8 ? * SUN *') }).optional(),
    })
    .optional(),
});

/** Interface endpoints that every network of its own has: ECR's two, SQS, logs. */
const ENDPOINTS = 4;
const DAYS_OF_MONTH = 30;
const MINUTES_OF_MONTH = DAYS_OF_MONTH * 24 * 60;
const DAYS_OF_YEAR = 365;
const MONTHS_OF_YEAR = 12;
/** A year without a leap day. */
const YEAR = { from: new Date('2026-01-01T00:00:00Z'), to: new Date('2027-01-01T00:00:00Z') };

/**
 * Reads what has a price from the settings of a deployment. `npm run synth` checks the rest of them. INVALID for what is not YAML, or does not have
 * the form of settings.
 */
export function parseDeployedParts(text: string, file: string): DeployedParts {
  const settings = readSettings(text, file);
  const {
    access,
    alarms,
    bucket,
    encryption,
    largeJobs,
    network,
    notifications,
    planEveryMinutes,
    prune,
    vault,
    worker,
  } = settings;
  const first = onDemandOf(worker);
  return {
    network: network.type,
    // images of repositories are not archives
    prunes: (prune?.prefixes.length ?? 0) + (prune?.stores.length ?? 0) > 0,
    pullAlarm: alarms.pullsPerFiveMinutes > 0,
    large: largeJobs !== undefined,
    isCold: bucket.storageClass === 'GLACIER_IR',
    vault: vault === undefined ? undefined : { tested: vault.restoreTest !== undefined },
    assumptions: {
      vcpu: worker.cpu / 1024,
      memory_gib: worker.memoryMiB / 1024,
      ...(largeJobs === undefined
        ? {}
        : {
            large_vcpu: largeJobs.cpu / 1024,
            large_memory_gib: largeJobs.memoryMiB / 1024,
            large_disk_gib: largeJobs.diskGiB,
          }),
      old_months: bucket.keepOldVersionsDays / DAYS_OF_MONTH,
      nat: network.natGateways,
      ...(network.availabilityZones.length === 0 ? {} : { zones: network.availabilityZones.length }),
      endpoints: ENDPOINTS + Math.min(1, access.roles.length) + Math.min(1, access.secrets.length),
      passes: MINUTES_OF_MONTH / planEveryMinutes,
      keys: (notifications.key === undefined ? 1 : 0) + (encryption === 'create' ? 1 : 0),
      ...(first === undefined ? {} : { first }),
      ...(vault?.restoreTest === undefined ? {} : { tests: timesOfMonth(vault.restoreTest.cron, file) }),
      ...(vault === undefined
        ? {}
        : { backup_days: vault.plan.deleteAfterDays, copy_days: vault.plan.copyDeleteAfterDays }),
    },
  };
}

function readSettings(text: string, file: string): z.infer<typeof schema> {
  const document = parseDocument(text);
  const [broken] = document.errors;
  if (broken !== undefined) throw new Failure('INVALID', `${file}: ${broken.message.split('\n')[0] ?? ''}`);
  const value: unknown = document.toJS();
  if (isRecord(value) && 'rules' in value)
    throw new Failure(
      'INVALID',
      `${file}: it is a rules file, which has no price by itself: name the settings of the deployment, such as transship.infra.yaml`,
    );
  const read = schema.safeParse(value);
  if (!read.success) {
    const [issue] = read.error.issues;
    throw new Failure('INVALID', `${file}: ${quote(issue?.path.join('.') ?? '')}: ${issue?.message ?? ''}`);
  }
  return read.data;
}

/** The share of hours of tasks on demand, where the settings alone decide it; otherwise it depends on how many tasks run. */
function onDemandOf({
  maxTasks,
  onDemandBase,
  onDemandWeight,
  spotWeight,
}: z.infer<typeof schema>['worker']): number | undefined {
  if (onDemandBase >= maxTasks || spotWeight === 0) return 1;
  return onDemandBase === 0 ? onDemandWeight / (onDemandWeight + spotWeight) : undefined;
}

/**
 * How often a schedule of EventBridge, whose last field is the year, happens in a month of a year. One that happens more often than each hour counts
 * as hourly, so that counting ends soon. INVALID where it is no schedule.
 */
function timesOfMonth(cron: string, file: string): number {
  const fields = cron.replaceAll('?', '*').split(' ').slice(0, -1).join(' ');
  let schedule: Cron;
  try {
    schedule = new Cron(fields, { paused: true, timezone: 'UTC', mode: '5-part' });
  } catch (cause) {
    const message = `${file}: "vault.restoreTest.cron": ${quote(cron)} is not a schedule: expected six fields, such as 0 8 ? * SUN *`;
    throw new Failure('INVALID', message, { cause });
  }
  let times = 0;
  for (
    let at = schedule.nextRun(YEAR.from);
    at !== null && at < YEAR.to && times < DAYS_OF_YEAR * 24;
    at = schedule.nextRun(at)
  )
    times++;
  return times / MONTHS_OF_YEAR;
}
