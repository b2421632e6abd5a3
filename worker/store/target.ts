import { crc32 } from 'node:zlib';
import { collect } from '../content/bytes.ts';
import type { Bytes, Target } from '../content/content.ts';
import { gathered } from '../content/gathered.ts';
import type { Condition, InPlace, Upload, WriteOptions } from '../objects/objects.ts';
import { partMemoryOf, type PartBuffer, type PartMemory } from '../objects/part-memory.ts';
import { PartsInFlight } from '../objects/parts-in-flight.ts';
import { shortDigest, type Digest } from '../oci/digest.ts';
import { childrenOf, isForeign, isManifestType, parseManifest, type Descriptor } from '../oci/manifest.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import type { Report } from '../util/events.ts';
import { Failure, ifFound, isFailure } from '../util/failure.ts';
import { blobKey, type StorePlace } from './place.ts';

/** What is not larger is held in memory and sent in one request; everything else is an upload in parts, which can be taken up again. */
const MAX_WRITE_BYTES = 8 * 1024 * 1024;
/** How often a blob is sent that other processes write, replace or delete at the same time. */
const ATTEMPTS = 3;

/** The blobs and manifests of a store while a backup runs. */
export class StoreTarget implements Target {
  readonly #place: StorePlace;
  readonly #present: Map<Digest, number>;
  readonly #report: Report | undefined;
  readonly #putting = new Map<Digest, Promise<void>>();
  readonly #added = { blobs: 0, bytes: 0 };

  /** `present`: what is there, with its sizes. What is put is added to it. */
  constructor(place: StorePlace, present: Map<Digest, number>, report: Report | undefined) {
    this.#place = place;
    this.#present = present;
    this.#report = report;
  }

  get added(): { readonly blobs: number; readonly bytes: number } {
    return { ...this.#added };
  }

  async has(descriptor: Descriptor, options?: Abortable): Promise<boolean> {
    checkAborted(options);
    return this.#has(descriptor);
  }

  async put(descriptor: Descriptor, open: () => Bytes, options: Abortable = {}): Promise<void> {
    checkAborted(options);
    const { digest } = descriptor;
    while (!this.#has(descriptor)) {
      const putting = this.#putting.get(digest);
      if (putting !== undefined) {
        // where the other failed it is this one's turn
        await putting.catch(() => undefined);
        checkAborted(options);
        continue;
      }
      const own = this.#put(descriptor, open, options);
      this.#putting.set(digest, own);
      try {
        return await own;
      } finally {
        this.#putting.delete(digest);
      }
    }
  }

  /** Snapshots name images: this only stores the manifest where it is not there. */
  async tag(_: string, descriptor: Descriptor, open: () => Bytes, options?: Abortable): Promise<void> {
    await this.put(descriptor, open, options);
  }

  #has({ digest, size }: Pick<Descriptor, 'digest' | 'size'>): boolean {
    return this.#present.get(digest) === size;
  }

  async #put(descriptor: Descriptor, open: () => Bytes, options: Abortable): Promise<void> {
    const isManifest = isManifestType(descriptor.mediaType);
    if (!isManifest && descriptor.size > MAX_WRITE_BYTES)
      return this.#store(descriptor, async (writing) => this.#upload(descriptor, open(), writing), options);
    const tooLarge = (): Failure =>
      new Failure(
        'CORRUPT',
        `${descriptor.digest} has more than the ${descriptor.size} bytes that its descriptor states`,
      );
    const bytes = await collect(open(), descriptor.size, tooLarge, options);
    if (isManifest) this.#checkChildren(descriptor, bytes);
    const key = blobKey(this.#place, descriptor.digest);
    return this.#store(descriptor, async (writing) => this.#place.store.write(key, bytes, writing), options);
  }

  /** NOT_FOUND where the store does not have something that the manifest names. */
  #checkChildren(descriptor: Descriptor, bytes: Uint8Array): void {
    const children = childrenOf(parseManifest(bytes, descriptor.mediaType));
    const missing = children.find((child) => !isForeign(child) && !this.#has(child));
    if (missing === undefined) return;
    throw new Failure(
      'NOT_FOUND',
      `store ${descriptor.digest}: ${missing.digest}, which it names, is not in ${this.#place.location}`,
    );
  }

