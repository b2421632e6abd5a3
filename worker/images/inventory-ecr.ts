import { shortDigest, type Digest } from '../oci/digest.ts';
import { childrenOf, isIndexType, isManifestType, mediaTypeByBytes, parseManifest } from '../oci/manifest.ts';
import type { Inventory, Item } from '../retention/inventory.ts';
import type { Abortable } from '../util/abort.ts';
import { highest } from '../util/lists.ts';
import { compareStrings } from '../util/text.ts';
import type { ListedImage, Registry } from './backends.ts';

/** What an index is, apart from its row. */
interface ReadIndex {
  readonly children: readonly Digest[];
  /** Bytes of the index itself: those of its images are counted with them. */
  readonly bytes: number;
}

type EcrLists = Required<Pick<Registry, 'images' | 'manifests'>>;

/**
 * Everything in a repository of ECR, archived and untagged images too: a call for a thousand rows, and one for twenty indexes. NOT_FOUND without
 * the repository.
 *
 * Pull times are those of the images: of an index, the latest of what it lists, because reading an index moves its own. What was never pulled
 * counts from its push. https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-time-update-exclusions.html
 */
export async function readEcrInventory(
  lists: { readonly [K in keyof EcrLists]: NonNullable<EcrLists[K]> },
  { host, repository }: { readonly host: string; readonly repository: string },
  options: Abortable,
): Promise<Inventory> {
  const rows = new Map<Digest, ListedImage>();
  for await (const row of lists.images(repository, options)) rows.set(row.digest, row);
  const wanted = [...rows.values()]
    .filter((row) => mayBeIndex(row) && row.status === 'ACTIVE')
    .map((row) => row.digest);
  const indexes = new Map<Digest, ReadIndex>();
  const seen = new Set<Digest>();
  for await (const { digest, bytes } of lists.manifests(repository, wanted, options)) {
    seen.add(digest);
    const mediaType = mediaTypeByBytes(bytes, rows.get(digest)?.mediaType ?? '');
    if (!isIndexType(mediaType)) continue;
    const children = childrenOf(parseManifest(bytes, mediaType)).map((child) => child.digest);
    indexes.set(digest, { children, bytes: bytes.byteLength });
  }
  const lost = wanted.find((digest) => !seen.has(digest));
  const strange = [...rows.values()].find(({ mediaType }) => mediaType !== undefined && !isKnownType(mediaType));
  const incomplete =
    lost !== undefined
      ? `the index ${shortDigest(lost)} was listed and could not be read: it was deleted or archived meanwhile`
      : strange === undefined
        ? undefined
        : `what ${shortDigest(strange.digest)} of the type ${strange.mediaType} lists is not known`;
  const archived = archivedIndexesOf(rows);
  return {
    place: `${host}/${repository}`,
    repository,
    kind: 'images',
    items: [...rows.values()].map((row) => itemOf(row, rows, indexes, archived)),
    incomplete,
    untags: true,
  };
}

/** The two newest archived indexes: what they list cannot be read. Where neither may list an image, no older one does, and one may be the image. */
function archivedIndexesOf(rows: ReadonlyMap<Digest, ListedImage>): readonly ListedImage[] {
  const timeOf = ({ pushedAt }: ListedImage): number => pushedAt?.getTime() ?? Infinity;
  return [...rows.values()]
    .filter((row) => mayBeIndex(row) && row.status !== 'ACTIVE')
    .sort((a, b) => Math.sign(timeOf(b) - timeOf(a)) || compareStrings(a.digest, b.digest))
    .slice(0, 2);
}

function mayBeIndex({ mediaType }: ListedImage): boolean {
  return mediaType === undefined || isIndexType(mediaType);
}

/** Manifests whose form is known, and those of docker's schema 1, which list no manifests. */
function isKnownType(mediaType: string): boolean {
  return isManifestType(mediaType) || mediaType.startsWith('application/vnd.docker.distribution.manifest.v1');
}

function itemOf(
  row: ListedImage,
  rows: ReadonlyMap<Digest, ListedImage>,
  indexes: ReadonlyMap<Digest, ReadIndex>,
  archived: readonly ListedImage[],
): Item {
  const index = indexes.get(row.digest);
  const held = heldBy(row, archived);
  return {
    id: row.digest,
    digest: row.digest,
    tags: row.tags,
    mediaType: row.mediaType,
    bytes: index?.bytes ?? (isIndexType(row.mediaType ?? '') ? undefined : row.sizeBytes),
    pushedAtMs: row.pushedAt?.getTime(),
    pulledAtMs: pulledAtMs(row, rows, indexes),
    children: index?.children ?? [],
    subject: row.subject,
    ...(held === undefined ? {} : { held }),
  };
}

/**
 * Why an image without a tag may not be deleted: an archived index, which cannot be read, may list it. ECR takes an index after what it lists, so
 * older images alone can be. It refuses by itself to delete what an index lists.
 */
function heldBy(row: ListedImage, archived: readonly ListedImage[]): string | undefined {
  if (row.status === 'ACTIVATING') return 'it is being restored from the archive';
  if (row.tags.length > 0) return undefined;
  const index = archived.find(
    ({ digest, pushedAt }) =>
      digest !== row.digest &&
      (pushedAt === undefined || row.pushedAt === undefined || row.pushedAt.getTime() <= pushedAt.getTime()),
  );
  return index === undefined ? undefined : `the archived index ${shortDigest(index.digest)} may list it`;
}

function pulledAtMs(
  row: ListedImage,
  rows: ReadonlyMap<Digest, ListedImage>,
  indexes: ReadonlyMap<Digest, ReadIndex>,
): number | undefined {
  const index = indexes.get(row.digest);
  if (index === undefined) return (row.pulledAt ?? row.pushedAt)?.getTime();
  // what is added while a set is walked is walked too
  const below = new Set(index.children);
  for (const digest of below) for (const child of indexes.get(digest)?.children ?? []) below.add(child);
  const pulls = [...below].flatMap((digest) =>
    indexes.has(digest) ? [] : (rows.get(digest)?.pulledAt?.getTime() ?? []),
  );
  const pushed = row.pushedAt?.getTime();
  return pushed === undefined ? undefined : highest(pulls, pushed);
}
