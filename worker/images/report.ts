import type { Digest } from '../oci/digest.ts';
import { contentOf } from '../store/expanded.ts';
import type { Snapshot } from '../store/snapshot.ts';
import type { NamedSnapshot } from '../store/snapshots.ts';
import { wholeFold, type StateRepository } from '../store/state.ts';
import type { ProofRecord } from './proof-record.ts';
import { compareStrings } from '../util/text.ts';

/** What a page about a place of backups shows. Sizes are bytes, times ISO 8601 in UTC, days `2026-12-01` in UTC. */
export interface BackupReport {
  readonly place: string;
  readonly madeAt: string;
  /** Snapshots that were read. */
  readonly snapshots: number;
  readonly totals: ReportTotals;
  /** The days of the heat map and of the growth, the oldest first. */
  readonly days: readonly string[];
  /** Those whose last good backup is the longest ago first. */
  readonly repositories: readonly ReportedRepository[];
  /** One for each of `days`. */
  readonly growth: readonly DayOfBackups[];
  /** What the newest snapshots could not back up. */
  readonly failures: readonly ReportedFailure[];
  /** Snapshots that cannot be read, a sentence each. */
  readonly broken: readonly string[];
  /** The newest records of verifications and drills, newest first. */
  readonly proofs: readonly ProofRecord[];
  /** How many records cannot be read. */
  readonly unreadProofs: number;
}

interface ReportTotals {
  readonly registries: number;
  readonly repositories: number;
  /** Images that are backed up. */
  readonly images: number;
  readonly tags: number;
  /** Images that are known and not backed up: they failed, or are in ECR's archive storage class. */
  readonly missing: number;
  /** The bytes of everything that the images are made of, each digest once. */
  readonly uniqueBytes: number;
  /** The same with each image counted for itself. */
  readonly imageBytes: number;
}

/** A repository that any of the snapshots names, as a row of the report. */
export interface ReportedRepository {
  readonly registry: string;
  readonly name: string;
  readonly images: number;
  /** Content of its images, each digest once. */
  readonly bytes: number;
  /** When the last backup finished that had all of it. Absent: none had. */
  readonly goodAt?: string;
  /** Failures, and images in ECR's archive storage class. */
  readonly missing: number;
  /**
   * When the last verification of the place without a finding began, at depth `blobs` or `bytes` and after the repository was first backed up. Absent:
   * no record of one exists.
   */
  readonly verifiedAt?: string;
  /** When the last drill that restored images of the repository, all equal, began. Absent: no record of one exists. */
  readonly restoredAt?: string;
  /** For each day how many days old its last good backup was at the end of the day. Undefined: no good backup existed yet. */
  readonly ages: readonly (number | undefined)[];
}

/** What the backups of one day (UTC) did. */
export interface DayOfBackups {
  readonly day: string;
  readonly snapshots: number;
  /** What the backups of the day sent. */
  readonly newBytes: number;
  /** What all backups until then sent. */
  readonly sentBytes: number;
  readonly failures: number;
}

interface ReportedFailure {
  /** `host/repository:tag`. */
  readonly image: string;
  readonly reason: string;
}

const DAY_MS = 86_400_000;

/** What is kept of a snapshot. */
interface Backup {
  readonly finishedAtMs: number;
  readonly newBytes: number;
  readonly failures: number;
  /** `host/repository` of those that it has all of. */
  readonly good: readonly string[];
}

/** Gathers a report from snapshots, from the newest to the oldest. Its memory is that of a state, and a little for each snapshot. */
export class ReportFold {
  readonly #state = wholeFold();
  readonly #backups: Backup[] = [];
  /** When each repository was first backed up. */
  readonly #firstMs = new Map<string, number>();

