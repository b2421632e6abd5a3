import type { ByteRange, Bytes, Source, Target } from '../content/content.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import { algorithmOf, digestOf, isDigest } from '../oci/digest.ts';
import {
  ANNOTATION,
  childrenOf,
  isForeign,
  isManifestType,
  MAX_MANIFEST_BYTES,
  MEDIA_TYPE,
  mediaTypeOf,
  parseManifest,
  type Descriptor,
} from '../oci/manifest.ts';
import { isTag } from '../oci/reference.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { folderContents, readFile, type Contents, type ContentsOptions } from './archive-files.ts';
import { filesSource, parseLayoutIndex, readLayoutIndex, readOciLayout, type LayoutIndex } from './oci-layout.ts';
import { blobPath, OCI_LAYOUT } from './plan.ts';

/** An OCI layout folder that images are written to; what was there before stays. */
export interface FolderTarget extends Source, Target {
  /** Lists a manifest that is there without a tag. Idempotent: one that is listed already stays as it is. */
  list(d: Descriptor, o?: Abortable): Promise<void>;
}

/** Others may change `index.json` at the same time; each of them wins once. */
const INDEX_ATTEMPTS = 20;
const NO_INDEX: LayoutIndex = { kind: 'index', mediaType: MEDIA_TYPE.ociIndex, manifests: [] };

/**
 * The OCI layout folder at the root of `store`, made with the first write. Blobs become visible whole and verified; `index.json` comes last
 * and is replaced in one step, so a layout is never seen half written. Manifests that refer to others are listed there without a tag, so that
 * they are found again. UNSUPPORTED when the folder is a layout of another version.
 */
export async function openFolderTarget(store: ObjectStore, o: ContentsOptions = {}): Promise<FolderTarget> {
  const contents = folderContents(store);
  if ((await contents.size('oci-layout', o)) !== undefined) {
    const text = Buffer.from(await readFile(contents, 'oci-layout', MAX_MANIFEST_BYTES, o)).toString();
    if (!/"imageLayoutVersion"\s*:\s*"1\./.test(text)) {
      throw new Failure('UNSUPPORTED', `${contents.describe('oci-layout')} is not of version 1 of OCI image layouts`);
    }
  }
  return new Folder(store, contents, o);
}

class Folder implements FolderTarget {
  readonly #store: ObjectStore;
  readonly #contents: Contents;
  readonly #source: Source;
  readonly #o: ContentsOptions;
  /** The change of `index.json` that is under way: they go one after the other. */
  #changing: Promise<void> = Promise.resolve();

  constructor(store: ObjectStore, contents: Contents, o: ContentsOptions) {
    this.#store = store;
    this.#contents = contents;
    this.#source = filesSource({ contents, manifests: new Map(), tags: new Map(), pathOf: blobPath });
    this.#o = o;
  }

