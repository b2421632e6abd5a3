import type { z } from 'zod';
import { archiveTemplate, withRegionNames } from '../oci/key-template.ts';
import { parseS3, withoutTransport } from '../oci/location.ts';
import { formatRepository, parseRepository } from '../oci/reference.ts';
import { formatScratchPlace, parseScratchPlace } from '../oci/scratch.ts';
import { Failure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { parsePercent } from '../util/sample.ts';
import { compareStrings, quote } from '../util/text.ts';
import type { RuleSchema } from './config-schema.ts';
import { parsePublished } from './destinations.ts';
import { formatExpiry, parseExpiry } from './expiry.ts';
import { orderedPolicy } from './prune-policy.ts';
import type { CopyRule, PruneRule, Rule, Schedule, TagSelection } from './rule.ts';
import { dailySchedule } from './schedule.ts';
import { withoutAbsent } from './schema-parts.ts';
import { formatSource, parseSource } from './sources.ts';
import { isStore, parseStore } from './stores.ts';
import { parseVerified } from './verify-schema.ts';

type RuleWords = z.output<typeof RuleSchema>;

/** The rule that `RuleSchema` read, defaults filled in. */
export function ruleOf(words: RuleWords): Rule {
  const { name, expires } = words;
  const common = {
    name,
    schedule: words.schedule ?? dailySchedule(name),
    onPush: words.on === 'push',
    ...withoutAbsent({ expiresAtMs: expires === undefined ? undefined : parseExpiry(expires) }),
  };
  const { mirror, backup, publish, prune, verify } = words;
  if (mirror !== undefined)
    return { ...common, kind: 'mirror', ...copyOf(mirror), ...withoutAbsent({ create: mirror.create }) };
  if (backup !== undefined) return { ...common, kind: 'backup', ...copyOf(backup), ...backupOf(backup) };
  if (publish !== undefined)
    return {
      ...common,
      kind: 'publish',
      from: parsePublished(publish.from),
      to: formatRepository(parseRepository(withoutTransport(publish.to))),
    };
  if (prune !== undefined)
    return { ...common, schedule: words.schedule ?? PRUNE_SCHEDULE, kind: 'prune', ...pruneOf(prune) };
  if (verify !== undefined) {
    const { at, depth, sample, restoreTo } = verify;
    const percent = sample === undefined ? undefined : parsePercent(sample);
    return {
      ...common,
      kind: 'verify',
      at: [...new Set(at.map(parseVerified))],
      ...withoutAbsent({
        depth,
        sample: percent,
        restoreTo: restoreTo === undefined ? undefined : formatScratchPlace(parseScratchPlace(restoreTo)),
      }),
    };
  }
  throw new Failure('BUG', `rule ${quote(name)} was read without a kind`);
}

function copyOf(
  words: Omit<NonNullable<RuleWords['backup']>, 'includeArchived' | 'settings' | 'snapshots' | 'report'>,
): Pick<CopyRule, 'from' | 'to' | 'tags' | 'platforms' | 'referrers'> {
  const tags: { readonly [K in keyof TagSelection]?: TagSelection[K] | undefined } = words.tags ?? {};
  const { include = [], exclude = [], semver, latest, maxAgeDays, untagged = false } = tags;
  return {
    from: [...new Set(words.from.map(canonicalSource))],
    to: words.to.map((to) => namingRegions(withoutTransport(to), words.regionNames)),
    tags: { include, exclude, ...withoutAbsent({ semver, latest, maxAgeDays }), untagged },
    platforms: words.platforms ?? [],
    referrers: words.referrers,
  };
}

/** A `to` with the names of Regions in its template, so that they go along with it to the planner and the workers. */
function namingRegions(to: string, names: Readonly<Record<string, string>> = {}): string {
  if (isStore(to) || Object.keys(names).length === 0) return to;
  if (!to.startsWith('s3://')) return withRegionNames(to, names);
  const { bucket, key } = parseS3(to);
  return `s3://${bucket}/${withRegionNames(archiveTemplate(key), names)}`;
}

function backupOf(
  words: NonNullable<RuleWords['backup']>,
): Pick<CopyRule, 'to' | 'stores' | 'includeArchived' | 'settings' | 'snapshots' | 'report'> {
  const stores = [...new Set(words.to.filter(isStore).map(parseStore))];
  return {
    to: words.to.filter((to) => !isStore(to)).map((to) => namingRegions(to, words.regionNames)),
    ...(stores.length === 0 ? {} : { stores }),
    ...(words.includeArchived ? { includeArchived: true } : {}),
    ...(words.settings ? {} : { settings: false }),
    ...(words.snapshots ? {} : { snapshots: false }),
    ...(words.report ? { report: true } : {}),
  };
}

/** When a rule that prunes runs, where it does not have a schedule. */
const PRUNE_SCHEDULE: Schedule = { cron: '0 2 * * *', timeZone: 'UTC' };

function pruneOf(
  words: NonNullable<RuleWords['prune']>,
): Pick<PruneRule, 'at' | 'policies' | 'requireBackup' | 'maxDeletes' | 'dryRun'> {
  const { at, policies, requireBackup, maxDeletes, dryRun, ...flat } = words;
  return {
    at: [...new Set(at.map(canonicalPlace))],
    policies: (policies ?? [{ ...flat, repositories: ['*'] }]).map(orderedPolicy),
    ...withoutAbsent({ requireBackup: requireBackup === undefined ? undefined : canonicalPlace(requireBackup) }),
    maxDeletes,
    dryRun,
  };
}

/** A folder ends in `/`: what begins with its name and goes on is another one. */
function canonicalPlace(text: string): string {
  if (isStore(text)) return parseStore(text);
  if (!text.startsWith('s3://')) return canonicalSource(text);
  return text.endsWith('/') ? text : `${text}/`;
}

/** With one policy for all repositories in the flat form, as older versions have it. */
function pruneDocument({ at, policies, requireBackup, maxDeletes, dryRun }: PruneRule): unknown {
  const [first] = policies;
  const limits = { requireBackup, maxDeletes, dryRun };
  const place = at.length === 1 ? at[0] : at;
  if (first === undefined || policies.length > 1 || first.repositories.join() !== '*')
    return { at: place, policies: policies.map(orderedPolicy), ...limits };
  const { repositories: _, ...flat } = orderedPolicy(first);
  return { at: place, ...flat, ...limits };
}

/** A repository by its full name; patterns as they were written, so that they are recognized. */
function canonicalSource(text: string): string {
  const sources = parseSource(text);
  const [only] = sources;
  return only !== undefined && sources.length === 1 ? formatSource(only) : withoutTransport(text);
}

/** The document of a rule: `RuleSchema` and `ruleOf` make the same rule of it. */
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
      const {
        from,
        to,
        stores = [],
        tags,
        platforms,
        referrers,
        create,
        includeArchived,
        settings,
        snapshots,
        report,
      } = rule;
      const { include, exclude, semver, latest, maxAgeDays, untagged } = tags;
      return {
        from,
        to: [...to, ...stores],
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
        includeArchived,
        settings,
        snapshots,
        report,
      };
    }
    case 'publish':
      return { from: rule.from, to: rule.to };
    case 'prune':
      return pruneDocument(rule);
    case 'verify': {
      const { at, depth, sample, restoreTo } = rule;
      return { at, depth, sample: sample === undefined ? undefined : `${sample}%`, restoreTo };
    }
    default:
      return rule satisfies never;
  }
}

function sorted(value: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const entries = Object.entries(value).sort(([a], [b]) => compareStrings(a, b));
  return Object.fromEntries(entries.map(([key, inner]) => [key, isRecord(inner) ? sorted(inner) : inner]));
}
