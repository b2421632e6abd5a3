import type { TemporaryFolder } from '../archive/unpack.ts';
import type { AnswerOptions, Bytes, Source, Target } from '../content/content.ts';
import type { CopyBudget } from '../copy/budget.ts';
import type { Digest } from '../oci/digest.ts';
import type { ObjectStore } from '../objects/objects.ts';
import type { SnapshotKeys } from '../store/signature.ts';
import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import type { Side } from '../util/failure.ts';
import type { Report } from '../util/events.ts';

/** A registry, as far as the operations need one. */
export interface Registry {
  /** A repository of it. No request is sent yet. INVALID for a `create` that is not settings. */
  repository(name: string, options?: RepositoryOptions): Source & Target;
  /** The names of its repositories that start with `prefix` (default: all), in any order. UNSUPPORTED where it does not list them. */
  repositories(prefix?: string, options?: Abortable): AsyncIterable<string>;
  /**
   * Every image of a repository with its digest and tags, by pages and not one by one: what makes comparing cheap. Absent where the registry
   * has no such list (all but ECR). NOT_FOUND without the repository.
   */
  readonly images?: ((repository: string, options?: Abortable) => AsyncIterable<ListedImage>) | undefined;
  /**
   * The manifests of these digests, verified, by many and not one by one; those that are gone or archived are left out. Moves their last pull
   * times. Absent where `images` is.
   */
  readonly manifests?:
    | ((
        repository: string,
        digests: readonly Digest[],
        options?: Abortable,
      ) => AsyncIterable<{ readonly digest: Digest; readonly bytes: Uint8Array }>)
    | undefined;
  /**
   * The settings of a repository as JSON: what `applySettings` takes. Undefined for a registry without readable settings (all but ECR). DENIED,
   * naming the missing permission, where the registry refuses to let them be read.
   */
  settings(repository: string, options?: Abortable): Promise<Readonly<Record<string, unknown>> | undefined>;
  /** Whether the repository exists; undefined where repositories have no settings (all registries but ECR). */
  hasRepository(repository: string, options?: Abortable): Promise<boolean | undefined>;
  /** Creates the repository with these settings, where the registry has such. An existing repository stays as it is. */
  createRepository(repository: string, settings: Readonly<Record<string, unknown>>, options?: Abortable): Promise<void>;
  /**
   * What `applySettings` would change of an existing repository. INVALID for malformed settings, DENIED where the current ones may not be
   * read.
   */
  settingsChanges(
    repository: string,
    settings: Readonly<Record<string, unknown>>,
    options?: Abortable,
  ): Promise<readonly SettingsChange[]>;
  /** Makes the repository exist with these settings. Does nothing where the registry knows no settings. Idempotent. */
  applySettings(repository: string, settings: Readonly<Record<string, unknown>>, options?: Abortable): Promise<void>;
  /**
   * The settings of the registry itself as JSON: what `applyRegistrySettings` takes, with the shapes of ECR's API. Members: `replication`,
   * `scanning`, `repositoryCreationTemplates`, `pullThroughCacheRules`, `signing`, `registryPolicy`, `accountSettings`, `pullTimeUpdateExclusions`;
   * `unread` names those that could not be read, with a sentence each. Undefined for a registry without readable settings (all but ECR). DENIED,
   * naming the missing permission, where no member may be read; UNSUPPORTED where the credentials are of another account.
   */
  registrySettings(options?: Abortable): Promise<Readonly<Record<string, unknown>> | undefined>;
  /**
   * What `applyRegistrySettings` would change, one by one and in its order. INVALID for malformed settings; DENIED and UNSUPPORTED as
   * `registrySettings`.
   */
  registrySettingsChanges(
    settings: Readonly<Record<string, unknown>>,
    options?: Abortable,
  ): Promise<readonly RegistrySettingsChange[]>;
  /** Makes the registry have these settings, and removes none. Does nothing where it knows no settings. Idempotent. */
  applyRegistrySettings(settings: Readonly<Record<string, unknown>>, options?: Abortable): Promise<void>;
  /** Moves images into and out of the archive. Absent where the registry has no storage classes (all but ECR). */
  readonly storageClasses?: StorageClasses | undefined;
}

