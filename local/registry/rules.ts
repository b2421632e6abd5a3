import type { Digest } from '../../worker/oci/digest.ts';
import type { Manifest } from '../../worker/oci/manifest.ts';
import type { Answer, Exchange } from './exchange.ts';
import type { StoredManifest, StoredRepository } from './store.ts';
import type { Upload } from './upload.ts';

/** Where registries differ. Whatever a rule forbids it throws as a `Refusal`. */
export interface Rules {
  /** The repository; where it is missing, a registry may make it for a push. */
  repository(name: string, forPush: boolean): StoredRepository;
  /** The start of every Location: the registry's own address, or nothing if they are relative. */
  readonly origin: () => string;
  /** Whether the Location of an upload has a query and changes with each answer: the next request must use it as it is. */
  readonly movingLocations: boolean;
  /** Whether `POST …/uploads/?digest=` brings the blob along; otherwise it begins an upload as any POST does. */
  readonly singlePost: boolean;
  /** The status of the answer to a PATCH that was accepted. */
  readonly chunkStatus: 201 | 202;
  /** The Range header that is to say how much of the upload there is. */
  rangeOf(upload: Upload): string;
  /** Bytes come; `from` is where they begin, if the request names it. */
  checkChunk(upload: Upload, from: number | undefined): void;
  /** All bytes have come. */
  checkComplete(upload: Upload): void;
  /** What is said when bytes are not those of the digest they came under. */
  digestMismatch(digest: Digest): Error;
  mayMount(to: StoredRepository, from: StoredRepository, digest: Digest): boolean;
  /** Gives a blob out. */
  blob(exchange: Exchange, repository: StoredRepository, digest: Digest, bytes: number): Answer;
  deleteBlob(repository: StoredRepository, digest: Digest): void;
  /** A manifest that can be read was pushed. */
  checkManifest(repository: StoredRepository, pushed: PushedManifest, manifest: Manifest): void;
  /** What is said when a manifest names what is not in its repository. */
  missingChildren(repository: StoredRepository, manifest: Manifest, missing: readonly Digest[]): Error;
  /** A manifest is about to be given out. */
  pulled(exchange: Exchange, repository: StoredRepository, manifest: StoredManifest): void;
  /** Removes what a tag or digest stands for. */
  deleteManifest(repository: StoredRepository, manifest: StoredManifest, tag: string | undefined): void;
  /** Which manifests refer to this one; absent where there is no referrers API. */
  referrers?(repository: StoredRepository, subject: Digest): readonly StoredManifest[];
  /** How many of a list are given at once; throws when more are asked for than may be. */
  pageSize(asked: number | undefined): number;
  /** Whether `last` is a cursor of the registry's own; otherwise it is the last item, and the registry's cursors are in `next`. */
  readonly opaqueLast: boolean;
  /** What is said to a list request whose parameter makes no sense. */
  invalidParameter(name: string): Error;
}

export interface PushedManifest {
  readonly tag: string | undefined;
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Uint8Array;
}
