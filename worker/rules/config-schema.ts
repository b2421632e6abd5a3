import { z } from 'zod';
import { MAX_DESTINATIONS } from '../queue/job.ts';
import { ecrHost } from '../oci/ecr-host.ts';
import { withoutTransport } from '../oci/location.ts';
import { parsePlatform } from '../oci/manifest.ts';
import { parseRepository } from '../oci/reference.ts';
import { parseRange, tagMatcher } from '../oci/tag-pattern.ts';
import { isRecord } from '../util/record.ts';
import { quote } from '../util/text.ts';
import { AccessSchema, AllowSchema } from './access-schema.ts';
import { CreateSchema } from './create-schema.ts';
import { parsePublished, parseTemplate } from './destinations.ts';
import { parseExpiry } from './expiry.ts';
import type { Fault } from './faults.ts';
import { PruneSchema } from './prune-schema.ts';
import { checkSchedule, checkTimeZone } from './schedule.ts';
import { mapping, someOf, textOf } from './schema-parts.ts';
import { parseSource } from './sources.ts';
import { isStore, parseStore } from './stores.ts';
import { VerifySchema } from './verify-schema.ts';

// The schema of the rules file. Every string is checked by the function that reads it later, so that no rule is refused only when it runs.

const count = z.int().min(1).max(1_000_000);
const days = z.number().positive().max(36_500);
const pattern = textOf(tagMatcher, 'A glob such as `3.*`, or a `/regular expression/`.');
const patterns = someOf(pattern);

const TagsSchema = z.union(
  [
    pattern.transform((one) => ({ include: [one] })),
    z.array(pattern).transform((include) => ({ include })),
    mapping({
      include: patterns.optional().describe('One of these has to match. Default: all tags.'),
      exclude: patterns.optional().describe('None of these may match.'),
      semver: textOf(parseRange, 'A range of versions as npm has it, such as `>=3.18 <4`.').optional(),
      latest: z
        .union([count, mapping({ count, by: z.enum(['version', 'push']).default('version') })], {
          error: 'a whole number, or {count, by: version or push}',
        })
        .transform((value) => (typeof value === 'number' ? { count: value, by: 'version' as const } : value))
        .optional()
        .describe('The N highest versions, or the N tags pushed last. Counted after every other condition.'),
      maxAgeDays: days.optional().describe('Pushed at most so many days ago. Amazon ECR only.'),
      untagged: z.boolean().default(false).describe('Images without a tag too. Amazon ECR only.'),
    }),
  ],
  { error: 'a list of patterns, or a mapping with include, exclude, semver, latest, maxAgeDays, untagged' },
);

const PLATFORMS = 'All, or a list of `os/architecture[/variant]`.';
const platform = textOf(parsePlatform, 'os/architecture[/variant]');
const PlatformsSchema = z
  .union([z.literal('all'), platform, z.array(platform).min(1)], {
    error: 'all, or a list such as [linux/amd64, linux/arm64]',
  })
  .transform((value): readonly string[] =>
    value === 'all' ? [] : typeof value === 'string' ? [value] : [...new Set(value)],
  )
  .describe(PLATFORMS);

const SourcesSchema = someOf(textOf(parseSource, 'host/repository; its path with `*` and `{a,b}`; an ECR host alone.'));

const IN_S3 = { pattern: '^s3://' };

const REGION = /^[a-z]{2,4}(?:-[a-z]+)+-[0-9]$/;
const REGION_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const RegionNamesSchema = z
  .record(
    z.string().regex(REGION, { error: 'a Region of AWS, such as us-east-1' }),
    z.string().regex(REGION_NAME, { error: 'letters, digits, ".", "_" and "-", 64 at most' }),
  )
  .check((ctx) => {
    const names = Object.values(ctx.value);
    // archives of both would have one key
    const twice = names.find((name, at) => names.indexOf(name) !== at);
    if (twice !== undefined)
      ctx.issues.push({ code: 'custom', message: `two Regions have the name ${quote(twice)}`, input: ctx.value });
  })
  .describe('What `{regionName}` in `to` is for Regions of ECR: `us-east-1: virginia`. Default: the Region.');

const COPIED = {
  from: SourcesSchema.describe('Where images come from.'),
  tags: TagsSchema.optional().describe('Default: all tags.'),
  platforms: PlatformsSchema.optional(),
  referrers: z.boolean().default(true).describe('Signatures, SBOMs and what else refers to an image.'),
};

const MirrorSchema = mapping({
  ...COPIED,
  to: someOf(
    textOf((text) => parseTemplate('mirror', text), 'host/path/{repository}[:{tag}]'),
    {
      most: MAX_DESTINATIONS,
    },
  ).describe('Their destinations, in registries.'),
  regionNames: RegionNamesSchema.optional(),
  create: CreateSchema.optional().describe(
    'Settings of repositories that have to be created; false: none are created.',
  ),
});

