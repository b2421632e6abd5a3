import { z } from 'zod';
import { MAX_DESTINATIONS } from '../queue/job.ts';
import { ecrHost } from '../oci/ecr-host.ts';
import { parsePlatform } from '../oci/manifest.ts';
import { formatRepository, parseReference, parseRepository, withoutSecrets } from '../oci/reference.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { suggest } from '../util/suggest.ts';
import { quote } from '../util/text.ts';
import { isRecord } from '../util/record.ts';
import type { Fault } from './conflicts.ts';
import { parseTemplate } from './destinations.ts';
import { parseS3, withoutTransport } from '../oci/location.ts';
import type { Access, CopyRule, Rule, TagSelection } from './rule.ts';
import { checkSchedule, checkTimeZone, dailySchedule } from './schedule.ts';
import { parseRange, tagMatcher } from './select.ts';
import { formatSource, parseSource } from './sources.ts';

// The words of the configuration file. Every text is read here once, by who will read it later, so that nothing is refused only when it runs.

/** Text that `read` takes; the message of its failure says what was given and expected. */
function textOf(read: (text: string) => unknown, description: string): z.ZodString {
  return z
    .string()
    .check((ctx) => {
      const message = refusal(() => read(ctx.value));
      if (message !== undefined) ctx.issues.push({ code: 'custom', message, input: ctx.value });
    })
    .describe(description);
}

function refusal(read: () => unknown): string | undefined {
  try {
    read();
    return undefined;
  } catch (error) {
    if (isFailure(error, 'INVALID')) return error.message;
    throw error;
  }
}

/** One, or a list of one at least. */
function someOf<T extends z.ZodType<string, string>>(one: T, options: { readonly most?: number } = {}) {
  const list = z.array(one).min(1);
  return z
    .union([one, options.most === undefined ? list : list.max(options.most)], {
      error: 'a string, or a list of strings',
    })
    .transform((value): readonly string[] => (typeof value === 'string' ? [value] : value));
}

/**
 * A mapping with these keys alone; of others it tells which was probably meant. What `.meta` adds to one is for the JSON Schema: reading a file
 * tells the same in better words.
 */
function mapping<S extends z.core.$ZodShape>(shape: S) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) => {
      if (issue.code !== 'unrecognized_keys') return undefined;
      return issue.keys
        .map((key) => {
          const meant = suggest(key, known);
          const hint = meant === undefined ? `expected ${known.join(', ')}` : `did you mean ${quote(meant)}?`;
          return `there is no ${quote(key)} here; ${hint}`;
        })
        .join('\n');
    },
  });
}

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

const json = (what: string) =>
  z
    .union([z.record(z.string(), z.unknown()), textOf(parseJsonObject, `${what} as JSON text.`)], {
      error: `${what} as a mapping, or as JSON text`,
    })
    .transform((value) => (typeof value === 'string' ? value : JSON.stringify(value)));

const ENCRYPTIONS = ['AES256', 'KMS', 'KMS_DSSE'] as const;
const MUTABILITIES = ['MUTABLE', 'IMMUTABLE', 'MUTABLE_WITH_EXCLUSION', 'IMMUTABLE_WITH_EXCLUSION'] as const;

/** Settings in words of the file become those of `repository.json`, whose own are taken too. */
const CreateSchema = z.union(
  [
    z.boolean().transform((create) => (create ? undefined : (false as const))),
    mapping({
      immutable: z
        .union([z.boolean(), mapping({ except: patternsOfEcr() })], {
          error: 'true, false, or {except: [wildcards of tags]}',
        })
        .optional()
        .describe('Whether tags stay what they are.'),
      scan: z.boolean().optional().describe('Whether images are scanned when they are pushed.'),
      encryption: z
        .union(
          [
            z.enum(ENCRYPTIONS).transform((type) => ({ type, key: undefined })),
            mapping({ type: z.enum(ENCRYPTIONS), key: z.string().min(1).optional() }),
          ],
          { error: 'AES256, KMS, KMS_DSSE, or {type, key}' },
        )
        .optional(),
      tags: z.record(z.string(), z.string()).optional().describe('Tags of the repository as an AWS resource.'),
      lifecycle: json('a lifecycle policy of ECR').optional(),
      policy: json('a repository policy').optional(),
      tagMutability: z.enum(MUTABILITIES).optional(),
      tagMutabilityExclusions: patternsOfEcr().optional(),
      scanOnPush: z.boolean().optional(),
      lifecyclePolicy: json('a lifecycle policy of ECR').optional(),
      repositoryPolicy: json('a repository policy').optional(),
    })
      .check((ctx) => {
        for (const [a, b] of SYNONYMS) {
          if (ctx.value[a] === undefined || ctx.value[b] === undefined) continue;
          const message = `${a} and ${b} are one setting: expected one of them`;
          ctx.issues.push({ code: 'custom', message, input: ctx.value, path: [b] });
        }
        const { tagMutability, tagMutabilityExclusions } = ctx.value;
        if (tagMutability?.endsWith('_WITH_EXCLUSION') === true && tagMutabilityExclusions === undefined) {
          const message = `${quote(tagMutability)} needs tagMutabilityExclusions`;
          ctx.issues.push({ code: 'custom', message, input: ctx.value, path: ['tagMutability'] });
        }
      })
      .transform((c) => {
        const { immutable } = c;
        const except = typeof immutable === 'object' ? immutable.except : undefined;
        return withoutAbsent({
          tagMutability:
            immutable === undefined
              ? c.tagMutability
              : except !== undefined
                ? 'IMMUTABLE_WITH_EXCLUSION'
                : immutable === true
                  ? 'IMMUTABLE'
                  : 'MUTABLE',
          tagMutabilityExclusions: except ?? c.tagMutabilityExclusions,
          scanOnPush: c.scan ?? c.scanOnPush,
          encryption: c.encryption === undefined ? undefined : withoutAbsent(c.encryption),
          tags: c.tags,
          lifecyclePolicy: c.lifecycle ?? c.lifecyclePolicy,
          repositoryPolicy: c.policy ?? c.repositoryPolicy,
        });
      }),
  ],
  { error: 'true, false, or a mapping of settings' },
);

