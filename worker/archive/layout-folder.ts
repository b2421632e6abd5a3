import { collect } from '../content/bytes.ts';
import type { ByteRange, Bytes, ReferrersOptions, Source, Target } from '../content/content.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import { isReferrersTag, referrersTag } from '../oci/derived-tag.ts';
import { algorithmOf, digestOf, isDigest, type Digest } from '../oci/digest.ts';
import {
  ANNOTATION,
  childrenOf,
  isForeign,
  isManifestType,
  MAX_MANIFEST_BYTES,
  MEDIA_TYPE,
  mediaTypeOf,
  parseManifest,
  referrerEntry,
  type Descriptor,
} from '../oci/manifest.ts';
import { isTag } from '../oci/reference.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure, ifFound, isFailure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { folderFiles, readFile, type ArchiveFiles, type ArchiveFilesOptions } from './archive-files.ts';
import { filesSource } from './found-images.ts';
import {
  checkLayoutVersion,
  parseLayoutIndex,
  readLayoutIndex,
  readOciLayout,
  type LayoutIndex,
} from './oci-layout.ts';
import { blobPath, OCI_LAYOUT } from './plan.ts';

/** An OCI layout folder that images are written to; what was there before stays. */
export interface FolderTarget extends Source, Target {
  /** Lists a manifest that is there without a tag. Idempotent: one that is listed already stays as it is. */
  list(descriptor: Descriptor, options?: Abortable): Promise<void>;
}

/** Others may change `index.json` at the same time; each of them wins once. */
const INDEX_ATTEMPTS = 20;
const NO_INDEX: LayoutIndex = { kind: 'index', mediaType: MEDIA_TYPE.ociIndex, manifests: [] };

/**
 * The OCI layout folder at the root of `store`, made with the first write. Blobs become visible whole and verified; `index.json` comes last
 * and is replaced in one step, so a layout is never seen half written. A manifest that refers to another is listed there without a tag, as oras
 * has it, and with the next tag or `list` in the index that the fallback tag of its subject names, as regctl has it. UNSUPPORTED when the folder
 * is a layout of another version.
 */
export async function openFolderTarget(store: ObjectStore, options: ArchiveFilesOptions = {}): Promise<FolderTarget> {
  const files = folderFiles(store);
  if ((await files.size('oci-layout', options)) !== undefined) {
    await checkLayoutVersion(files, options);
  }
  return new Folder(store, files, options);
}

class Folder implements FolderTarget {
  readonly #store: ObjectStore;
  readonly #files: ArchiveFiles;
  readonly #source: Source;
  readonly #options: ArchiveFilesOptions;
  /** The change of `index.json` that is under way: they go one after the other. */
  #changing: Promise<void> = Promise.resolve();
  /** Referrers by their subjects, whose fallback tags do not name them yet. */
  #referrers = new Map<Digest, Descriptor[]>();

  constructor(store: ObjectStore, files: ArchiveFiles, options: ArchiveFilesOptions) {
    this.#store = store;
    this.#files = files;
    this.#source = filesSource({ files, manifests: new Map(), tags: new Map(), pathOf: blobPath });
    this.#options = options;
  }

