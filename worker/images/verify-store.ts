import { read } from '../content/read.ts';
import { collect } from '../content/bytes.ts';
import type { Digest } from '../oci/digest.ts';
import { matchesRepository, matchingTags } from '../oci/image-filter.ts';
import { childrenOf, isForeign, MAX_MANIFEST_BYTES, parseManifest } from '../oci/manifest.ts';
import type { Place } from '../oci/place.ts';
import { contentOf } from '../store/expanded.ts';
import { holdsIndex, layoutIndexOf } from '../store/layout-index.ts';
import { heldLocks } from '../store/lock.ts';
import type { SnapshotContent } from '../store/snapshot.ts';
import type { ImageStore } from '../store/store.ts';
import type { State, StateImage } from '../store/state.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure, Failure, isFailure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import { append } from '../util/lists.ts';
import { noImageOfThatTime, openStore, storePlace } from './open-place.ts';
import { isInSample } from '../util/sample.ts';
import { Unread } from './unread.ts';
import type { Verifying } from './verify-image.ts';
import type { Finding, PlaceRequest, PlaceResult } from './verify-result.ts';
import { checkTrustedKey, verifySnapshots, type VerifiedSnapshots } from './verify-snapshots.ts';

/** An image with its name for people. */
interface NamedImage {
  readonly at: string;
  readonly image: StateImage;
}

/**
 * Verifies a store against its snapshots: each of those can be read and has its id, index.json matches them, and the manifest (depth `tags`) or
 * everything (depth `blobs`) of each image is listed with its size. Depth `bytes` reads and hashes every blob that is there, once, also what no image
 * needs (of a snapshot or a time those of its images), and compares what manifests name with what the snapshot lists.
 */
export async function verifyStore(
  place: Extract<Place, { kind: 'store' }>,
  request: PlaceRequest,
  verifying: Verifying,
): Promise<PlaceResult> {
  const { depth, backends, options } = verifying;
  await checkTrustedKey(verifying);
  const store = await openStore(place.root, backends, options);
  const needed = new Map<Digest, NeededBlob>();
  const verified = await verifySnapshots(store.snapshots, request, options, ({ key }, { kind, content }) => {
    if (kind === 'store') for (const { digest, size } of content) needed.set(digest, { size, key });
  });
  const { state, looked, findings: ofSnapshots } = verified;
  const findings: Finding[] = [...ofSnapshots];
  const isNow = request.snapshot === undefined && request.asOfMs === undefined;
  if (request.asOfMs !== undefined && state.repositories.length === 0 && ofSnapshots.length === 0)
    throw noImageOfThatTime(place.text);
  // a store that lost a snapshot has an index of what was there before
  const index =
    isNow && ofSnapshots.length === 0 && looked.of > 0 ? await compareIndex(place, store, verified, verifying) : 'same';
  if (typeof index === 'object') findings.push(index);
  const images = imagesOf(state, request);
  // after the snapshots: what they name was there before them
  const blobs = await store.blobs(options);
  const isRootsOnly = depth === 'tags';
  const lost = lostOf(images, blobs, isRootsOnly);
  append(findings, lost.findings);
  if (!isRootsOnly) append(findings, lostOfOlder(needed, blobs, lost.digests));
  const counted = isNow ? [...blobs] : namedBy(images, blobs);
  const sampled = depth === 'bytes' ? counted.filter(([digest]) => isInSample(request.sample, digest)) : [];
  const hashed = await hash(store, sampled, { images, needed }, verifying);
  append(findings, hashed.findings);
  const unread = hashed.findings.filter(({ kind }) => kind === 'unread').length;
  const unchecked = uncheckedOf(images);
  if (index === 'changing')
    unchecked.push('index.json was not compared: a backup or a garbage collection writes the store');
  if (depth !== 'bytes') unchecked.push('blobs are listed with their sizes; depth bytes reads them');
  if (looked.of === 0) unchecked.push('there is no snapshot, so the expected content is unknown');
  const archived = images.filter(({ image }) => image.archived === true).length;
  return {
    place: place.text,
    depth,
    sample: request.sample,
    names: { checked: images.length - archived, of: images.length },
    blobs: {
      checked: depth === 'bytes' ? sampled.length - unread : isRootsOnly ? 0 : counted.length,
      of: counted.length,
    },
    snapshots: looked,
    hashedBytes: hashed.bytes,
    images: [],
    findings,
    unchecked,
    complete:
      depth === 'bytes' &&
      request.sample === undefined &&
      unchecked.length + unread === 0 &&
      looked.checked === looked.of,
  };
}