const SYNONYMS = [
  ['immutable', 'tagMutability'],
  ['immutable', 'tagMutabilityExclusions'],
  ['scan', 'scanOnPush'],
  ['lifecycle', 'lifecyclePolicy'],
  ['policy', 'repositoryPolicy'],
] as const;

function patternsOfEcr() {
  // https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageTagMutabilityExclusionFilter.html
  return z
    .array(z.string().regex(/^[0-9A-Za-z._*-]{1,128}$/, { error: 'tags with "*" for any characters' }))
    .min(1)
    .max(5)
    .transform((list): readonly string[] => list);
}

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
  ).describe('Where they are to be, in a registry.'),
  create: CreateSchema.optional().describe(
    'Settings of repositories that have to be created; false: none are created.',
  ),
});

const BackupSchema = mapping({
  ...COPIED,
  to: someOf(
    textOf((text) => parseTemplate('backup', text), 's3://bucket/{regionName}/{repository}/{tag}.tar').meta(IN_S3),
    { most: MAX_DESTINATIONS },
  ).describe('Where their archives are to be, in S3.'),
});

const PublishSchema = mapping({
  from: textOf(parseS3, 's3://bucket/prefix').meta(IN_S3),
  to: textOf((text) => parseRepository(withoutTransport(text)), 'host/repository'),
});

const PruneSchema = mapping({
  at: textOf(
    (text) => (text.startsWith('s3://') ? parseS3(text) : parseSource(text)),
    'host/repositories* or s3://bucket/prefix',
  ),
  untaggedAfterDays: days.optional().describe('Deletes images without a tag that are older.'),
  keepLast: count.optional().describe('Keeps the N newest of each repository.'),
  keepDays: days.optional().describe('Keeps what is younger.'),
  keepTags: patterns.optional().describe('Keeps these tags.'),
})
  .check((ctx) => {
    const { untaggedAfterDays, keepLast, keepDays } = ctx.value;
    if (untaggedAfterDays !== undefined || keepLast !== undefined || keepDays !== undefined) return;
    const message = 'it says nothing to delete: expected one of untaggedAfterDays, keepLast, keepDays at least';
    ctx.issues.push({ code: 'custom', message, input: ctx.value });
  })
  .meta({ anyOf: [{ required: ['untaggedAfterDays'] }, { required: ['keepLast'] }, { required: ['keepDays'] }] });

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

/** A schedule that never comes does not come from here on either; nothing that is checked here depends on today. */
const EPOCH_OF_SCHEDULES = 0;

const KINDS = ['mirror', 'backup', 'publish', 'prune'] as const;

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
  schedule: ScheduleSchema.optional().describe('When all of it is compared.'),
  on: z.literal('push').optional().describe('A push to a source in ECR starts a job at once.'),
  expires: textOf(parseExpiry, 'The last day (UTC), or the moment from which on it is not planned.').optional(),
}).meta({
  oneOf: KINDS.map((kind) => ({ required: [kind] })),
  anyOf: [{ required: ['schedule'] }, { required: ['on'] }],
});

