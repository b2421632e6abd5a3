import type { Backends } from '../../images/backends.ts';
import type { ArchivesSnapshotRequest, RecordedArchive, RecordedRepository } from '../../images/snapshot-archives.ts';
import { isOfAnother, settingsBeside, settingsIn, storedSettings } from '../../images/store-settings.ts';
import { parseLocation } from '../../oci/location.ts';
import { formatReference, formatRepository, type Repository } from '../../oci/reference.ts';
import type { SnapshotJob } from '../../queue/job.ts';
import { patternOf } from '../../queue/many-images.ts';
import { mayPass } from '../../queue/redelivery.ts';
import { destinationsOf, type Destination } from '../../rules/destinations.ts';
import type { Candidate, CopyRule } from '../../rules/rule.ts';
import type { SyncRecord } from '../../state/state.ts';
import { checkAborted } from '../../util/abort.ts';
import { describeFailure, isFailure } from '../../util/failure.ts';
import { listRepositories } from '../planner/list-repositories.ts';
import { listSource } from '../planner/list-source.ts';
import { referenceOf } from '../planner/plan-jobs.ts';
import { Remembered } from '../planner/remembered.ts';
import type { SourceList } from '../planner/source-list.ts';
import type { RunJobOptions } from './job-run.ts';
import { listsAll, ruleOf } from '../many-images.ts';

type Failed = RecordedRepository['failures'][number];
type Scope = ArchivesSnapshotRequest['scope'];

/** Images that are looked up at once. */
const BATCH = 500;

/** What the state recorded of a run that keeps images of one registry as archives. */
export class RecordedRun {
  readonly #job: SnapshotJob;
  readonly #rule: CopyRule;
  readonly #registry: string;
  readonly #backends: Backends;
  readonly #options: RunJobOptions;
  readonly #remembered: Remembered;
  /** The reasons of the run's failed jobs, by the image or repository that they are about. */
  #reasons: Promise<ReadonlyMap<string, string>> | undefined;
  #names: readonly Repository[] = [];

  constructor(job: SnapshotJob, registry: string, backends: Backends, options: RunJobOptions) {
    this.#job = job;
    this.#rule = ruleOf(job);
    this.#registry = registry;
    this.#backends = backends;
    this.#options = options;
    this.#remembered = new Remembered(options.destinations);
  }

