import type { Digest } from '../oci/digest.ts';
import type { ObjectPlace } from '../oci/object-place.ts';
import { formatReference, type Reference } from '../oci/reference.ts';
import { Failure } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';
import type { ObjectFailure } from './publish.ts';

export interface ExtractRequest {
  /** A snapshot, a published object, or any artifact whose layers have titles. */
  readonly from: Reference;
  readonly to: ObjectPlace;
  /** Also replaces files and objects that have other bytes. Default false: such an object fails. */
  readonly force?: boolean | undefined;
  /** Reports what would be done, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
}

/** What became of everything that an artifact or snapshot holds. */
export interface ExtractResult {
  readonly from: string;
  readonly to: string;
  /** What `from` stood for. */
  readonly digest: Digest;
  readonly outcome: 'extracted' | 'unchanged' | 'planned';
  readonly objects: {
    readonly written: number;
    /** There already, with the same bytes (in S3 with the same content type and metadata too). */
    readonly unchanged: number;
    /** Markers of folders in S3, which a folder cannot have. */
    readonly skipped: number;
    readonly failed: number;
  };
  /** Bytes of what was written. */
  readonly bytesWritten: number;
  /** The first `MAX_FAILURES` of `objects.failed`. */
  readonly failures: readonly ObjectFailure[];
}

/** Writes what `from` holds below `to`, never outside of it. Idempotent. A failed object is reported and counted, and the others go on. */
export async function extract(
  request: ExtractRequest,
  _backends: Backends,
  _options: OperationOptions,
): Promise<ExtractResult> {
  throw new Failure('UNSUPPORTED', `extract ${formatReference(request.from)}: not built yet`);
}