  async resolve(reference: string, options: Abortable = {}): Promise<Descriptor> {
    const { manifests } = await this.#index(options);
    const found = manifests.find((descriptor) => nameOf(descriptor) === reference || descriptor.digest === reference);
    const { mediaType, digest, size } = found ?? (await this.#unlisted(reference, options));
    return { mediaType, digest, size };
  }

  async open(descriptor: Descriptor, options?: Abortable & ByteRange): Promise<Bytes> {
    return this.#source.open(descriptor, options);
  }

  async *referrers(descriptor: Descriptor, options: ReferrersOptions = {}): AsyncIterable<Descriptor> {
    checkAborted(options);
    if ((await this.#files.size('index.json', options)) === undefined) return;
    const { source } = await readOciLayout(this.#files, { ...this.#options, signal: options.signal });
    yield* source.referrers(descriptor, options);
  }

  async *tags(options: Abortable = {}): AsyncIterable<string> {
    const names = new Set((await this.#index(options)).manifests.map(nameOf));
    for (const name of names) if (name !== undefined && isTag(name) && !isReferrersTag(name)) yield name;
  }

  /** False also for a referrer that its subject's fallback tag does not name yet: it has to be put again. */
  async has(descriptor: Descriptor, options: Abortable = {}): Promise<boolean> {
    if (!(await this.#holds(descriptor, options))) return false;
    if (!isManifestType(descriptor.mediaType)) return true;
    const bytes = await this.#read(blobPath(descriptor.digest), options);
    const { subject } = parseManifest(bytes, descriptor.mediaType);
    if (subject === undefined) return true;
    const waiting = this.#referrers.get(subject.digest) ?? [];
    const { manifests } = await this.#index(options);
    const listed = await this.#listedIn(manifests, subject.digest, options);
    return [...waiting, ...listed].some(({ digest }) => digest === descriptor.digest);
  }

  async #holds(descriptor: Descriptor, options: Abortable): Promise<boolean> {
    return (await this.#files.size(blobPath(descriptor.digest), options)) === descriptor.size;
  }

  async put(descriptor: Descriptor, open: () => Bytes, options: Abortable = {}): Promise<void> {
    checkAborted(options);
    const path = blobPath(descriptor.digest);
    const there = await this.#holds(descriptor, options);
    if (!isManifestType(descriptor.mediaType)) {
      if (!there) await this.#store.stream(path, open(), { signal: options.signal });
      return;
    }
    const bytes = there ? await this.#read(path, options) : await collect(open(), MAX_MANIFEST_BYTES, tooLarge);
    const manifest = parseManifest(bytes, descriptor.mediaType);
    for (const child of childrenOf(manifest)) {
      if (isForeign(child) || (await this.#holds(child, options))) continue;
      throw new Failure(
        'NOT_FOUND',
        `write ${descriptor.digest}: ${child.digest}, which it names, is not in ${this.#files.describe()}`,
      );
    }
    if (!there) await this.#store.write(path, bytes, { signal: options.signal });
    if (manifest.subject === undefined) return;
    await this.#addEntry(descriptor, options);
    const { digest } = manifest.subject;
    this.#referrers.set(digest, [...(this.#referrers.get(digest) ?? []), referrerEntry(descriptor, manifest)]);
  }

  async tag(name: string, descriptor: Descriptor, open: () => Bytes, options: Abortable = {}): Promise<void> {
    await this.put(descriptor, open, options);
    await this.#listReferrers(options);
    await this.#change((listed) => {
      if (listed.some((entry) => nameOf(entry) === name && entry['digest'] === descriptor.digest)) return listed;
      // the tag moves here; what was listed without a name has one now
      const others = listed.filter(
        (entry) => nameOf(entry) !== name && !(nameOf(entry) === undefined && entry['digest'] === descriptor.digest),
      );
      return [...others, { ...entryOf(descriptor), annotations: { [ANNOTATION.refName]: name } }];
    }, options);
  }

  async list(descriptor: Descriptor, options: Abortable = {}): Promise<void> {
    await this.#listReferrers(options);
    await this.#addEntry(descriptor, options);
  }

  async #addEntry(descriptor: Descriptor, options: Abortable): Promise<void> {
    await this.#change((listed) => {
      return listed.some((entry) => entry['digest'] === descriptor.digest) ? listed : [...listed, entryOf(descriptor)];
    }, options);
  }

  /** Adds referrers to the indexes that fallback tags name: all of a subject at once, since each change leaves an old index in the folder. */
  async #listReferrers(options: Abortable): Promise<void> {
    const waiting = this.#referrers;
    this.#referrers = new Map();
    for (const [subject, referrers] of waiting) {
      const name = referrersTag(subject);
      await this.#change(async (listed) => {
        const before = await this.#listedIn(listed, subject, options);
        const missing = referrers.filter(({ digest }) => !before.some((entry) => entry.digest === digest));
        if (missing.length === 0) return listed;
        const index = { schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests: [...before, ...missing] };
        const bytes = Buffer.from(JSON.stringify(index));
        const digest = digestOf(bytes);
        await this.#store.write(blobPath(digest), bytes, { signal: options.signal });
        const entry = { mediaType: MEDIA_TYPE.ociIndex, digest, size: bytes.byteLength };
        return [
          ...listed.filter((other) => nameOf(other) !== name),
          { ...entry, annotations: { [ANNOTATION.refName]: name } },
        ];
      }, options);
    }
  }

  /** What the fallback tag of `subject` names among these entries. */
  async #listedIn(
    entries: readonly (Entry | Descriptor)[],
    subject: Digest,
    options: Abortable,
  ): Promise<readonly Descriptor[]> {
    const name = referrersTag(subject);
    const { digest } = (entries.find((entry) => nameOf(entry) === name) ?? {}) as Entry;
    if (!isDigest(digest)) return [];
    const bytes = await ifFound(this.#read(blobPath(digest), options));
    if (bytes === undefined) return [];
    const list = parseManifest(bytes, mediaTypeOf(bytes) ?? MEDIA_TYPE.ociIndex);
    if (list.kind === 'index') return list.manifests;
    throw new Failure(
      'INVALID',
      `list what refers to ${subject}: ${this.#files.describe()} has something else at ${name}`,
    );
  }

  async #index(options: Abortable): Promise<LayoutIndex> {
    return (await this.#files.size('index.json', options)) === undefined
      ? NO_INDEX
      : readLayoutIndex(this.#files, options);
  }

  async #read(path: string, options: Abortable): Promise<Uint8Array> {
    return readFile(this.#files, path, MAX_MANIFEST_BYTES, { ...this.#options, signal: options.signal });
  }

  /** A manifest that is there by its digest only; a layout keeps no media types beside the bytes. */
  async #unlisted(reference: string, options: Abortable): Promise<Descriptor> {
    const missing = this.#files.missing(reference);
    if (!isDigest(reference)) throw missing;
    const path = blobPath(reference);
    if ((await this.#files.size(path, options)) === undefined) throw missing;
    const bytes = await this.#read(path, options);
    const mediaType = mediaTypeOf(bytes);
    if (mediaType === undefined || digestOf(bytes, algorithmOf(reference)) !== reference) throw missing;
    return { mediaType, digest: reference, size: bytes.byteLength };
  }

  /** Replaces the entries of `index.json`; everything else in it, and in them, stays as it was. `edit` may run again. */
  async #change(edit: Edit, options: Abortable): Promise<void> {
    const before = this.#changing;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#changing = promise;
    await before;
    try {
      for (let attempt = 1; ; attempt++) {
        checkAborted(options);
        try {
          return await this.#replace(edit, options);
        } catch (error) {
          if (!isFailure(error, 'CONFLICT') || attempt === INDEX_ATTEMPTS) throw error;
        }
      }
    } finally {
      resolve();
    }
  }

  async #replace(edit: Edit, options: Abortable): Promise<void> {
    const { signal } = options;
    const info = await ifFound(this.#store.stat('index.json', options));
    const document =
      info === undefined ? { schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex } : await this.#document(info, options);
    const listed = Array.isArray(document['manifests']) ? document['manifests'].filter(isRecord) : [];
    const edited = await edit(listed);
    if (info !== undefined && edited === listed) return;
    if ((await this.#files.size('oci-layout', options)) === undefined) {
      await this.#store.write('oci-layout', OCI_LAYOUT, { signal });
    }
    const bytes = Buffer.from(JSON.stringify({ ...document, manifests: edited }));
    const condition = info === undefined ? { ifAbsent: true as const } : { ifMatch: info.etag };
    await this.#store.write('index.json', bytes, { signal, condition });
  }

  async #document({ etag }: ObjectInfo, options: Abortable): Promise<Entry> {
    const body = await this.#store.read('index.json', { signal: options.signal, ifMatch: etag });
    const bytes = await collect(body, MAX_MANIFEST_BYTES, tooLarge);
    // a file that is not an index is not overwritten
    parseLayoutIndex(bytes, this.#files);
    const document: unknown = JSON.parse(Buffer.from(bytes).toString());
    return isRecord(document) ? document : {};
  }
}

type Entry = Readonly<Record<string, unknown>>;
type Edit = (listed: readonly Entry[]) => readonly Entry[] | Promise<readonly Entry[]>;

function nameOf(entry: Entry | Descriptor): string | undefined {
  const annotations: unknown = entry['annotations' as keyof typeof entry];
  const name = isRecord(annotations) ? annotations[ANNOTATION.refName] : undefined;
  return typeof name === 'string' ? name : undefined;
}

function entryOf({ mediaType, digest, size }: Descriptor): Entry {
  return { mediaType, digest, size };
}

function tooLarge(): Failure {
  return new Failure('INVALID', `a manifest has more than the ${MAX_MANIFEST_BYTES} bytes that are allowed`);
}