  /** What the run was asked for, and what of the registry could not be listed now. */
  async scope(): Promise<{ readonly scope: Scope; readonly failures: readonly { readonly reason: string }[] }> {
    const failures: { readonly reason: string }[] = [];
    const fail = async (title: string, error: unknown): Promise<void> => {
      checkAborted(this.#options);
      if (!isFailure(error) || mayPass(error) || error.code === 'BUG') throw error;
      failures.push({ reason: `${title}: ${describeFailure(error)}` });
    };
    this.#names = await listRepositories(this.#rule, this.#backends, { ...this.#options, fail });
    const { platforms, referrers, tags } = this.#rule;
    const repositories = patternOf(this.#job).slice(`docker://${this.#registry}/`.length);
    const listed = this.#job.only === undefined && failures.length === 0;
    return { scope: { repositories, untagged: tags.untagged, referrers, platforms, listed }, failures };
  }

  /** The repositories that `scope` found, in the order of their names. */
  async *repositories(): AsyncGenerator<RecordedRepository> {
    for (const one of this.#names) yield await this.#read(one);
  }

  async #read({ registry, repository }: Repository): Promise<RecordedRepository> {
    const name = formatRepository({ registry, repository });
    try {
      const source = this.#backends.registry(registry, 'source');
      const list = await listSource(this.#rule, source, repository, Date.parse(this.#job.at), this.#options);
      const { only } = this.#job;
      const named = new Set(only?.map(({ tag, digest }) => tag ?? digest));
      const isNamed = ({ tag, digest }: Candidate): boolean => only === undefined || named.has(tag ?? digest ?? '');
      const candidates = list.selected.filter(isNamed);
      const archives: RecordedArchive[] = [];
      const failures: Failed[] = [];
      const places: Destination[] = [];
      for (let at = 0; at < candidates.length; at += BATCH)
        await this.#add({ registry, repository }, list, candidates.slice(at, at + BATCH), {
          archives,
          failures,
          places,
        });
      const settings = await this.#settings({ registry, repository }, places);
      const complete = listsAll(this.#job);
      return {
        name: repository,
        complete,
        settings,
        archives,
        archived: only === undefined ? list.archived : [],
        failures,
      };
    } catch (error) {
      checkAborted(this.#options);
      if (!isFailure(error) || mayPass(error) || error.code === 'BUG') throw error;
      const reason = (await this.#failed()).get(`docker://${name}`) ?? describeFailure(error);
      return { name: repository, complete: false, archives: [], archived: [], failures: [{ reason }] };
    }
  }

  /** Adds what was recorded of some images of a repository. */
  async #add(
    { registry, repository }: Repository,
    list: SourceList,
    candidates: readonly Candidate[],
    found: { readonly archives: RecordedArchive[]; readonly failures: Failed[]; readonly places: Destination[] },
  ): Promise<void> {
    // a registry other than ECR is asked for digests only where a key has them
    const images =
      candidates.every(({ digest }) => digest !== undefined) || this.#job.to.includes('{digest}')
        ? (await list.resolve(candidates, this.#options)).images
        : candidates.map(({ tag }) => ({ tag, digest: undefined }));
    const pushed = new Map(candidates.map(({ tag, digest, pushedAtMs }) => [tag ?? digest, pushedAtMs]));
    const wanted = images.flatMap((image) => {
      const { tag, digest } = image;
      const reference =
        tag === undefined
          ? { registry, repository, digest }
          : referenceOf(registry, repository, { tag, digest: digest ?? ANY });
      try {
        const [destination] = destinationsOf(this.#rule, reference, digest, Date.parse(this.#job.at));
        return destination === undefined ? [] : [{ ...image, reference, destination }];
      } catch (error) {
        // a template makes no name of this image: a failed job of the run reports that
        if (!isFailure(error, 'INVALID')) throw error;
        found.failures.push({ ...nameOf(image), reason: describeFailure(error) });
        return [];
      }
    });
    const record = await this.#remembered.find(
      wanted.map(({ destination }) => destination),
      this.#options,
    );
    for (const { tag, digest, reference, destination } of wanted) {
      const archive = archiveOf(record(destination), formatRepository(reference), destination, this.#job.run);
      const pushedAtMs = pushed.get(tag ?? digest);
      const isCurrent = archive !== undefined && (digest === undefined || archive.sourceDigest === digest);
      if (archive !== undefined && (isCurrent || tag !== undefined)) {
        const { sourceDigest: _, ...one } = archive;
        const pushedAt = isCurrent && pushedAtMs !== undefined ? new Date(pushedAtMs).toISOString() : undefined;
        found.archives.push({ ...one, ...(tag === undefined ? {} : { tag }), pushedAt });
        found.places.push(destination);
      }
      const image = formatReference(reference);
      const failed = (await this.#failed()).get(`docker://${image}`);
      if (failed !== undefined || !isCurrent)
        found.failures.push({
          ...nameOf({ tag, digest }),
          reason: failed ?? 'the run did not back it up: it was pushed or moved later',
        });
    }
  }

  /** The settings beside the archives, as a run stored them. */
  async #settings(
    source: Repository,
    [place]: readonly Destination[],
  ): Promise<Readonly<Record<string, unknown>> | undefined> {
    const archive = place === undefined || this.#job.settings === false ? undefined : parseLocation(place.location);
    if (archive?.transport !== 's3') return undefined;
    const stored = await storedSettings(settingsBeside(archive), this.#backends, this.#options);
    if (stored === undefined || isOfAnother(stored, source)) return undefined;
    return settingsIn(stored.document);
  }

  async #failed(): Promise<ReadonlyMap<string, string>> {
    this.#reasons ??= this.#readFailed();
    return this.#reasons;
  }

  async #readFailed(): Promise<ReadonlyMap<string, string>> {
    const reasons = new Map<string, string>();
    const failed = this.#options.runs.jobs(this.#job.run, { ...this.#options, state: 'failed' });
    for await (const { title, reason = '' } of failed) {
      const about = /docker:\/\/\S+/.exec(title)?.[0];
      if (about !== undefined) reasons.set(about, reason);
    }
    return reasons;
  }
}

/** Stands for the digest of an image that goes by its tag. */
const ANY = `sha256:${'0'.repeat(64)}` as const;

function nameOf({
  tag,
  digest,
}: {
  readonly tag?: string | undefined;
  readonly digest?: Failed['digest'] | undefined;
}): Pick<Failed, 'tag' | 'digest'> {
  return { ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) };
}

/** The archive of a record; undefined where it is of another repository, or not known as an object. */
function archiveOf(
  record: SyncRecord | undefined,
  repository: string,
  { location }: Destination,
  run: string,
): (RecordedArchive & Pick<SyncRecord, 'sourceDigest'>) | undefined {
  if (record?.size === undefined || record.etag === undefined) return undefined;
  const source = `docker://${repository}`;
  if (!(record.source.startsWith(`${source}:`) || record.source.startsWith(`${source}@`))) return undefined;
  const archive = parseLocation(location);
  if (archive.transport !== 's3') return undefined;
  const { digest, sourceDigest, size, etag, version } = record;
  return {
    digest,
    sourceDigest,
    key: archive.key,
    size,
    etag,
    ...(version === undefined ? {} : { version }),
    isNew: record.run === run,
  };
}