/** What is wrong with a rule as a whole, also where parts of it cannot be read. */
export function ruleFaults(rule: Readonly<Record<string, unknown>>): readonly Fault[] {
  const faults: Fault[] = [];
  const said = KINDS.filter((kind) => rule[kind] !== undefined);
  if (said.length !== 1) {
    const what = said.length === 0 ? 'it says nothing to do' : `it says ${said.join(' and ')}`;
    faults.push({ path: [], message: `${what}: expected one of ${KINDS.join(', ')}` });
  }
  if (rule['schedule'] === undefined && rule['on'] === undefined)
    faults.push({ path: [], message: 'it says no time: expected "schedule", "on: push", or both' });
  if (rule['on'] !== 'push' || said.length !== 1) return faults;
  const copied = rule['mirror'] ?? rule['backup'];
  const from = SourcesSchema.safeParse(isRecord(copied) ? copied['from'] : undefined);
  if (copied === undefined) faults.push({ path: ['on'], message: 'only mirror and backup start by a push' });
  else if (from.success && !from.data.flatMap(parseSource).some(({ registry }) => ecrHost(registry) !== undefined))
    faults.push({
      path: ['on'],
      message: 'only Amazon ECR tells of pushes, and no source is there: expected a schedule alone',
    });
  return faults;
}

const host = z.string().check((ctx) => {
  const text = ctx.value;
  if (refusal(() => parseReference(`${text}/x/y`)) === undefined && parseReference(`${text}/x/y`).registry === text)
    return;
  const message = `${quote(withoutSecrets(text))} is not the host of a registry: expected one such as docker.io or registry.example:5000`;
  ctx.issues.push({ code: 'custom', message, input: text });
});

const RegistryAccessSchema = mapping({
  secret: z
    .string()
    .regex(/^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+$/, {
      error: 'the ARN of a secret, arn:aws:secretsmanager:<region>:<account>:secret:<name>',
    })
    .optional()
    .describe('Of AWS Secrets Manager: {"username", "password"} or {"username", "accessToken"}.'),
  assumeRole: z
    .string()
    .regex(/^arn:aws[a-z-]*:iam::[0-9]{12}:role\/[A-Za-z0-9/_+=,.@-]+$/, {
      error: 'the ARN of a role, arn:aws:iam::<account>:role/<name>',
    })
    .optional()
    .describe('The role to assume, of an ECR registry.'),
  // https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
  externalId: z
    .string()
    .regex(/^[\w+=,.@:/-]{2,1224}$/, { error: 'an external id as IAM has it' })
    .optional()
    .describe('What the role asks for besides.'),
}).meta({
  oneOf: [{ required: ['secret'] }, { required: ['assumeRole'] }],
  dependencies: { externalId: ['assumeRole'] },
});

export const AccessSchema = z
  .record(host, RegistryAccessSchema)
  .describe('How registries are reached, by host. Others: with what the process has.');

/** What is wrong with the access to each registry as a whole, also where that to others cannot be read. */
export function accessFaults(registries: unknown): readonly Fault[] {
  if (!isRecord(registries)) return [];
  return Object.entries(registries).flatMap(([name, given]) => {
    const access = RegistryAccessSchema.safeParse(given);
    const message = access.success ? accessFault(name, access.data) : undefined;
    return message === undefined ? [] : [{ path: ['registries', name], message }];
  });
}

function accessFault(name: string, access: Access[string]): string | undefined {
  const { secret, assumeRole, externalId } = access;
  if (secret === undefined && assumeRole === undefined) return 'expected secret or assumeRole';
  if (secret !== undefined && assumeRole !== undefined)
    return 'secret and assumeRole exclude each other: expected one of them';
  if (assumeRole !== undefined && ecrHost(name) === undefined)
    return 'a role can be assumed for Amazon ECR only: expected secret';
  return externalId !== undefined && assumeRole === undefined ? 'externalId belongs to assumeRole' : undefined;
}

export const ConfigSchema = mapping({
  version: z.literal(1).describe('Of the format.'),
  registries: AccessSchema.optional(),
  rules: z.array(RuleSchema).describe('What is to be kept, where, and when.'),
});

type RuleWords = z.output<typeof RuleSchema>;

/** The rule that its words say, defaults filled in. */
export function ruleOf(words: RuleWords): Rule {
  const { name, expires } = words;
  const common = {
    name,
    schedule: words.schedule ?? dailySchedule(name),
    onPush: words.on === 'push',
    ...withoutAbsent({ expiresAtMs: expires === undefined ? undefined : parseExpiry(expires) }),
  };
  const { mirror, backup, publish, prune } = words;
  if (mirror !== undefined)
    return { ...common, kind: 'mirror', ...copyOf(mirror), ...withoutAbsent({ create: mirror.create }) };
  if (backup !== undefined) return { ...common, kind: 'backup', ...copyOf(backup) };
  if (publish !== undefined)
    return {
      ...common,
      kind: 'publish',
      from: publish.from,
      to: formatRepository(parseRepository(withoutTransport(publish.to))),
    };
  if (prune !== undefined) return { ...common, kind: 'prune', ...prune, keepTags: prune.keepTags ?? [] };
  throw new Failure('BUG', `rule ${quote(name)} was read without a kind`);
}

