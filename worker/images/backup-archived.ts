import type { Digest } from '../oci/digest.ts';
import { canonicalHost } from '../oci/ecr-host.ts';
import { formatLocation, type Location } from '../oci/location.ts';
import type { ExpandedImage } from '../store/expanded.ts';
import type { SnapshotArchive } from '../store/snapshot.ts';
import { openSnapshots } from '../store/snapshots.ts';
import { checkAborted } from '../util/abort.ts';
import { ifFound, onSide, toFailure } from '../util/failure.ts';
import { forEachOf, Limit } from '../util/limit.ts';
import { SharedPromise } from '../util/shared-promise.ts';
import { ArchivedImages } from './archived-images.ts';
import type { ArchivesPlace } from './archives-draft.ts';
import type { Backends, ListedImage, OperationOptions, Registry } from './backends.ts';
import type { ImageCopyRequest } from './copy-image.ts';
import { copyImages, doneOf, IMAGES_AT_ONCE, type ItemResult } from './copy-images.ts';
import { hasListedReferrers, readKnownImages, type KnownImages } from './known-images.ts';
import { storeAndPrefix } from './open-place.ts';
import { listRows, type RepositoryListing } from './repository-listing.ts';
import { RestoredImages } from './restored-images.ts';

/** How many images wait for their restore at once. */
const AT_ONCE = 100;

/** An image that did not change since an earlier backup wrote its archive. */
export interface UnchangedArchive {
  readonly image: ExpandedImage;
  readonly archive: SnapshotArchive;
}

/** The images of one repository that are in ECR's archive storage class, for a backup into archives. */
export class ArchivedInRepository {
  readonly #archived: ArchivedImages;
  readonly #listing: RepositoryListing;
  readonly #repository: string;
  readonly #backup: BackupOfArchived;

  constructor(backup: BackupOfArchived, repository: string, archived: ArchivedImages, listing: RepositoryListing) {
    this.#backup = backup;
    this.#repository = repository;
    this.#archived = archived;
    this.#listing = listing;
  }

  /** Whether the image can be read only in `during`. */
  isArchived(digest: Digest): boolean {
    return this.#archived.isArchived(digest);
  }

  /** As `ArchivedImages.during`. */
  async during(digest: Digest, work: () => Promise<void>): Promise<void> {
    await this.#archived.during(digest, work);
  }

  /**
   * The archive at `to`, where it is up to date: the last snapshot that has the image lists that very object, and the registry lists the same
   * referrers as then. So nothing has to be restored to find out.
   */
  async unchanged(digest: Digest, to: Location, options: OperationOptions): Promise<UnchangedArchive | undefined> {
    const image = (await this.#backup.known(options)).find(this.#repository, digest);
    const archive = image?.archives?.find(({ key }) => key === this.#backup.place.keyOf(to));
    if (image === undefined || archive === undefined || !hasListedReferrers(image, this.#listing)) return undefined;
    const there = await onSide('target', ifFound(this.#backup.store.stat(archive.key, options)));
    return there?.etag === archive.etag ? { image, archive } : undefined;
  }
}

/** What a backup into archives needs to know to restore images from ECR's archive storage class. */
export class BackupOfArchived implements AsyncDisposable {
  readonly place: ArchivesPlace;
  readonly store: ReturnType<typeof storeAndPrefix>['store'];
  readonly #objects: ReturnType<typeof storeAndPrefix>;
  readonly #host: string;
  readonly #restored: RestoredImages;
  readonly #known = new SharedPromise<KnownImages>();
  readonly #opened = new AsyncDisposableStack();

  constructor(host: string, place: ArchivesPlace, backends: Backends) {
    this.place = place;
    this.#objects = storeAndPrefix(place.root, backends);
    this.store = this.#objects.store;
    this.#host = canonicalHost(host);
    this.#restored = new RestoredImages({ ...this.#objects, registry: this.#host });
  }

  /** The archived images among the rows of a repository. Each is archived again after its use, and at the latest when this is disposed. */
  async repository(
    registry: Registry,
    repository: string,
    rows: readonly ListedImage[],
    options: OperationOptions,
  ): Promise<ArchivedInRepository> {
    const archived = await ArchivedImages.open({ registry, repository, rows, restored: this.#restored }, options);
    this.#opened.use(archived);
    const listing = await listRows(rows, () => undefined);
    return new ArchivedInRepository(this, repository, archived, listing);
  }

  /** What earlier snapshots have of the registry. Read once. */
  async known(options: OperationOptions): Promise<KnownImages> {
    const read = async (): Promise<KnownImages> =>
      onSide('target', readKnownImages(openSnapshots(this.#objects), this.#host, undefined, options));
    return this.#known.get(read);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened.disposeAsync();
  }
}

/** The copies of a plan. */
export interface PlannedCopies {
  readonly requests: readonly ImageCopyRequest[];
  /** Requests for archived images. Each is copied while its image is restored. */
  readonly during: ReadonlyMap<ImageCopyRequest, (work: () => Promise<void>) => Promise<void>>;
  /** Requests whose archives are known to be up to date. */
  readonly unchanged: ReadonlyMap<ImageCopyRequest, UnchangedArchive>;
}

/** Copies what is planned: first what can be read at once, then what has to be restored. One item for each request. Throws only ABORTED. */
export async function copyPlanned(
  { requests, during, unchanged }: PlannedCopies,
  backends: Backends,
  options: OperationOptions,
): Promise<readonly ItemResult[]> {
  const items = new Map<ImageCopyRequest, ItemResult>();
  const nameOf = ({ from, to }: ImageCopyRequest): Pick<ItemResult, 'from' | 'to'> => ({
    from: formatLocation(from),
    to: formatLocation(to),
  });
  for (const [request, { image }] of unchanged)
    items.set(request, { ...nameOf(request), outcome: 'unchanged', digest: image.digest, bytesSent: 0 });
  const active = requests.filter((request) => !during.has(request) && !unchanged.has(request));
  for (const [index, item] of (await copyImages(active, backends, options)).entries()) {
    const request = active[index];
    if (request !== undefined) items.set(request, item);
  }
  const slots = new Limit(IMAGES_AT_ONCE);
  await forEachOf(
    during,
    AT_ONCE,
    async ([request, restored], { signal }) => {
      const one = { ...options, signal };
      const copyOne = async (): Promise<void> => {
        const [item] = await copyImages([request], backends, one);
        if (item !== undefined) items.set(request, item);
      };
      try {
        await restored(async () => slots.run(copyOne, one));
      } catch (error) {
        checkAborted(options);
        const item = { ...nameOf(request), outcome: 'failed', bytesSent: 0, failure: toFailure(error) } as const;
        items.set(request, item);
        options.report?.(doneOf(item));
      }
    },
    options,
  );
  return requests.flatMap((request) => items.get(request) ?? []);
}
