import type { Backends, OperationOptions } from '../../images/backends.ts';
import {
  digestOfSettings,
  settingsBeside,
  settingsReader,
  storedSettings,
  writeSettings,
  type SettingsReader,
} from '../../images/store-settings.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Location } from '../../oci/location.ts';
import type { CopyJob, RestoreJob } from '../../queue/job.ts';
import { mayPass } from '../../queue/redelivery.ts';
import { checkAborted } from '../../util/abort.ts';
import { describeFailure, ifFound, isFailure } from '../../util/failure.ts';

/** The settings beside the archives that one job writes: what the archives name, and what is stored where nothing is stored yet. */
export class ArchiveSettings {
  /** The repository whose settings they are; undefined where the job writes no archives of a repository. */
  readonly #repository: string | undefined;
  readonly #read: SettingsReader;
  readonly #mayStore: boolean;
  readonly #backends: Backends;
  readonly #options: OperationOptions;

  constructor(job: CopyJob | RestoreJob, from: Location, backends: Backends, options: OperationOptions) {
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
    this.#repository = repository;
    this.#read = settingsReader({ registry: backends.registry(registry, 'source'), repository }, options);
  }

  /**
   * The digest of the settings that an archive names when it is written: of those beside it, or of those that `keep` stores where there are
   * none. Undefined where these are another repository's, or cannot be read.
   */
  async digest(archive: Location): Promise<Digest | undefined> {
    if (archive.transport !== 's3' || this.#repository === undefined) return undefined;
    const read: SettingsReader = async () => {
      const stored = await storedSettings(settingsBeside(archive), this.#backends, this.#options);
      if (stored === undefined) return this.#mayStore ? this.#read() : undefined;
      return stored.repository === this.#repository ? stored.document : undefined;
    };
    return digestOfSettings(read, this.#options);
  }

  /**
   * Stores the settings of the repository beside its archive, where there are none: the planner compares those of rules, and a request could
   * bring those of another registry. A request that forces its archive never does. A failure that may pass is thrown; any other is a warning,
   * since the archive is whole.
   */
  async keep(archive: Location): Promise<void> {
    const repository = this.#repository;
    if (archive.transport !== 's3' || repository === undefined || !this.#mayStore) return;
    const to = settingsBeside(archive);
    try {
      const stored = await ifFound(this.#backends.bucket(to.bucket).stat(to.key, this.#options));
      if (stored !== undefined) return;
      const document = await this.#read();
      if (document !== undefined) await writeSettings({ repository, to }, document, this.#backends, this.#options);
    } catch (error) {
      checkAborted(this.#options);
      if (!isFailure(error) || mayPass(error)) throw error;
      const message = `settings of ${repository} were not backed up: ${describeFailure(error)}`;
      this.#options.report?.({ type: 'warning', message });
    }
  }
}