function copyOf(
  words: NonNullable<RuleWords['backup']>,
): Pick<CopyRule, 'from' | 'to' | 'tags' | 'platforms' | 'referrers'> {
  const tags: { readonly [K in keyof TagSelection]?: TagSelection[K] | undefined } = words.tags ?? {};
  const { include = [], exclude = [], semver, latest, maxAgeDays, untagged = false } = tags;
  return {
    from: [...new Set(words.from.map(canonicalSource))],
    to: words.to.map(withoutTransport),
    tags: { include, exclude, ...withoutAbsent({ semver, latest, maxAgeDays }), untagged },
    platforms: words.platforms ?? [],
    referrers: words.referrers,
  };
}

/** A repository by its full name; patterns as they were written, so that they are recognized. */
function canonicalSource(text: string): string {
  const sources = parseSource(text);
  const [only] = sources;
  return only !== undefined && sources.length === 1 ? formatSource(only) : withoutTransport(text);
}

/** The words that say a rule: what `RuleSchema` and `ruleOf` make the same rule of. */
export function documentOf(rule: Rule): Readonly<Record<string, unknown>> {
  return {
    name: rule.name,
    [rule.kind]: partOf(rule),
    schedule: { cron: rule.schedule.cron, timeZone: rule.schedule.timeZone },
    ...(rule.onPush ? { on: 'push' } : {}),
    ...(rule.expiresAtMs === undefined ? {} : { expires: formatExpiry(rule.expiresAtMs) }),
  };
}

function partOf(rule: Rule): unknown {
  switch (rule.kind) {
    case 'mirror':
    case 'backup': {
      const { from, to, tags, platforms, referrers, create } = rule;
      const { include, exclude, semver, latest, maxAgeDays, untagged } = tags;
      return {
        from,
        to,
        tags: {
          ...(include.length === 0 ? {} : { include }),
          ...(exclude.length === 0 ? {} : { exclude }),
          semver,
          latest: latest === undefined ? undefined : { count: latest.count, by: latest.by },
          maxAgeDays,
          untagged,
        },
        platforms: platforms.length === 0 ? 'all' : platforms,
        referrers,
        create: isRecord(create) ? sorted(create) : create,
      };
    }
    case 'publish':
      return { from: rule.from, to: rule.to };
    case 'prune': {
      const { at, untaggedAfterDays, keepLast, keepDays, keepTags } = rule;
      return { at, untaggedAfterDays, keepLast, keepDays, ...(keepTags.length === 0 ? {} : { keepTags }) };
    }
    default:
      return rule satisfies never;
  }
}

function sorted(value: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, isRecord(inner) ? sorted(inner) : inner]));
}

/**
 * The moment from which on a rule is not planned: behind the day (UTC) that `2027-06-30` names, or at `2027-06-30T12:00:00Z`, in milliseconds
 * since 1970. INVALID otherwise.
 */
function parseExpiry(text: string): number {
  const day =
    /^([0-9]{4}-[0-9]{2}-[0-9]{2})(T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,3})?)?(?:Z|[+-][0-9]{2}:[0-9]{2}))?$/.exec(
      text,
    );
  const midnight = Date.parse(`${day?.[1]}T00:00:00Z`);
  const ms = day?.[2] === undefined ? midnight + DAY_MS : Date.parse(text);
  // the 30th of February is read as a day of March
  if (Number.isNaN(ms) || new Date(midnight).toISOString().slice(0, 10) !== day?.[1] || ms < 0 || ms > MAX_EXPIRY_MS)
    throw new Failure('INVALID', `${quote(text)} is not a day or moment: expected 2027-06-30 or 2027-06-30T12:00:00Z`);
  return ms;
}

/** A last day as it was written, other moments as they are. */
function formatExpiry(ms: number): string {
  return ms % DAY_MS === 0 ? new Date(ms - DAY_MS).toISOString().slice(0, 10) : new Date(ms).toISOString();
}

const DAY_MS = 24 * 60 * 60 * 1000;
/** Behind 9999-12-31: years have four digits. */
const MAX_EXPIRY_MS = Date.parse('9999-12-31T00:00:00Z') + DAY_MS;

function parseJsonObject(text: string): void {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  if (!isRecord(value)) throw new Failure('INVALID', `${quote(text)} is not a JSON object`);
}

/** What is there of it: an absent member is no member. */
function withoutAbsent<T extends object>(value: T): Partial<T> {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== undefined)) as Partial<T>;
}
