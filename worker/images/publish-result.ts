import type { Digest } from '../oci/digest.ts';
import type { Failure, Side } from '../util/failure.ts';

/** What became of all objects of one place. */
export interface PublishResult {
  readonly from: string;
  readonly to: string;
  /** `planned` for a dry run. `unchanged`: the last snapshot describes what is there now, failures included, and no new one was written. */
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
  /** Only in a dry run: bytes of the objects that would be read. Those that the registry does not have would be sent. */
  readonly bytesToRead?: number;
  /** The first `MAX_FAILURES` of `objects.failed`. */
  readonly failures: readonly ObjectFailure[];
}

export interface ObjectFailure {
  readonly key: string;
  readonly failure: Failure;
}

/** How many failures of objects a result carries: each is reported as an event too. */
export const MAX_FAILURES = 1000;

/** Whether a failure concerns all objects that follow, and not just one. `registry`: the side that the registry is on. */
export function concernsAll({ code, context }: Failure, registry: Side): boolean {
  switch (code) {
    case 'ABORTED':
    case 'BUG':
    case 'UNAUTHENTICATED':
      return true;
    case 'DENIED':
    case 'THROTTLED':
    case 'UNAVAILABLE':
      return context.side === registry;
    case 'NOT_FOUND':
      // the repository, or the bucket; a file that cannot be made has the number of its error
      return context.side === 'target' && context['errno'] === undefined;
    case 'CONFLICT':
    case 'CORRUPT':
    case 'INVALID':
    case 'UNSUPPORTED':
      return false;
    default:
      return code satisfies never;
  }
}
