import type { Backends, OperationOptions } from '../../images/backends.ts';
import {
  digestOfSettings,
  heldByAnother,
  isOfAnother,
  settingsBeside,
  settingsReader,
  storedSettings,
  writeSettings,
  type SettingsReader,
} from '../../images/store-settings.ts';
import type { Digest } from '../../oci/digest.ts';
import { formatLocation, type Location } from '../../oci/location.ts';
import type { Repository } from '../../oci/reference.ts';
import { jobId, type CopyJob, type RestoreJob } from '../../queue/job.ts';
import { mayPass } from '../../queue/redelivery.ts';
import type { Runs } from '../../state/state.ts';
import { checkAborted } from '../../util/abort.ts';
import { describeFailure, ifFound, isFailure, type Failure } from '../../util/failure.ts';
import { orUnwanted, settingsTitle } from '../planner/plan-settings.ts';

/** What `ArchiveSettings` needs beside backends. */
export interface ArchiveSettingsOptions extends OperationOptions {
  readonly runs: Pick<Runs, 'addJobs' | 'endJob' | 'jobs'>;
}

/** The settings beside the archives that one job writes: what the archives name, and what is stored where nothing is stored yet. */
export class ArchiveSettings {
  readonly #job: CopyJob | RestoreJob;
  /** The repository whose settings they are; undefined where the job writes no archives of a repository. */
  readonly #source: Repository | undefined;
  readonly #read: SettingsReader;
  readonly #mayStore: boolean;
  readonly #backends: Backends;
  readonly #options: ArchiveSettingsOptions;
  /** The settings that `digest` found beside archives, by place; undefined where no settings were stored. */
  readonly #seen = new Map<string, Awaited<ReturnType<typeof storedSettings>>>();

  constructor(job: CopyJob | RestoreJob, from: Location, backends: Backends, options: ArchiveSettingsOptions) {
    this.#job = job;
    this.#backends = backends;
    this.#options = options;
    if (from.transport !== 'docker' || job.kind === 'restore') {
      this.#mayStore = false;
      this.#read = async () => undefined;
      return;
    }
    // `force` of a request is for the archive alone
    this.#mayStore = job.settings !== false && (job.rule !== undefined || job.force !== true);
    const { registry, repository } = from.reference;
    this.#source = { registry, repository };
    this.#read = settingsReader(this.#source, backends, options);
  }

  /**
   * The digest of the settings that an archive names when it is written: of those beside it or, if none are stored, of those that `keep` stores.
   * Undefined where these are another repository's, or cannot be read.
   */
  async digest(archive: Location): Promise<Digest | undefined> {
    const source = this.#source;
    if (archive.transport !== 's3' || source === undefined) return undefined;
    const read: SettingsReader = async () => {
      const to = settingsBeside(archive);
      const stored = await storedSettings(to, this.#backends, this.#options);
      this.#seen.set(formatLocation(to), stored);
      if (stored === undefined) return this.#mayStore ? this.#read() : undefined;
      return stored.repository === undefined || isOfAnother(stored, source) ? undefined : stored.document;
    };
    return digestOfSettings(read, this.#options);
  }

  /**
   * Stores the settings of the repository beside its archive, unless settings are stored there: the planner compares those of rules, and a request
   * could bring those of another registry. A request that forces its archive never does. A failure that may pass is thrown. Any other is a warning,
   * since the archive is whole, and a failed job of a rule's run, which owes the settings.
   */
  async keep(archive: Location): Promise<void> {
    const source = this.#source;
    if (archive.transport !== 's3' || source === undefined || !this.#mayStore) return;
    try {
      await this.#store(settingsBeside(archive), source);
    } catch (error) {
      checkAborted(this.#options);
      if (!isFailure(error) || mayPass(error)) throw error;
      const message = `settings of ${source.repository} were not backed up: ${describeFailure(error)}`;
      this.#options.report?.({ type: 'warning', message });
      await this.#fail(source, error);
    }
  }

  /** CONFLICT where an archive was written and the settings of another repository are beside it. */
  async #store(to: ReturnType<typeof settingsBeside>, repository: Repository): Promise<void> {
    let stored = this.#seen.get(formatLocation(to));
    if (stored === undefined) {
      const stat = this.#backends.bucket(to.bucket).stat(to.key, this.#options);
      if ((await ifFound(stat)) === undefined) {
        const document = await this.#read();
        if (document !== undefined) await writeSettings({ repository, to }, document, this.#backends, this.#options);
        return;
      }
      // another job stored them since, or an archive that was there already has them
      if (this.#seen.has(formatLocation(to))) stored = await storedSettings(to, this.#backends, this.#options);
    }
    if (stored === undefined || !isOfAnother(stored, repository)) return;
    // a registry without settings owes none
    if ((await this.#read()) !== undefined) throw heldByAnother(to, stored, repository, this.#backends);
  }

  /** Under the id that the planner gives such a failure, so that a run counts it once for each repository. */
  async #fail(source: Repository, failure: Failure): Promise<void> {
    const { run, rule } = this.#job;
    if (rule === undefined) return;
    const { runs } = this.#options;
    const title = settingsTitle(source);
    const id = jobId(run, title);
    const { code } = failure;
    const reason = describeFailure(orUnwanted(failure, rule));
    // in one write: this worker may crash after it, and the next one succeed
    const open = await runs.addJobs(run, [{ id, title, rule, failed: { code, reason } }], this.#options);
    if (open.has(id)) await runs.endJob(run, id, { state: 'failed', code, reason }, this.#options);
  }
}