/** A change of one setting of a registry. `from` is undefined where the registry has nothing there, or what every new one has. */
export interface RegistrySettingsChange extends SettingsChange {
  /** The settings with which `applyRegistrySettings` makes this change alone. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** ECR's storage classes: images in ARCHIVE cost less, and cannot be pulled. */
export interface StorageClasses {
  /**
   * Moves an image. Returns its status: for STANDARD mostly `ACTIVATING`, for up to 20 minutes. Idempotent. NOT_FOUND without the image; CONFLICT
   * where the registry refuses, such as to archive an image that is still `ACTIVATING`.
   */
  moveToStorageClass(
    repository: string,
    digest: Digest,
    to: 'STANDARD' | 'ARCHIVE',
    options?: Abortable,
  ): Promise<ListedImage['status']>;
  /** The statuses of these images; those that are gone are left out. One call for a hundred. */
  imageStatuses(
    repository: string,
    digests: readonly Digest[],
    options?: Abortable,
  ): Promise<ReadonlyMap<Digest, ListedImage['status']>>;
}

/** A change of one member of a repository's settings. */
interface SettingsChange {
  readonly member: string;
  /** As JSON; undefined for none. */
  readonly from: string | undefined;
  readonly to: string;
}

export interface RepositoryOptions {
  /**
   * The settings with which it is created when something is pushed that ECR has no repository for, as `repository.json` has them; false: it
   * is not created. Default: as the backends were opened.
   */
  readonly create?: Readonly<Record<string, unknown>> | false | undefined;
}

/** One row of a registry's list: an image, a child of one, or what refers to one. */
export interface ListedImage {
  readonly digest: Digest;
  readonly tags: readonly string[];
  readonly mediaType: string | undefined;
  /** Absent: the image does not have one, or the registry does not list it. */
  readonly artifactMediaType?: string | undefined;
  readonly pushedAt: Date | undefined;
  /** Absent: never pulled, or not recorded. */
  readonly pulledAt?: Date | undefined;
  /** Compressed bytes of its layers; of an index those of its largest image. */
  readonly sizeBytes?: number | undefined;
  /** An archived image is listed, but cannot be pulled. */
  readonly status: 'ACTIVE' | 'ARCHIVED' | 'ACTIVATING';
  readonly subject: Digest | undefined;
}

/** Everything an operation may reach, opened where the program starts. */
export interface Backends {
  /** The registry at `host`, with the credentials of that side. */
  registry(host: string, side: Side): Registry;
  /** An S3 bucket. No request is sent yet. */
  bucket(name: string): ObjectStore;
  /** The files in a folder. */
  folder(path: string): ObjectStore;
  /** Removes the folder of an unfinished store in one file, with its content. BUG for a path without the name of such a folder. */
  removeUnfinished(path: string): Promise<void>;
  /** A new folder, for archives that cannot be read in place. */
  temporary(): Promise<TemporaryFolder>;
  readonly standardStreams: StandardStreams;
  /** The keys that sign snapshots and are trusted to. Absent: none. */
  readonly snapshotKeys?: SnapshotKeys | undefined;
}

/** Standard input and output, which pipes of a shell connect to. */
export interface StandardStreams {
  /**
   * All of standard input as an object: the redirected file, or a temporary one for as long as the backends are open. The same object each
   * time. INVALID for a terminal and for an empty input, UNSUPPORTED for more than there is space for.
   */
  input(options: Abortable): Promise<{ readonly store: ObjectStore; readonly key: string }>;
  /** Writes `body` to standard output. INVALID for a terminal, UNSUPPORTED where the reader goes away. */
  output(body: Bytes, options: Abortable): Promise<void>;
}

/** What every operation takes. */
export interface OperationOptions extends AnswerOptions {
  readonly report?: Report | undefined;
  readonly clock: Clock;
  /** Blobs at once. Default 4. */
  readonly concurrency?: number | undefined;
  /** How many images an operation on many works on at once. Default 4. */
  readonly imagesAtOnce?: number | undefined;
  /** What the copies of one command share. Default: each has its own. */
  readonly budget?: CopyBudget | undefined;
}
