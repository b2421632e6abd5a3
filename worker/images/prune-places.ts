import { ecrHost } from '../oci/ecr-host.ts';
import { withoutTransport } from '../oci/location.ts';
import { parsePlace, type ObjectRoot, type Place } from '../oci/place.ts';
import { withoutSecrets } from '../oci/reference.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';

/** What is pruned image by image: repositories of a registry by a pattern, or all archives below a prefix. A store is pruned by its snapshots. */
export type PrunePlace = Exclude<Place, { readonly kind: 'store' }>;

/**
 * Reads a place as `parsePlace` does. INVALID for a store, for a tag, and for the host alone of a registry other than ECR, because a whole
 * registry of another kind is too easily meant to be one repository.
 */
export function parsePrunePlace(text: string): PrunePlace {
  const place = parsePlace(text);
  if (place.kind === 'archives') return place;
  if (place.kind === 'store') throw invalid(text, 'a store is pruned by its snapshots, not by its images');
  const host = withoutTransport(text).replace(/\/$/, '');
  if (!host.includes('/') && ecrHost(host) === undefined) throw invalid(text, `name its repositories too: ${host}/*`);
  if (place.pattern.tag === undefined) return place;
  throw invalid(text, 'it names a tag; name repositories, and choose tags by --delete-tags and --keep-tags');
}

/** Where the archives of an inventory are: the first of the places that it is below. INVALID where it is below none of them. */
export function archivesIn(inventory: string, places: readonly PrunePlace[]): ObjectRoot {
  const roots = places.flatMap((place) => (place.kind === 'archives' ? [place.root] : []));
  const below = `${inventory}/`;
  const root = roots.find((one) => below.startsWith('bucket' in one ? `s3://${one.bucket}/` : one.folder));
  if (root !== undefined) return root;
  throw new Failure('INVALID', `the plan deletes archives of ${quote(inventory)}, which is not one of its places`);
}

function invalid(text: string, why: string): Failure {
  return new Failure('INVALID', `${quote(withoutSecrets(text))} cannot be pruned: ${why}`);
}
