import { reportSent } from '../content/report-sent.ts';
import { copy } from '../copy/copy.ts';
import { shortDigest, type Digest } from '../oci/digest.ts';
import { formatRepository } from '../oci/reference.ts';
import { contentOf } from '../store/expanded.ts';
import type { StateImage } from '../store/state.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { describeFailure, Failure, toFailure, type Code } from '../util/failure.ts';
import { reportAbout } from '../util/events.ts';
import { forEachOf, type Limit } from '../util/limit.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { countSent } from './count-sent.ts';
import type { PlannedRepository } from './restore-plan.ts';
import type { RestoredRepository } from './restored-repository.ts';
import type { SharedBlobs } from './shared-blobs.ts';
import { manifestsOf, openSnapshotImage, type SnapshotPlace } from './snapshot-image.ts';

/** What becomes of a tag that stands for another image at the target. */
export type OnExisting = 'skip' | 'error' | 'overwrite';

export interface RestoreImagesRequest {
  readonly images: SnapshotPlace;
  /** Default: `error`. */
  readonly onExisting?: OnExisting | undefined;
  /** Whether signatures, SBOMs and whatever else refers to the images come along. Default true. */
  readonly referrers?: boolean | undefined;
  /** Reports what would be sent, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
  /** Images at once, of all repositories. */
  readonly atOnce: Limit;
  readonly blobs: SharedBlobs;
}

/** What was not restored, and why. */
export interface RestoreFailure {
  /** As the snapshot names it, with its registry. */
  readonly repository: string;
  readonly tag?: string | undefined;
  readonly digest: Digest;
  readonly code: Code;
  readonly reason: string;
}

/** What became of the images of one repository. */
export interface ImagesOutcome {
  /** Sent, whole or in part. */
  readonly copied: number;
  /** There before, with all that belongs to them. */
  readonly unchanged: number;
  /** Only in a dry run: they would be sent. */
  readonly planned: number;
  /** Not sent, because the tags that they were to get stand for other images. */
  readonly kept: number;
  readonly failed: number;
  readonly bytesSent: number;
  /** Taken from other repositories of the target. */
  readonly bytesReused: number;
  /** The most that would be sent. Only in a dry run. */
  readonly bytesToSend: number;
  readonly failures: readonly RestoreFailure[];
}

/** Images of one repository at once: they share layers, and each is sent once. */
const IMAGES_AT_ONCE = 4;

/**
 * Restores the images of one repository. What is there is not sent again, so a restore that was stopped anywhere goes on when it is run again. One
 * image that fails is among the failures, and the others go on. Throws only ABORTED.
 */
