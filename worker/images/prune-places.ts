import { ecrHost } from '../oci/ecr-host.ts';
import { parseImagePattern, parseS3, withoutTransport, type ImagePattern } from '../oci/location.ts';
import { withoutSecrets } from '../oci/reference.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';

/** What can be pruned: repositories of a registry by a pattern, or all archives below a prefix. */
export type PrunePlace =
  | { readonly kind: 'images'; readonly text: string; readonly pattern: ImagePattern }
  | { readonly kind: 'archives'; readonly text: string; readonly root: ArchiveRoot };

/** Where archives are: a prefix of a bucket, or a folder. */
export type ArchiveRoot =
  | { readonly bucket: string; readonly prefix: string }
  /** Its keys begin below the folder. */
  | { readonly folder: string; readonly prefix: '' };

/**
 * Reads a place: `[docker://]HOST/pattern`, `s3://bucket/prefix/`, or a folder: `oci-archive:folder/`, or a path that begins with `/`, `./` or
 * `../`. The host of an ECR registry alone stands for all its repositories. INVALID otherwise.
 */
export function parsePrunePlace(text: string): PrunePlace {
  if (text.startsWith('s3://')) {
    const { bucket, key } = parseS3(text);
    if (key === '' || key.endsWith('/')) return { kind: 'archives', text, root: { bucket, prefix: key } };
    throw invalid(text, 'a prefix of archives ends in "/"');
  }
  const folder = text.startsWith('oci-archive:') ? text.slice('oci-archive:'.length) : text;
  if (folder !== text || /^\.{0,2}\//.test(text)) {
    if (folder.endsWith('/')) return { kind: 'archives', text, root: { folder, prefix: '' } };
    throw invalid(text, 'a folder of archives ends in "/"');
  }
  const bare = withoutTransport(text);
  const host = bare.slice(0, Math.max(bare.indexOf('/'), 0)) || bare;
  if (!/[.:]/.test(host) && host !== 'localhost')
    throw invalid(text, 'expected HOST/repositories*, s3://bucket/prefix/ or a folder such as ./backups/');
  if (host === bare && ecrHost(host) === undefined) throw invalid(text, `name its repositories too: ${host}/*`);
  const pattern = parseImagePattern(text);
  if (pattern.tag !== undefined)
    throw invalid(text, 'it names a tag; name repositories, and choose tags by --delete-tags and --keep-tags');
  return { kind: 'images', text, pattern };
}

/** Where the archives of an inventory are: the first of the places that it is below. INVALID where there is none. */
export function archivesIn(inventory: string, places: readonly PrunePlace[]): ArchiveRoot {
  const roots = places.flatMap((place) => (place.kind === 'archives' ? [place.root] : []));
  const below = `${inventory}/`;
  const root = roots.find((one) => below.startsWith('bucket' in one ? `s3://${one.bucket}/` : one.folder));
  if (root !== undefined) return root;
  throw new Failure('INVALID', `the plan deletes archives of ${quote(inventory)}, which is none of its places`);
}

function invalid(text: string, why: string): Failure {
  return new Failure('INVALID', `${quote(withoutSecrets(text))} cannot be pruned: ${why}`);
}
