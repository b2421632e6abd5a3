import { openImage } from '../archive/reader.ts';
import { rootIn, sourceIn } from '../archive/metadata.ts';
import { atVersion } from '../objects/at-version.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import { archiveKindOf } from '../oci/archive-key.ts';
import { matchesRepository, matchingTags } from '../oci/image-filter.ts';
import type { Place } from '../oci/place.ts';
import { ifReference, type Reference } from '../oci/reference.ts';
import { openSnapshots } from '../store/snapshots.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure, ifFound, isFailure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import { append } from '../util/lists.ts';
import { compareStrings } from '../util/text.ts';
import { expectedArchives, type ExpectedArchive } from './expected-archives.ts';
import { fromArchive } from './open-location.ts';
import { archiveAt, noArchiveBelow, noImageOfThatTime, storeAndPrefix } from './open-place.ts';
import { isInSample } from '../util/sample.ts';
import { misnamedOf, type HeldImage } from './misnamed-archives.ts';
import { Unread } from './unread.ts';
import { verifyImage, type Verifying, type VerifyResult } from './verify-image.ts';
import { faultsOf, type Finding, type PlaceRequest, type PlaceResult } from './verify-result.ts';
import { checkTrustedKey, verifySnapshots } from './verify-snapshots.ts';

type ArchivesPlace = Extract<Place, { kind: 'archives' }>;

const ARCHIVES_AT_ONCE = 4;
const HEADS_AT_ONCE = 8;

/** An archive to look at: one that a snapshot names, or one that is there. */
interface Wanted {
  readonly key: string;
  /** Absent: no snapshot names it. */
  readonly expected?: ExpectedArchive | undefined;
}

/**
 * Verifies archives against the snapshots beside them, where there are any, and against themselves: what the snapshots name is there and was not
 * changed, what is there holds the image that its key names, and with depth `blobs` the head of each archive is as it was planned and its size too,
 * with `bytes` every byte. With a snapshot or a time, an archive that no snapshot names is a finding. NOT_FOUND where there is no archive.
 */
export async function verifyArchives(
  place: ArchivesPlace,
  request: PlaceRequest,
  verifying: Verifying,
): Promise<PlaceResult> {
  const { depth, backends, options } = verifying;
  await checkTrustedKey(verifying);
  const where = storeAndPrefix(place.root, backends);
  const { store, prefix } = where;
  const snapshots = openSnapshots(where);
  const named = new Set<string>();
  const {
    state,
    looked,
    findings: ofSnapshots,
  } = await verifySnapshots(snapshots, request, options, (_, { repositories }) => {
    for (const { images } of repositories)
      for (const { archives = [] } of images) for (const { key } of archives) named.add(key);
  });
  const isMoment = request.snapshot !== undefined || request.asOfMs !== undefined;
  if (isMoment && state.repositories.length === 0 && ofSnapshots.length === 0) throw noImageOfThatTime(place.text);
  const expected = expectedArchives(state, request.only);
  const listed = new Set<string>();
  for await (const { key } of store.list(prefix, options)) if (archiveKindOf(key) !== undefined) listed.add(key);
  if (listed.size === 0 && expected.size === 0) throw await noArchiveBelow(place.text, where, 'source', options);
  const run = new ArchivesRun(place, store, request, verifying);
  const unknown = looked.of === 0 ? [] : [...listed].filter((key) => !named.has(key));
  for (const key of unknown) {
    const message = 'no snapshot names it';
    if (isMoment) run.findings.push({ kind: 'extra', at: store.describe(key), message });
    else run.unchecked.push(`${store.describe(key)}: ${message}`);
  }
  const others = isMoment ? [] : [...listed].filter((key) => !expected.has(key));
  const all = [
    ...[...expected].map(([key, one]): Wanted => ({ key, expected: one })),
    ...others.map((key): Wanted => ({ key })),
  ];
  await run.lookAt(all);
  const images = run.images.toSorted((a, b) => (a.at < b.at ? -1 : 1));
  return {
    place: place.text,
    depth,
    sample: request.sample,
    names: { checked: run.checked, of: all.length },
    snapshots: looked.of === 0 ? undefined : looked,
    hashedBytes: images.reduce((sum, { hashedBytes }) => sum + hashedBytes, 0),
    images,
    findings: [...ofSnapshots, ...[...run.findings, ...run.misnamed()].toSorted(byPlace), ...faultsOf(images)],
    unchecked: run.unchecked,
    complete:
      depth === 'bytes' &&
      request.sample === undefined &&
      run.unchecked.length === 0 &&
      looked.checked === looked.of &&
      images.every(({ complete }) => complete),
  };
}