const BackupSchema = mapping({
  ...COPIED,
  to: someOf(
    textOf(
      (text) => (isStore(text) ? parseStore(text) : parseTemplate('backup', text)),
      's3://bucket/{regionName}/{repository}/{tag}.tar, or store:s3://bucket/prefix/',
    ).meta({ pattern: '^(?:store:)?s3://' }),
    { most: MAX_DESTINATIONS },
  ).describe('The destinations of their archives, in S3, or a store, which has each blob once.'),
  regionNames: RegionNamesSchema.optional(),
  includeArchived: z
    .boolean()
    .default(false)
    .describe(
      "Into stores alone: images in Amazon ECR's archive storage class are restored, stored and archived again. Otherwise snapshots list them.",
    ),
  settings: z
    .boolean()
    .default(true)
    .describe(
      'Whether the settings of Amazon ECR repositories are stored beside their archives. A run that cannot read or store them is not a good one.',
    ),
  snapshots: z
    .boolean()
    .default(true)
    .describe('Whether each run ends with a snapshot that lists its archives. A store always gets one.'),
  report: z
    .boolean()
    .default(false)
    .describe('Whether each run ends with a page about all backups there: `report.html` beside the snapshots.'),
}).check((ctx) => {
  const { to, includeArchived, snapshots, report } = ctx.value;
  if (includeArchived && !to.every(isStore))
    ctx.issues.push({
      code: 'custom',
      message:
        'archived images go into stores alone: expected only store:s3://… in "to", or the command `transship backup --include-archived` for archives',
      input: ctx.value,
      path: ['includeArchived'],
    });
  if (report && !snapshots && !to.every(isStore))
    ctx.issues.push({
      code: 'custom',
      message: 'the page is made of snapshots: expected no "report", or no "snapshots: false"',
      input: ctx.value,
      path: ['report'],
    });
});

const PublishSchema = mapping({
  from: textOf(parsePublished, 's3://bucket/prefix').meta(IN_S3),
  to: textOf((text) => parseRepository(withoutTransport(text)), 'host/repository'),
});

const CRON = 'Five fields, or six with seconds: `0 2 * * *`.';
const ScheduleSchema = z
  .union(
    [
      textOf((cron) => checkSchedule({ cron, timeZone: 'UTC' }, EPOCH_OF_SCHEDULES), CRON),
      mapping({
        cron: textOf((cron) => checkSchedule({ cron, timeZone: 'UTC' }, EPOCH_OF_SCHEDULES), CRON),
        timeZone: textOf(checkTimeZone, 'IANA name, such as Europe/Berlin.').default('UTC'),
      }),
    ],
    { error: 'a cron text such as "0 2 * * *", or {cron, timeZone}' },
  )
  .transform((value) => (typeof value === 'string' ? { cron: value, timeZone: 'UTC' } : value));

/** Schedules are checked from this moment on, so that no check depends on today. One that names no time after it never names one. */
const EPOCH_OF_SCHEDULES = 0;

const KINDS = ['mirror', 'backup', 'publish', 'prune', 'verify'] as const;

/** One rule. What it takes is what `ruleOf` of rule-document.ts makes a `Rule` of. */
export const RuleSchema = mapping({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/, {
      error: 'letters, digits, "-", "_" and ".", 64 at most, a letter or digit first',
    })
    .describe('What the rule is called in runs, logs and commands. No two have the same.'),
  mirror: MirrorSchema.optional().describe('Keeps images equal in other registries.'),
  backup: BackupSchema.optional().describe('Keeps images as archives in S3.'),
  publish: PublishSchema.optional().describe('Keeps S3 objects as OCI artifacts in a registry.'),
  prune: PruneSchema.optional().describe('Deletes what is no longer kept.'),
  verify: VerifySchema.optional().describe('Proves that a store, archives or a registry are what they should be.'),
  schedule: ScheduleSchema.optional().describe('When all of it is compared.'),
  on: z
    .literal('push')
    .optional()
    .describe('A push to a source in ECR, or a change below a prefix of S3, starts a job at once.'),
  expires: textOf(parseExpiry, 'The last day (UTC), or the moment from which on it is not planned.').optional(),
}).meta({
  oneOf: KINDS.map((kind) => ({ required: [kind] })),
  anyOf: [{ required: ['schedule'] }, { required: ['on'] }, { required: ['prune'] }],
});

/** What is wrong with a rule as a whole. It is found even where parts of the rule cannot be read. */
export function ruleFaults(rule: Readonly<Record<string, unknown>>): readonly Fault[] {
  const faults: Fault[] = [];
  const said = KINDS.filter((kind) => rule[kind] !== undefined);
  if (said.length !== 1) {
    const what = said.length === 0 ? 'it has no work to do' : `it has ${said.join(' and ')}`;
    faults.push({ path: [], message: `${what}: expected one of ${KINDS.join(', ')}` });
  }
  if (rule['schedule'] === undefined && rule['on'] === undefined && rule['prune'] === undefined)
    faults.push({ path: [], message: 'it has no time: expected "schedule", "on: push", or both' });
  if (rule['on'] !== 'push' || said.length !== 1 || said[0] === 'publish') return faults;
  const copied = rule['mirror'] ?? rule['backup'];
  const from = SourcesSchema.safeParse(isRecord(copied) ? copied['from'] : undefined);
  if (copied === undefined) faults.push({ path: ['on'], message: 'only mirror, backup and publish start by a push' });
  else if (from.success && !from.data.flatMap(parseSource).some(({ registry }) => ecrHost(registry) !== undefined))
    faults.push({
      path: ['on'],
      message: 'only Amazon ECR reports pushes, and no source is there: expected a schedule alone',
    });
  return faults;
}

export const ConfigSchema = mapping({
  version: z.literal(1).describe('Of the format.'),
  registries: AccessSchema.optional(),
  allow: AllowSchema.optional(),
  rules: z.array(RuleSchema).describe('What to keep, where, and when.'),
});
