import type { Source, Target } from '../content/content.ts';
import type { Digest } from '../oci/digest.ts';
import { isManifestType, type Descriptor } from '../oci/manifest.ts';
import { checkAborted, orAborted, type Abortable } from '../util/abort.ts';
import { atSide, ifFound, isFailure } from '../util/failure.ts';
import { SharedPromise } from '../util/shared-promise.ts';
import type { ListedImage, Registry, RepositoryOptions } from './backends.ts';

/** What a repository has, where its registry lists it. */
interface Listed {
  readonly manifests: ReadonlySet<Digest>;
  readonly tags: ReadonlyMap<string, Digest>;
}

const NOTHING: Listed = { manifests: new Set(), tags: new Map() };

/** The repository of a restore. */
export interface RestoredRepositoryOptions extends Abortable, RepositoryOptions {
  /** Called when the registry mounted a blob, or refused to. */
  readonly onMount: (isMounted: boolean) => void;
}

/**
 * A repository that many images are restored to: everything is asked for and sent once, and what ECR lists of it costs no other request.
 */
export class RestoredRepository implements Target {
  readonly #target: Source & Target;
  readonly #onMount: RestoredRepositoryOptions['onMount'];
  /** Undefined where the registry has no list, so that it is asked for one by one. */
  readonly #listed: Listed | undefined;
  readonly #present = new Map<Digest, SharedPromise<boolean>>();
  readonly #puts = new Map<Digest, SharedPromise<void>>();
  readonly #tags = new Map<string, Digest>();

  private constructor(
    target: Source & Target,
    listed: Listed | undefined,
    { onMount }: Pick<RestoredRepositoryOptions, 'onMount'>,
  ) {
    this.#target = target;
    this.#listed = listed;
    this.#onMount = onMount;
  }

  /** Lists what is in the repository now, where its registry does. One that does not exist has nothing. */
  static async open(
    registry: Registry,
    name: string,
    { onMount, create, signal }: RestoredRepositoryOptions,
  ): Promise<RestoredRepository> {
    const listed = registry.images === undefined ? undefined : await listedIn(registry.images(name, { signal }));
    return new RestoredRepository(registry.repository(name, { create }), listed, { onMount });
  }

  /** Whether the registry lists all of these manifests, which it has whole then. False too where it has no list. */
  lists(digests: readonly Digest[]): boolean {
    return this.#listed !== undefined && digests.every((digest) => this.#listed?.manifests.has(digest) === true);
  }

  /** What the tag stands for now; undefined where it does not exist. */
  async tagged(tag: string, options: Abortable): Promise<Digest | undefined> {
    const written = this.#tags.get(tag);
    if (written !== undefined) return written;
    if (this.#listed !== undefined) return this.#listed.tags.get(tag);
    try {
      return (await this.#target.resolve(tag, options)).digest;
    } catch (error) {
      // credentials that may push but not look: the push decides
      if (isFailure(error, 'NOT_FOUND', 'DENIED')) return undefined;
      throw atSide('target', error);
    }
  }

  async has(descriptor: Descriptor, options?: Abortable): Promise<boolean> {
    const { digest, mediaType } = descriptor;
    if (this.#listed?.manifests.has(digest) === true) return true;
    const isUnlisted = this.#listed === NOTHING || (this.#listed !== undefined && isManifestType(mediaType));
    const look = async (): Promise<boolean> => (isUnlisted ? false : this.#target.has(descriptor, options));
    return sharing(sharedOf(this.#present, digest), look, options);
  }

  async put(descriptor: Descriptor, open: () => AsyncIterable<Uint8Array>, options?: Abortable): Promise<void> {
    const { digest, mediaType } = descriptor;
    const put = sharedOf(this.#puts, digest);
    const send = async (): Promise<void> => {
      await this.#target.put(descriptor, open, options);
      this.#isThere(descriptor);
    };
    await sharing(put, send, options);
    // one that the registry lost is sent again
    if (isManifestType(mediaType)) put.forget();
  }

  async tag(
    name: string,
    descriptor: Descriptor,
    open: () => AsyncIterable<Uint8Array>,
    options?: Abortable,
  ): Promise<void> {
    if (this.#listed?.tags.get(name) !== descriptor.digest) await this.#target.tag(name, descriptor, open, options);
    this.#tags.set(name, descriptor.digest);
    this.#isThere(descriptor);
  }

  async mount(descriptor: Descriptor, fromRepository: string, options?: Abortable): Promise<boolean> {
    const isMounted = (await this.#target.mount?.(descriptor, fromRepository, options)) === true;
    this.#onMount(isMounted);
    if (isMounted) this.#isThere(descriptor);
    return isMounted;
  }

  #isThere({ digest }: Descriptor): void {
    void sharedOf(this.#present, digest).replace(Promise.resolve(true));
  }
}

function sharedOf<T>(known: Map<Digest, SharedPromise<T>>, digest: Digest): SharedPromise<T> {
  const shared = known.get(digest) ?? new SharedPromise<T>();
  known.set(digest, shared);
  return shared;
}

/** The result of work that several callers share. Where the work of another caller failed, or was stopped with it, this caller does it again. */
async function sharing<T>(
  shared: SharedPromise<T>,
  work: () => Promise<T>,
  options: Abortable | undefined,
): Promise<T> {
  for (let others = shared.current; others !== undefined; others = shared.current) {
    try {
      return await orAborted(others, options);
    } catch (error) {
      checkAborted(options);
      if (!isFailure(error)) throw error;
      shared.forget(others);
    }
  }
  return shared.get(work);
}

async function listedIn(rows: AsyncIterable<ListedImage>): Promise<Listed> {
  const manifests = new Set<Digest>();
  const tags = new Map<string, Digest>();
  const read = async (): Promise<Listed> => {
    for await (const row of rows) {
      manifests.add(row.digest);
      for (const tag of row.tags) tags.set(tag, row.digest);
    }
    return { manifests, tags };
  };
  return (await ifFound(read())) ?? NOTHING;
}