  async resolve(reference: string, o: Abortable = {}): Promise<Descriptor> {
    const { manifests } = await this.#index(o);
    const found = manifests.find((d) => nameOf(d) === reference || d.digest === reference);
    const { mediaType, digest, size } = found ?? (await this.#unlisted(reference, o));
    return { mediaType, digest, size };
  }

  async open(d: Descriptor, o?: Abortable & ByteRange): Promise<Bytes> {
    return this.#source.open(d, o);
  }

  async *referrers(d: Descriptor, o: Abortable = {}): AsyncIterable<Descriptor> {
    checkAborted(o);
    if ((await this.#contents.size('index.json', o)) === undefined) return;
    const { source } = await readOciLayout(this.#contents, { ...this.#o, signal: o.signal });
    yield* source.referrers(d, o);
  }

  async *tags(o: Abortable = {}): AsyncIterable<string> {
    const names = new Set((await this.#index(o)).manifests.map(nameOf));
    for (const name of names) if (name !== undefined && isTag(name)) yield name;
  }

  async has(d: Descriptor, o?: Abortable): Promise<boolean> {
    return (await this.#contents.size(blobPath(d.digest), o)) === d.size;
  }

  async put(d: Descriptor, open: () => Bytes, o: Abortable = {}): Promise<void> {
    checkAborted(o);
    const path = blobPath(d.digest);
    const there = await this.has(d, o);
    if (!isManifestType(d.mediaType)) {
      if (!there) await this.#store.stream(path, open(), { signal: o.signal });
      return;
    }
    const bytes = there ? await this.#read(path, o) : await collect(open(), MAX_MANIFEST_BYTES);
    const manifest = parseManifest(bytes, d.mediaType);
    for (const child of childrenOf(manifest)) {
      if (isForeign(child) || (await this.has(child, o))) continue;
      throw new Failure(
        'NOT_FOUND',
        `write ${d.digest}: ${child.digest}, which it names, is not in ${this.#contents.describe()}`,
      );
    }
    if (!there) await this.#store.write(path, bytes, { signal: o.signal });
    if (manifest.subject !== undefined) await this.list(d, o);
  }

  async tag(name: string, d: Descriptor, open: () => Bytes, o: Abortable = {}): Promise<void> {
    await this.put(d, open, o);
    await this.#change((listed) => {
      if (listed.some((entry) => nameOf(entry) === name && entry['digest'] === d.digest)) return listed;
      // the tag moves here; what was listed without a name has one now
      const others = listed.filter(
        (entry) => nameOf(entry) !== name && !(nameOf(entry) === undefined && entry['digest'] === d.digest),
      );
      return [...others, { ...entryOf(d), annotations: { [ANNOTATION.refName]: name } }];
    }, o);
  }

  async list(d: Descriptor, o: Abortable = {}): Promise<void> {
    await this.#change((listed) => {
      return listed.some((entry) => entry['digest'] === d.digest) ? listed : [...listed, entryOf(d)];
    }, o);
  }

  async #index(o: Abortable): Promise<LayoutIndex> {
    return (await this.#contents.size('index.json', o)) === undefined ? NO_INDEX : readLayoutIndex(this.#contents, o);
  }

  async #read(path: string, o: Abortable): Promise<Uint8Array> {
    return readFile(this.#contents, path, MAX_MANIFEST_BYTES, { ...this.#o, signal: o.signal });
  }

  /** A manifest that is there by its digest only; a layout keeps no media types beside the bytes. */
  async #unlisted(reference: string, o: Abortable): Promise<Descriptor> {
    const missing = this.#contents.missing(reference);
    if (!isDigest(reference)) throw missing;
    const path = blobPath(reference);
    if ((await this.#contents.size(path, o)) === undefined) throw missing;
    const bytes = await this.#read(path, o);
    const mediaType = mediaTypeOf(bytes);
    if (mediaType === undefined || digestOf(bytes, algorithmOf(reference)) !== reference) throw missing;
    return { mediaType, digest: reference, size: bytes.byteLength };
  }

  /** Replaces the entries of `index.json`; everything else in it, and in them, stays as it was. `edit` may run again. */
  async #change(edit: (listed: readonly Entry[]) => readonly Entry[], o: Abortable): Promise<void> {
    const before = this.#changing;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#changing = promise;
    await before;
    try {
      for (let attempt = 1; ; attempt++) {
        checkAborted(o);
        try {
          return await this.#replace(edit, o);
        } catch (error) {
          if (!isFailure(error, 'CONFLICT') || attempt === INDEX_ATTEMPTS) throw error;
        }
      }
    } finally {
      resolve();
    }
  }

  async #replace(edit: (listed: readonly Entry[]) => readonly Entry[], o: Abortable): Promise<void> {
    const { signal } = o;
    const info = await this.#statIndex(o);
    const document =
      info === undefined ? { schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex } : await this.#document(info, o);
    const listed = Array.isArray(document['manifests']) ? document['manifests'].filter(isRecord) : [];
    const edited = edit(listed);
    if (info !== undefined && edited === listed) return;
    if ((await this.#contents.size('oci-layout', o)) === undefined) {
      await this.#store.write('oci-layout', OCI_LAYOUT, { signal });
    }
    const bytes = Buffer.from(JSON.stringify({ ...document, manifests: edited }));
    const condition = info === undefined ? { ifAbsent: true as const } : { ifMatch: info.etag };
    await this.#store.write('index.json', bytes, { signal, condition });
  }

  async #statIndex(o: Abortable): Promise<ObjectInfo | undefined> {
    try {
      return await this.#store.stat('index.json', o);
    } catch (error) {
      if (isFailure(error, 'NOT_FOUND')) return undefined;
      throw error;
    }
  }

  async #document({ etag }: ObjectInfo, o: Abortable): Promise<Entry> {
    const body = await this.#store.read('index.json', { signal: o.signal, ifMatch: etag });
    const bytes = await collect(body, MAX_MANIFEST_BYTES);
    // what is no index is not written over
    parseLayoutIndex(bytes, this.#contents.describe('index.json'));
    const document: unknown = JSON.parse(Buffer.from(bytes).toString());
    return isRecord(document) ? document : {};
  }
}

type Entry = Readonly<Record<string, unknown>>;

function nameOf(entry: Entry | Descriptor): string | undefined {
  const annotations: unknown = entry['annotations' as keyof typeof entry];
  const name = isRecord(annotations) ? annotations[ANNOTATION.refName] : undefined;
  return typeof name === 'string' ? name : undefined;
}

function entryOf({ mediaType, digest, size }: Descriptor): Entry {
  return { mediaType, digest, size };
}

async function collect(body: Bytes, limit: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.byteLength;
    if (size > limit) throw new Failure('INVALID', `a manifest has more than the ${limit} bytes that are allowed`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