/** Archives are looked at several at once, and end in any order. */
function byPlace(a: Finding, b: Finding): number {
  return compareStrings(a.at, b.at);
}

class ArchivesRun {
  readonly findings: Finding[] = [];
  readonly unchecked: string[] = [];
  readonly images: VerifyResult[] = [];
  checked = 0;
  readonly #held: HeldImage[] = [];
  readonly #unread = new Unread();
  readonly #place: ArchivesPlace;
  readonly #store: ObjectStore;
  readonly #request: PlaceRequest;
  readonly #verifying: Verifying;

  constructor(place: ArchivesPlace, store: ObjectStore, request: PlaceRequest, verifying: Verifying) {
    this.#place = place;
    this.#store = store;
    this.#request = request;
    this.#verifying = verifying;
  }

  async lookAt(all: readonly Wanted[]): Promise<void> {
    const { depth, options } = this.#verifying;
    const atOnce = depth === 'tags' ? HEADS_AT_ONCE : ARCHIVES_AT_ONCE;
    await forEachOf(
      all,
      Math.min(options.concurrency ?? atOnce, atOnce),
      async (wanted, { signal }) => {
        try {
          await this.#look(wanted, { ...this.#verifying, options: { ...options, signal } });
          this.#unread.looked();
        } catch (error) {
          checkAborted({ signal });
          this.findings.push(this.#unread.finding(this.#store.describe(wanted.key), error));
        }
      },
      options,
    );
    this.#unread.end();
  }

  /** Archives whose keys do not name what they hold. */
  misnamed(): readonly Finding[] {
    const { findings, notes } = misnamedOf(this.#held);
    append(this.unchecked, notes);
    return findings;
  }

  async #look({ key, expected }: Wanted, verifying: Verifying): Promise<void> {
    const store = expected === undefined ? this.#store : await this.#storeOf(expected, verifying);
    if (store === undefined) return;
    const isRead = verifying.depth !== 'tags' && isInSample(this.#request.sample, key);
    if (!isRead) {
      await this.#lookAtName(key, store, expected, verifying);
      return;
    }
    const location = archiveAt(this.#place.root, key);
    let reference: Reference | undefined;
    const looking = verifyImage(location, verifying, {
      onManifests: this.#request.onManifests,
      open: async () => {
        const { options, backends } = verifying;
        const image = await openImage(store, key, { ...options, temporary: async () => backends.temporary() });
        reference = referenceIn(image.repository, image.root.tags[0], image.root.descriptor.digest);
        return fromArchive(image);
      },
    });
    const result = await ifFound(looking);
    if (result === undefined) {
      // what no snapshot names may be deleted while archives are read
      if (expected !== undefined) this.#miss(expected);
      return;
    }
    if (!this.#isWanted(reference)) return;
    this.checked++;
    this.images.push(result);
    this.#compare(key, result.digest, reference, expected);
  }

  /** The store in which the object that a snapshot names is at its key: of a version where it was written over. Undefined, with a finding, where it is gone. */
  async #storeOf(expected: ExpectedArchive, { options }: Verifying): Promise<ObjectStore | undefined> {
    const { key, etag, version } = expected.archive;
    const current = await ifFound(this.#store.stat(key, options));
    if (current?.etag === etag) return this.#store;
    const old = version === undefined ? undefined : atVersion(this.#store, version);
    if (old !== undefined && (await this.#isThere(old, key, options))) return old;
    // stored again since, perhaps the same image: what it holds decides
    if (current !== undefined) return this.#store;
    this.#miss(expected);
    return undefined;
  }

  /** Whether a version is there. False, with a note, where this process may not read versions: workers may not. */
  async #isThere(old: ObjectStore, key: string, options: Verifying['options']): Promise<boolean> {
    try {
      return (await ifFound(old.stat(key, options))) !== undefined;
    } catch (error) {
      if (!isFailure(error, 'DENIED')) throw error;
      this.unchecked.push(`${old.describe(key)} was not looked at: ${describeFailure(error)}`);
      return false;
    }
  }

  #miss({ archive: { key }, name, image }: ExpectedArchive): void {
    const message = `it is gone, and held ${name}, ${image.digest}`;
    this.findings.push({ kind: 'missing', at: this.#store.describe(key), message });
  }

  /** Reads what an archive holds from its metadata, or from its head where it does not have metadata. */
  async #lookAtName(
    key: string,
    store: ObjectStore,
    expected: ExpectedArchive | undefined,
    { options }: Verifying,
  ): Promise<void> {
    const info = await ifFound(store.stat(key, options));
    // deleted since it was listed
    if (info === undefined) return;
    if (expected !== undefined && info.etag === expected.archive.etag) {
      this.checked++;
      return;
    }
    const held = await this.#heldIn(key, store, info, options);
    if (held === undefined || !this.#isWanted(held.reference)) return;
    this.checked++;
    this.#compare(key, held.digest, held.reference, expected);
  }

  async #heldIn(
    key: string,
    store: ObjectStore,
    info: ObjectInfo,
    options: Verifying['options'],
  ): Promise<{ readonly digest: string | undefined; readonly reference: Reference | undefined } | undefined> {
    const [root, source] = [rootIn(info.metadata), sourceIn(info.metadata)];
    if (root !== undefined && source !== undefined) return { digest: root, reference: ifReference(source) };
    if (archiveKindOf(key) !== 'tar') {
      this.unchecked.push(`${store.describe(key)} is compressed: depth blobs and bytes look into it`);
      return undefined;
    }
    try {
      await using image = await openImage(store, key, options);
      const { digest } = image.root.descriptor;
      return { digest, reference: referenceIn(image.repository, image.root.tags[0], digest) };
    } catch (error) {
      if (!isFailure(error, 'CORRUPT', 'INVALID', 'UNSUPPORTED') || error.context.status !== undefined) throw error;
      this.findings.push({ kind: 'faulty', at: store.describe(key), message: describeFailure(error) });
      return undefined;
    }
  }

  #compare(
    key: string,
    digest: string | undefined,
    reference: Reference | undefined,
    expected: ExpectedArchive | undefined,
  ): void {
    const at = this.#store.describe(key);
    if (expected === undefined) {
      if (reference === undefined) return;
      const path = 'bucket' in this.#place.root ? this.#place.root.prefix : this.#place.root.folder;
      this.#held.push({ at, location: archiveAt(this.#place.root, key), prefix: path, reference });
    } else if (digest !== undefined && digest !== expected.image.digest) {
      const { name, image } = expected;
      const message = `it holds ${digest}, and its snapshot names ${image.digest} for ${name}: it was changed or swapped`;
      this.findings.push({ kind: 'moved', at, message });
    }
  }

  #isWanted(reference: Reference | undefined): boolean {
    const { only = [] } = this.#request;
    if (only.length === 0 || reference === undefined) return only.length === 0;
    const { repository, tag } = reference;
    return (
      matchesRepository(only, repository) &&
      matchingTags(only, repository, tag === undefined ? [] : [tag]) !== undefined
    );
  }
}

function referenceIn(repository: string | undefined, tag: string | undefined, digest: string): Reference | undefined {
  if (repository === undefined) return undefined;
  return ifReference(tag === undefined ? `${repository}@${digest}` : `${repository}:${tag}`);
}
