import { matchesPattern, parseLocation } from '../oci/location.ts';
import { parseRepository } from '../oci/reference.ts';
import { isFailure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { destinationsOf } from './destinations.ts';
import type { Fault, Path } from './faults.ts';
import { arePoliciesEqual } from './prune-policy.ts';
import { isCopyRule, isExpired, type CopyRule, type PruneRule, type Rule } from './rule.ts';
import { ANY_TAG, SAMPLE_DIGEST, sampleImage } from './samples.ts';
import { lastScheduledMs, nextScheduledMs } from './schedule.ts';
import { isStore } from './stores.ts';
import { formatSource, parseSource, registryName, sourcesOf, type SourcePattern } from './sources.ts';

/** Repositories of a registry, or everything below a prefix of a bucket. */
type Area =
  | { readonly text: string; readonly registry: string; readonly pattern: string }
  | { readonly text: string; readonly prefix: string };

/**
 * What is wrong with rules that prune, by themselves and beside each other: backups required of archives, and two rules that prune one place
 * by different policies.
 */
export function* pruneFaults(rules: readonly { readonly rule: Rule; readonly path: Path }[]): Iterable<Fault> {
  const pruning = rules.flatMap(({ rule, path }) => (rule.kind === 'prune' ? [{ rule, path }] : []));
  for (const [index, { rule, path }] of pruning.entries()) {
    const of = [...path, 'prune'];
    if (rule.requireBackup !== undefined && rule.at.every((at) => at.startsWith('s3://'))) {
      const message = 'it is for images, and "at" names archives: expected none, or the registry of the images in "at"';
      yield { path: [...of, 'requireBackup'], message };
    }
    for (const { rule: earlier } of pruning.slice(0, index)) {
      const isSame = rule.requireBackup === earlier.requireBackup && arePoliciesEqual(rule.policies, earlier.policies);
      const shared = isSame ? undefined : sharedArea(rule.at.flatMap(areasAt), earlier.at.flatMap(areasAt));
      if (shared === undefined) continue;
      const message = `it prunes ${quote(shared.text)} as rule ${quote(earlier.name)} does, by other policies: expected one rule, with "policies" by repository`;
      yield { path: [...of, 'at'], message };
    }
  }
}

/**
 * What is allowed, and may not be what was meant, a sentence each: rules that prune what other rules write or back up.
 *
 * @param nowMs from when on schedules are compared. Rules that have expired by then are left out
 */
export function warnings(rules: readonly Rule[], nowMs: number): readonly string[] {
  const living = rules.filter((rule) => !isExpired(rule, nowMs));
  return living.flatMap((rule) =>
    rule.kind === 'prune' ? living.flatMap((other) => warningsOf(rule, other, nowMs)) : [],
  );
}

const REQUIRE_ARCHIVES = 'add "requireBackup" with the place of the archives';
const ONLY_STORES =
  '"requireBackup" does not look into stores: set "keepDays" to several runs of the backup, or let it write archives too, and require those';

function warningsOf(prune: PruneRule, other: Rule, nowMs: number): readonly string[] {
  const at = prune.at.flatMap(areasAt);
  const name = `rule ${quote(prune.name)}`;
  const by = `rule ${quote(other.name)}`;
  if (other.kind === 'publish') {
    const { registry, repository } = parseRepository(other.to);
    const place = sharedArea(at, [{ text: other.to, registry: registryName(registry), pattern: repository }]);
    if (place === undefined) return [];
    return [
      `${name} prunes ${place.text}, which ${by} publishes to: objects stay as long as a snapshot that names them, and "latest" always stays`,
    ];
  }
  if (!isCopyRule(other)) return [];
  const [read, written] = [sharedArea(at, sourcesOf(other).map(areaOf)), sharedArea(at, targetAreas(other))];
  const found: string[] = [];
  if (other.kind === 'backup' && read !== undefined && prune.requireBackup === undefined)
    found.push(
      `${name} deletes images of ${read.text} that ${by} backs up, also those that have no backup yet: ${other.to.length > 0 ? REQUIRE_ARCHIVES : ONLY_STORES}`,
    );
  if (written !== undefined)
    found.push(
      other.kind === 'backup'
        ? `${name} deletes archives below ${written.text}, which ${by} writes: the newest good backup of each image stays, and an archive that the rule still makes is written again`
        : `${name} deletes images of ${written.text}, which ${by} writes: what that rule still selects is copied again`,
    );
  const place = read ?? written;
  const hour = other.kind === 'backup' && place !== undefined ? sharedHour(prune, other, nowMs) : undefined;
  if (place !== undefined && hour !== undefined)
    found.push(
      `${name} and ${by} run at ${place.text} in the same hour (${hour}): what is being copied is not deleted before the next run: set schedules that are further apart`,
    );
  return found;
}

const HOUR_MS = 3600_000;
/** How many runs of a rule that prunes are looked at. */
const RUNS = 7;

/** An hour in which both begin, as `02:00 UTC`. Undefined where they never begin in the same hour, and for a rule that runs every hour anyway. */
function sharedHour(prune: PruneRule, other: CopyRule, nowMs: number): string | undefined {
  let atMs: number | undefined = nowMs;
  for (let run = 0; run < RUNS; run++) {
    atMs = nextScheduledMs(prune.schedule, atMs);
    if (atMs === undefined) return undefined;
    const startMs = Math.floor(atMs / HOUR_MS) * HOUR_MS;
    if (runsWithin(other, startMs) && !runsWithin(other, startMs - HOUR_MS))
      return `${new Date(startMs).toISOString().slice(11, 16)} UTC`;
  }
  return undefined;
}

function runsWithin({ schedule }: CopyRule, startMs: number): boolean {
  return (lastScheduledMs(schedule, startMs + HOUR_MS - 1) ?? -Infinity) >= startMs;
}

function areasAt(at: string): readonly Area[] {
  return at.startsWith('s3://') || isStore(at) ? [{ text: at, prefix: at }] : parseSource(at).map(areaOf);
}

function areaOf(source: SourcePattern): Area {
  return { text: formatSource(source), registry: registryName(source.registry), pattern: source.pattern };
}

/** Where a rule writes an example of each of its sources. */
function targetAreas(rule: CopyRule): readonly Area[] {
  return sourcesOf(rule).flatMap((source) => {
    try {
      return destinationsOf(rule, sampleImage(source, ANY_TAG), SAMPLE_DIGEST, 0).map(({ group, location }): Area => {
        if (location.startsWith('s3://')) return { text: `${group}/`, prefix: `${group}/` };
        const parsed = parseLocation(location);
        if (parsed.transport !== 'docker') return { text: group, prefix: group };
        const { registry, repository } = parsed.reference;
        return { text: `${registry}/${repository}`, registry: registryName(registry), pattern: repository };
      });
    } catch (error) {
      // a template that makes no name of the example
      if (!isFailure(error, 'INVALID')) throw error;
      return [];
    }
  });
}

/** The smaller of two areas that have something in common, as far as their text shows it. */
function sharedArea(some: readonly Area[], others: readonly Area[]): Area | undefined {
  for (const one of some) {
    for (const other of others) {
      if (contains(one, other)) return other;
      if (contains(other, one) || overlaps(one, other)) return one;
    }
  }
  return undefined;
}

function contains(large: Area, small: Area): boolean {
  if ('prefix' in large) return 'prefix' in small && small.prefix.startsWith(large.prefix);
  return !('prefix' in small) && small.registry === large.registry && matchesPattern(large.pattern, small.pattern);
}

/** Whether the name of one repository can match both patterns. */
function overlaps(one: Area, other: Area): boolean {
  if ('prefix' in one || 'prefix' in other || one.registry !== other.registry) return false;
  const [a, b] = [one.pattern, other.pattern];
  // whether what is left of both, from each place in b on, can be one text
  let later = Array.from({ length: b.length + 1 }, (_, at) => /^\**$/.test(b.slice(at)));
  for (let i = a.length - 1; i >= 0; i--) {
    const now: boolean[] = [];
    for (let j = b.length; j >= 0; j--) {
      const [left, right] = [a[i], b[j]];
      now[j] =
        left === '*'
          ? later[j] === true || (j < b.length && now[j + 1] === true)
          : right === '*'
            ? now[j + 1] === true || later[j] === true
            : left === right && later[j + 1] === true;
    }
    later = now;
  }
  return later[0] === true;
}