  /** Makes `write` store what is not there. An object of another size, which a crash of another program left, is replaced. */
  async #store(
    { digest, size }: Descriptor,
    write: (options: WriteOptions) => Promise<unknown>,
    { signal }: Abortable,
  ): Promise<void> {
    const { store, location } = this.#place;
    const key = blobKey(this.#place, digest);
    const onSent = (bytes: number): void => this.#report?.({ type: 'bytes-sent', bytes });
    let there = this.#present.has(digest) ? await ifFound(store.stat(key, { signal })) : undefined;
    for (let attempt = 1; ; attempt++) {
      const condition: Condition = there === undefined ? { ifAbsent: true } : { ifMatch: there.etag };
      try {
        await write({ signal, condition, onSent });
        this.#present.set(digest, size);
        this.#added.blobs++;
        this.#added.bytes += size;
        return;
      } catch (error) {
        if (!isFailure(error, 'CONFLICT') || attempt === ATTEMPTS) throw error;
        there = await ifFound(store.stat(key, { signal }));
        if (there?.size === size) {
          // another backup stored it, which verified it as this one does
          this.#present.set(digest, size);
          return;
        }
        const message = `${location}: ${shortDigest(digest)} is damaged, and is stored again`;
        if (there !== undefined) this.#report?.({ type: 'warning', message });
      }
    }
  }

  async #upload({ digest, size }: Descriptor, body: Bytes, options: WriteOptions): Promise<void> {
    const { store } = this.#place;
    const upload = await store.upload(blobKey(this.#place, digest), size, {
      ...options,
      fingerprint: digest,
      exclusive: true,
    });
    const sending = { signal: options.signal };
    try {
      if (upload.openInPlace === undefined)
        await sendParts(upload, body, size, { ...sending, memory: partMemoryOf(store, upload.partSize) });
      else await writeInPlace(upload, await upload.openInPlace(sending), gathered(body, size), sending);
      await upload.commit({ signal: options.signal });
    } catch (error) {
      // another writer was faster: what this one stored is of no more use
      if (isFailure(error, 'CONFLICT')) await upload.abort();
      throw error;
    } finally {
      upload.release?.();
    }
  }
}

/** Writes a verified body where it belongs. What an interrupted upload left there is compared, and not written again where it is the same. */
async function writeInPlace(upload: Upload, opened: InPlace, body: Bytes, options: Abortable): Promise<void> {
  await using file = opened;
  let position = 0;
  for await (const chunk of body) {
    checkAborted(options);
    if (!file.isResumed || !(await file.has(position, chunk, options))) await file.write(position, chunk, options);
    position += chunk.byteLength;
  }
  checkAborted(options);
  const missing = Array.from({ length: upload.parts }, (_, i) => i + 1).filter((number) => !upload.done.has(number));
  await file.keep(missing, options);
}

/**
 * Stores a verified body as the parts of an upload. Parts of an interrupted upload that hold the same bytes are not sent again. While a part is
 * filled, earlier ones are sent, as many as there is memory for.
 */
async function sendParts(
  upload: Upload,
  body: Bytes,
  size: number,
  options: Abortable & { readonly memory: PartMemory },
): Promise<void> {
  const { partSize } = upload;
  const { signal } = options;
  const parts = new PartsInFlight(options.memory);
  let filling: PartBuffer | undefined;
  let crc = 0;
  let position = 0;
  try {
    for await (const chunk of body) {
      checkAborted(options);
      for (let from = 0; from < chunk.byteLength;) {
        if (position === size) throw new Failure('BUG', `a verified body has more than ${size} bytes`);
        filling ??= await parts.buffer(Math.min(partSize, size));
        const offset = position % partSize;
        const piece = chunk.subarray(from, from + partSize - offset);
        filling.bytes.set(piece, offset);
        // while the piece is still in the processor's cache: the part is not, once it is full
        crc = crc32(piece, crc);
        from += piece.byteLength;
        position += piece.byteLength;
        if (position % partSize !== 0 && position !== size) continue;
        const number = Math.ceil(position / partSize);
        const bytes = filling.bytes.subarray(0, position - (number - 1) * partSize);
        const sum = crc;
        parts.launch(filling, async () => {
          if (!upload.holds(number, bytes, sum)) await upload.part(number, bytes, { signal, crc: sum });
        });
        filling = undefined;
        crc = 0;
      }
    }
    checkAborted(options);
  } finally {
    filling?.giveBack();
    await parts.ended();
  }
  await parts.stored();
}