export async function restoreImages(
  planned: PlannedRepository,
  repository: RestoredRepository,
  request: RestoreImagesRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<ImagesOutcome> {
  const session = new RepositorySession(planned, repository, request, backends, options);
  options.report?.({ type: 'images-planned', images: planned.images.length });
  await forEachOf(
    planned.images,
    options.imagesAtOnce ?? IMAGES_AT_ONCE,
    async (image, taskOptions) => {
      if (request.dryRun !== true) await request.blobs.ready(planned, image, taskOptions);
      await request.atOnce.run(async () => session.restore(image, taskOptions), taskOptions);
    },
    options,
  );
  return { ...session.counts, failures: session.failures };
}

class RepositorySession {
  readonly counts = {
    copied: 0,
    unchanged: 0,
    planned: 0,
    kept: 0,
    failed: 0,
    bytesSent: 0,
    bytesReused: 0,
    bytesToSend: 0,
  };
  readonly failures: RestoreFailure[] = [];
  readonly #planned: PlannedRepository;
  readonly #repository: RestoredRepository;
  readonly #request: RestoreImagesRequest;
  readonly #backends: Backends;
  readonly #options: OperationOptions;
  /** What a dry run has counted. */
  readonly #counted = new Set<Digest>();

  constructor(
    planned: PlannedRepository,
    repository: RestoredRepository,
    request: RestoreImagesRequest,
    backends: Backends,
    options: OperationOptions,
  ) {
    this.#planned = planned;
    this.#repository = repository;
    this.#request = request;
    this.#backends = backends;
    this.#options = options;
  }

  async restore(listed: StateImage, { signal }: Abortable): Promise<void> {
    const options = { ...this.#options, signal };
    const image = this.#nameOf(listed);
    const sent = countSent(reportAbout(this.#options.report, { image }));
    let [isFailed, isWhole] = [false, false];
    let outcome: 'copied' | 'unchanged' | 'planned' | undefined;
    const failing = (digest: Digest, error: unknown, tag?: string): void => {
      isFailed = true;
      this.#fails(listed, digest, error, tag);
    };
    try {
      const all = this.#request.referrers === false ? { ...listed, referrers: [] } : listed;
      const { image: free, isKept } = await this.#withoutTaken(all, failing, options);
      if (isKept) this.counts.kept += isFailed ? 0 : 1;
      else if (await this.#isThere(free, options)) {
        isWhole = true;
        outcome = 'unchanged';
        this.counts.unchanged += isFailed ? 0 : 1;
      } else if (this.#request.dryRun === true) {
        await this.#count(free, options);
        outcome = 'planned';
        this.counts.planned += isFailed ? 0 : 1;
      } else {
        await this.#copy(free, failing, { ...options, report: sent.report });
        isWhole = true;
        outcome = 'copied';
        this.counts.copied += isFailed ? 0 : 1;
      }
    } catch (error) {
      checkAborted(this.#options);
      failing(listed.digest, error, listed.tags[0]);
    } finally {
      this.#request.blobs.settle(listed, isWhole);
    }
    if (isFailed) this.counts.failed++;
    else if (outcome !== undefined)
      this.#options.report?.({ type: 'image-done', image, outcome, digest: listed.digest, bytesSent: sent.bytes });
    this.counts.bytesSent += sent.bytes;
  }

  /**
   * The image without the tags that stand for something else at the target, and without cosign's signatures whose tags do, unless the options move
   * tags. `isKept`: no tag is left to give it.
   */
  async #withoutTaken(
    image: StateImage,
    failing: (digest: Digest, error: unknown, tag: string) => void,
    options: Abortable,
  ): Promise<{ readonly image: StateImage; readonly isKept: boolean }> {
    const { onExisting = 'error' } = this.#request;
    if (onExisting === 'overwrite') return { image, isKept: false };
    const isFree = async (tag: string, digest: Digest): Promise<boolean> => {
      const now = await this.#repository.tagged(tag, options);
      if (now === undefined || now === digest) return true;
      if (onExisting === 'error')
        failing(
          digest,
          new Failure(
            'CONFLICT',
            `the tag stands for ${shortDigest(now)} at the target, not for ${shortDigest(digest)}: pass --on-existing overwrite to move it, or skip to leave it`,
            { context: { side: 'target' } },
          ),
          tag,
        );
      return false;
    };
    const tags: string[] = [];
    for (const tag of image.tags) if (await isFree(tag, image.digest)) tags.push(tag);
    const isKept = tags.length === 0 && image.tags.length > 0;
    if (isKept) return { image, isKept };
    const referrers: StateImage['referrers'][number][] = [];
    for (const referrer of image.referrers) {
      const free = await Promise.all(referrer.tags.map(async (tag) => isFree(tag, referrer.digest)));
      if (free.every(Boolean)) referrers.push(referrer);
    }
    return { image: { ...image, tags, referrers }, isKept };
  }

  /** Whether the registry's list has all of it: nothing is read then. */
  async #isThere(image: StateImage, options: Abortable): Promise<boolean> {
    if (!this.#repository.lists(manifestsOf(image))) return false;
    for (const { tags, digest } of [image, ...image.referrers])
      for (const tag of tags) if ((await this.#repository.tagged(tag, options)) !== digest) return false;
    return true;
  }

  /** Adds what would be sent of the image, each blob and manifest of the repository once. */
  async #count(image: StateImage, options: Abortable): Promise<void> {
    for (const { digest, size, mediaType = 'application/octet-stream' } of contentOf(image)) {
      if (this.#counted.has(digest)) continue;
      this.#counted.add(digest);
      if (!(await this.#repository.has({ digest, size, mediaType }, options))) this.counts.bytesToSend += size;
    }
  }

  async #copy(
    image: StateImage,
    failing: (digest: Digest, error: unknown, tag?: string) => void,
    options: OperationOptions & { readonly report: NonNullable<OperationOptions['report']> },
  ): Promise<void> {
    const { registry, repository } = this.#planned.from;
    await using opened = await openSnapshotImage(
      this.#request.images,
      { registry, repository, image },
      this.#backends,
      options,
    );
    const target = reportSent(this.#repository, options.report);
    const { tallies, referrers } = await copy(opened.source, target, [opened.root], {
      ...options,
      referrers: image.referrers.length > 0,
      mountFrom: ({ digest }) => this.#request.blobs.mountFrom(this.#planned, digest),
    });
    this.counts.bytesReused += tallies.mounted.bytes;
    for (const { descriptor, tags, refused } of referrers)
      if (refused !== undefined) failing(descriptor.digest, refused, tags[0]);
  }

  /** The image as the snapshot names it. */
  #nameOf({ tags: [tag], digest }: StateImage): string {
    const repository = formatRepository(this.#planned.from);
    return tag === undefined ? `${repository}@${shortDigest(digest)}` : `${repository}:${tag}`;
  }

  #fails({ tags: [first], digest: image }: StateImage, digest: Digest, error: unknown, tag: string | undefined): void {
    const { code } = toFailure(error);
    const repository = formatRepository(this.#planned.from);
    const name = digest === image ? (tag ?? first) : undefined;
    const what = name === undefined ? `${repository}@${shortDigest(digest)}` : `${repository}:${name}`;
    const reason = describeFailure(error);
    this.failures.push({ repository, ...(tag === undefined ? {} : { tag }), digest, code, reason });
    this.#options.report?.({ type: 'warning', message: `${what}: ${reason}` });
  }
}