/** The blobs that the images of an earlier moment need. For the present state blobs that no image needs count too. */
function namedBy(
  images: readonly { readonly image: StateImage }[],
  blobs: ReadonlyMap<Digest, number>,
): readonly (readonly [Digest, number])[] {
  const named = new Set(images.flatMap(({ image }) => contentOf(image).map(({ digest }) => digest)));
  return [...blobs].filter(([digest]) => named.has(digest));
}

/**
 * Whether `index.json`, which other programs read, matches the snapshots. `changing`: another process writes the store, so that one of the two may be
 * ahead.
 */
async function compareIndex(
  { root }: Extract<Place, { kind: 'store' }>,
  { snapshots }: ImageStore,
  { state, names }: VerifiedSnapshots,
  { backends, options }: Verifying,
): Promise<'same' | 'changing' | Finding> {
  const where = storePlace(root, backends);
  const index = layoutIndexOf(state);
  if (await holdsIndex(where, index, options)) return 'same';
  const held = await heldLocks(where, options.clock.now(), options);
  const now = await snapshots.list(options);
  const isChanging = held.length > 0 || now.length !== names.length || now.some(({ key }, i) => key !== names[i]?.key);
  if (isChanging) return 'changing';
  // the last process ended after the first look
  if (await holdsIndex(where, index, options)) return 'same';
  const message =
    'it is not what the snapshots say: a copy of the store left an older one there, another program changed it, or a backup was stopped: copy index.json too, with overwriting, or make a backup, which writes it again. Restores do not read it, other programs do';
  return { kind: 'index', at: `${where.prefix}index.json`, message };
}

/** What of the images was not backed up, a sentence each. */
function uncheckedOf(images: readonly NamedImage[]): string[] {
  return images.flatMap(({ at, image: { archived, unchecked = [] } }) => [
    ...unchecked.map((why) => `${at}: ${why}`),
    ...(archived === true ? [`${at} was in the archive storage class of ECR, and is not in the store`] : []),
  ]);
}

function imagesOf(state: State, { only = [] }: PlaceRequest): readonly NamedImage[] {
  return state.repositories.flatMap(({ registry, name, images }) =>
    matchesRepository(only, name)
      ? images.flatMap((image) => {
          const tags = matchingTags(only, name, image.tags);
          if (tags === undefined || image.kind !== 'store') return [];
          const [tag] = tags;
          const at = `${registry.host}/${name}${tag === undefined ? `@${image.digest}` : `:${tag}`}`;
          return [{ at, image }];
        })
      : [],
  );
}

/** A blob or manifest of a snapshot. */
interface NeededBlob {
  readonly size: number;
  /** The oldest snapshot that needs it. */
  readonly key: string;
}

/** What the images need that is not listed, or has another size. `roots`: only the manifests of images and of what refers to them. */
function lostOf(
  images: readonly NamedImage[],
  blobs: ReadonlyMap<Digest, number>,
  roots: boolean,
): { readonly findings: readonly Finding[]; readonly digests: ReadonlySet<Digest> } {
  const digests = new Set<Digest>();
  const findings = images.flatMap(({ at, image }) => {
    if (image.archived === true) return [];
    const needed = roots ? [image, ...image.referrers] : contentOf(image);
    return needed.flatMap(({ digest, size }) => {
      const fault = lossOf(at, digest, size, blobs);
      if (fault === undefined) return [];
      digests.add(digest);
      return [fault];
    });
  });
  return { findings, digests };
}