  add(read: NamedSnapshot): void {
    const { snapshot, name } = read;
    this.#state.add(read);
    // snapshots are added from the newest to the oldest, so the oldest stays
    for (const one of snapshot.repositories)
      this.#firstMs.set(`${snapshot.registry.host}/${one.name}`, name.finishedAtMs);
    this.#backups.push({
      finishedAtMs: name.finishedAtMs,
      newBytes: snapshot.added.bytes,
      failures: snapshot.failures.length,
      good: goodIn(snapshot),
    });
  }

  /** The report of the last `days` days at `nowMs`. */
  report(about: {
    readonly place: string;
    readonly nowMs: number;
    readonly days: number;
    readonly broken: readonly string[];
    readonly proofs?: readonly ProofRecord[] | undefined;
    readonly unreadProofs?: number | undefined;
  }): BackupReport {
    const { place, nowMs, broken, proofs = [], unreadProofs = 0 } = about;
    const today = Math.floor(nowMs / DAY_MS);
    const days = Array.from({ length: about.days }, (_, index) => today - about.days + 1 + index);
    const { repositories } = this.#state.state();
    const good = this.#goodTimes();
    const content = new Map<Digest, number>();
    let imageBytes = 0;
    const shown: ReportedRepository[] = [];
    for (const repository of repositories) {
      const name = `${repository.registry.host}/${repository.name}`;
      const proved = provedOf(name, this.#firstMs.get(name), proofs);
      shown.push({ ...reported(repository, good.get(name) ?? [], days), ...proved });
      for (const image of repository.images) {
        if (image.archived !== true) imageBytes += image.bytes;
        for (const { digest, size } of contentOf(image)) content.set(digest, size);
      }
    }
    return {
      place,
      madeAt: new Date(nowMs).toISOString(),
      snapshots: this.#backups.length,
      totals: {
        registries: new Set(shown.map(({ registry }) => registry)).size,
        repositories: shown.length,
        images: sum(shown.map(({ images }) => images)),
        tags: sum(repositories.flatMap(({ images }) => images.map(({ tags }) => tags.length))),
        missing: sum(shown.map(({ missing }) => missing)),
        uniqueBytes: sum(content.values()),
        imageBytes,
      },
      days: days.map(dayOf),
      repositories: shown.sort(
        (a, b) => compareStrings(a.goodAt ?? '', b.goodAt ?? '') || compareStrings(a.name, b.name),
      ),
      growth: this.#growth(days),
      failures: repositories.flatMap(({ registry, name, failures }) =>
        failures.map(({ tag, digest, reason }) => ({
          image: `${registry.host}/${name}${tag === undefined ? '' : `:${tag}`}${digest === undefined || tag !== undefined ? '' : `@${digest}`}`,
          reason,
        })),
      ),
      broken,
      proofs,
      unreadProofs,
    };
  }

  /** When there was a good backup of each repository, in order. */
  #goodTimes(): ReadonlyMap<string, readonly number[]> {
    const times = new Map<string, number[]>();
    for (const { finishedAtMs, good } of this.#backups.toReversed())
      for (const name of good) {
        const known = times.get(name);
        if (known === undefined) times.set(name, [finishedAtMs]);
        else known.push(finishedAtMs);
      }
    return times;
  }

  #growth(days: readonly number[]): readonly DayOfBackups[] {
    const byDay = Map.groupBy(this.#backups, ({ finishedAtMs }) => Math.floor(finishedAtMs / DAY_MS));
    const [first = 0] = days;
    let sentBytes = sum(this.#backups.filter((one) => one.finishedAtMs < first * DAY_MS).map((one) => one.newBytes));
    return days.map((day) => {
      const some = byDay.get(day) ?? [];
      const newBytes = sum(some.map((one) => one.newBytes));
      sentBytes += newBytes;
      const failures = sum(some.map((one) => one.failures));
      return { day: dayOf(day), snapshots: some.length, newBytes, sentBytes, failures };
    });
  }
}

/** When a repository was last verified and restored, by records that have no finding about it. */
function provedOf(
  name: string,
  firstMs = Infinity,
  proofs: readonly ProofRecord[],
): Pick<ReportedRepository, 'verifiedAt' | 'restoredAt'> {
  const verified = proofs.find(
    ({ kind, findings, depth, startedAt }) =>
      kind === 'verification' && findings === 0 && depth !== 'tags' && Date.parse(startedAt) > firstMs,
  );
  const restored = proofs.find(({ kind, restored: names = [] }) => kind === 'drill' && names.includes(name));
  return {
    ...(verified === undefined ? {} : { verifiedAt: verified.startedAt }),
    ...(restored === undefined ? {} : { restoredAt: restored.startedAt }),
  };
}

/** `times`: when there was a good backup of it, in order. */
function reported(
  { registry, name, images, failures }: StateRepository,
  times: readonly number[],
  days: readonly number[],
): ReportedRepository {
  const content = new Map(images.flatMap((image) => contentOf(image).map(({ digest, size }) => [digest, size])));
  const stored = images.filter(({ archived }) => archived !== true);
  const last = times.at(-1);
  return {
    registry: registry.host,
    name,
    images: stored.length,
    bytes: sum(content.values()),
    ...(last === undefined ? {} : { goodAt: new Date(last).toISOString() }),
    missing: failures.length + images.length - stored.length,
    ages: days.map((day) => ageAt(times, day)),
  };
}

/** The repositories that a snapshot has all of: each tag was listed and none failed. */
function goodIn({ repositories, failures, registry, scope }: Snapshot): readonly string[] {
  if (scope.tags !== undefined) return [];
  const failed = new Set(failures.map(({ repository }) => repository));
  return repositories.flatMap(({ name, complete }) =>
    complete && !failed.has(name) ? [`${registry.host}/${name}`] : [],
  );
}

/** How many days before the end of `day` the last of `times`, which come in order, was. */
function ageAt(times: readonly number[], day: number): number | undefined {
  const last = times.findLast((time) => time < (day + 1) * DAY_MS);
  return last === undefined ? undefined : day - Math.floor(last / DAY_MS);
}

function dayOf(day: number): string {
  return new Date(day * DAY_MS).toISOString().slice(0, 10);
}

function sum(numbers: Iterable<number>): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}
