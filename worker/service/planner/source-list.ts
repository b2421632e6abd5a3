import type { ListedImage } from '../../images/backends.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Candidate } from '../../rules/rule.ts';
import type { Abortable } from '../../util/abort.ts';
import type { Failure } from '../../util/failure.ts';
import { compareStrings } from '../../util/text.ts';
import { nameOf, type SourceImage } from './plan-jobs.ts';

/** What a rule selects of one repository. */
export interface SourceList {
  /** In the order of `nameOf`. Nothing was asked about each one yet. */
  readonly selected: readonly Candidate[];
  /** The digests that candidates stand for: known from ECR's list, by one HEAD each elsewhere. Those that are gone by now are left out. */
  resolve(candidates: readonly Candidate[], options: Abortable): Promise<Resolved>;
  /** What refers to manifests that `isWanted` (by `shortened`), both by `shortened`. */
  referrers(
    isWanted: (subject: string) => boolean,
    options: Abortable,
  ): Promise<ReadonlyMap<string, readonly string[]>>;
  /** Whether the list shows that the repository has no referrers: no signature, no SBOM, nothing else that names a subject. */
  readonly unreferenced: boolean;
  /** What the repository has, where the list shows sizes: images, archived ones too, and their bytes. */
  readonly size?: { readonly images: number; readonly bytes: number } | undefined;
  /** The bytes of each image by its digest, where the list shows them; of an index those of its largest image. */
  readonly bytes?: ReadonlyMap<Digest, number> | undefined;
  /** Archived images that were left out: they cannot be pulled. */
  readonly archived: readonly ListedImage[];
}

/** For people: images of `repository` that the list leaves out because they are archived. */
export function archivedWarning(repository: string, { archived }: Pick<SourceList, 'archived'>): string {
  return `${repository}: ${archived.length} images are archived and cannot be pulled; they are left out`;
}

/** What `SourceList.resolve` found. */
export interface Resolved {
  /** In the order of the candidates. */
  readonly images: readonly SourceImage[];
  /** Candidates that cannot be read for a reason that concerns them alone. */
  readonly failed: readonly { readonly candidate: Candidate; readonly failure: Failure }[];
}

/** The image that an event reports as pushed. */
export interface Pushed {
  readonly tag: string | undefined;
  readonly digest: Digest;
}

/** Requests at once; the registry's own limits come on top. */
export const REQUESTS_AT_ONCE = 8;

/** The order of `SourceList.selected`. */
export function byName(a: Candidate, b: Candidate): number {
  return compareStrings(nameOf(a), nameOf(b));
}