/** What older snapshots need that is lost, and no image of the state needs. */
function lostOfOlder(
  needed: ReadonlyMap<Digest, NeededBlob>,
  blobs: ReadonlyMap<Digest, number>,
  known: ReadonlySet<Digest>,
): readonly Finding[] {
  return [...needed].flatMap(([digest, { size, key }]) =>
    known.has(digest) ? [] : (lossOf(key, digest, size, blobs) ?? []),
  );
}

function lossOf(at: string, digest: Digest, size: number, blobs: ReadonlyMap<Digest, number>): Finding | undefined {
  const found = blobs.get(digest);
  if (found === size) return undefined;
  if (found === undefined) return { kind: 'missing', at, message: `${digest} (${size} bytes) is missing` };
  return { kind: 'faulty', at, message: `${digest} has ${found} bytes, not ${size}` };
}

/** Reads and hashes blobs, and compares what each manifest names with what the snapshots list of its images. */
async function hash(
  store: ImageStore,
  blobs: readonly (readonly [Digest, number])[],
  { images, needed }: { readonly images: readonly NamedImage[]; readonly needed: ReadonlyMap<Digest, NeededBlob> },
  { options, limit }: Verifying,
): Promise<{ readonly bytes: number; readonly findings: readonly Finding[] }> {
  const manifests = manifestsOf(images);
  const findings: Finding[] = [];
  const unread = new Unread();
  let bytes = 0;
  await forEachOf(
    blobs,
    limit.capacity,
    async ([digest, size], { signal }) => {
      const manifest = manifests.get(digest);
      const mediaType = manifest?.content.mediaType ?? 'application/octet-stream';
      const { clock, report } = options;
      const body = read(store.content, { digest, size, mediaType }, { signal, clock, report });
      try {
        if (manifest === undefined) for await (const chunk of body) bytes += chunk.byteLength;
        else {
          const whole = await collect(
            body,
            MAX_MANIFEST_BYTES,
            () => new Failure('INVALID', 'it is longer than a manifest'),
          );
          bytes += whole.byteLength;
          append(findings, unlistedOf(whole, mediaType, manifest.images));
        }
      } catch (error) {
        checkAborted({ signal });
        // a garbage collection deleted it meanwhile
        if (isFailure(error, 'NOT_FOUND') && !needed.has(digest)) return;
        if (isFailure(error, 'CORRUPT', 'INVALID', 'NOT_FOUND', 'UNSUPPORTED'))
          findings.push({ kind: 'faulty', at: digest, message: describeFailure(error) });
        else findings.push(unread.finding(digest, error));
        return;
      }
      unread.looked();
    },
    options,
  );
  unread.end();
  return { bytes, findings };
}

interface ListedManifest {
  readonly content: SnapshotContent;
  readonly images: NamedImage[];
}

/** Every manifest of the images, with the images that it belongs to. */
function manifestsOf(images: readonly NamedImage[]): ReadonlyMap<Digest, ListedManifest> {
  const found = new Map<Digest, ListedManifest>();
  for (const named of images) {
    for (const content of contentOf(named.image)) {
      if (content.mediaType === undefined) continue;
      const known = found.get(content.digest) ?? { content, images: [] };
      known.images.push(named);
      found.set(content.digest, known);
    }
  }
  return found;
}

/** What a manifest names and the snapshot of its image does not list: it would not be restored, and garbage collection would delete it. */
function unlistedOf(bytes: Uint8Array, mediaType: string, images: readonly NamedImage[]): readonly Finding[] {
  const children = childrenOf(parseManifest(bytes, mediaType)).filter((child) => !isForeign(child));
  return images.flatMap(({ at, image }) => {
    const listed = new Set(contentOf(image).map(({ digest }) => digest));
    return children
      .filter(({ digest }) => !listed.has(digest))
      .map(({ digest }): Finding => ({
        kind: 'snapshot',
        at,
        message: `it needs ${digest}, which its snapshot does not list`,
      }));
  });
}
