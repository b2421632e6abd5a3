import type { Digest } from '../oci/digest.ts';
import type { ObjectPlace } from '../oci/object-place.ts';
import type { Repository } from '../oci/reference.ts';
import { Failure } from '../util/failure.ts';
import type { Backends, OperationOptions, RepositoryOptions } from './backends.ts';

export interface PublishRequest extends RepositoryOptions {
  readonly from: ObjectPlace;
  readonly to: Repository;
  /** Reports what would be done; reads no object and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
  /** Also publishes where the last snapshot is one of another place. Default false: CONFLICT. */
  readonly force?: boolean | undefined;
  /**
   * `listing` of the last run that ended without failures and whose snapshot is known to be still there. Where the listing is the same, the
   * registry is not asked at all. Absent: the registry's `latest` says what the last run saw.
   */
  readonly lastListing?: Digest | undefined;
}

/** What became of all objects of one place. */
export interface PublishResult {
  readonly from: string;
  readonly to: string;
  /** `planned` for a dry run. `unchanged`: the last snapshot says what is there now, failures included, and no new one was written. */
  readonly outcome: 'published' | 'unchanged' | 'planned';
  /** The one that was written, or the last one where nothing changed. Absent for dry runs, and where `lastListing` made asking unnecessary. */
  readonly snapshot?: { readonly tag: string; readonly digest: Digest };
  /**
   * Digest of the listing (key, size, ETag, modified time of each object): equal where nothing changed. Remember it as `lastListing` only where
   * `objects.failed` is 0.
   */
  readonly listing: Digest;
  readonly objects: {
    /** Read because they were new or had changed; their bytes may have been there already. */
    readonly published: number;
    readonly unchanged: number;
    /** In the last snapshot, and not in the place any more. */
    readonly removed: number;
    readonly failed: number;
  };
  /** Bytes of all objects that were listed. */
  readonly bytes: number;
  /** Bytes that left for the registry, those of repeated requests again. */
  readonly bytesSent: number;
  /** The first `MAX_FAILURES` of `objects.failed`. */
  readonly failures: readonly ObjectFailure[];
}

export interface ObjectFailure {
  readonly key: string;
  readonly failure: Failure;
}

/** How many failures of objects a result carries: each is reported as an event too. */
export const MAX_FAILURES = 1000;

/**
 * Makes the repository hold every object of `from` as an artifact, and a snapshot that lists them, tagged `latest` and `snapshot-<UTC>`.
 * Idempotent: an object that is listed as the last snapshot has it is not read, bytes that are there are not sent, and no snapshot is written
 * where nothing changed. A failed object is reported (`object-failed`) and counted, and the others go on: what the last snapshot had for it
 * stays in the new one. Throws where the listing or the snapshot itself fails: NOT_FOUND where there is no object and no snapshot,
 * CONFLICT where `latest` is something else.
 */
export async function publish(
  request: PublishRequest,
  _backends: Backends,
  _options: OperationOptions,
): Promise<PublishResult> {
  throw new Failure('UNSUPPORTED', `publish to ${request.to.registry}/${request.to.repository}: not built yet`);
}
