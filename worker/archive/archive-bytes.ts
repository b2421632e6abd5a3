import type { Bytes } from '../content/content.ts';
import type { Upload } from '../objects/objects.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';
import { endOf, type ArchiveLayout, type BlobEntry } from './plan.ts';

/** Where a blob is in the archive, from its header to its padding, and its parts. */
export class BlobPlace {
  readonly entry: BlobEntry;
  /** The parts that hold its first and its last byte. */
  readonly first: number;
  readonly last: number;
  /** Those two and all between. */
  readonly parts: readonly number[];
  /** The parts that are held back until it is complete: the last, and the first where that begins with something else. */
  readonly heldParts: readonly number[];

  constructor(entry: BlobEntry, partSize: number) {
    this.entry = entry;
    this.first = Math.floor(entry.offset / partSize) + 1;
    this.last = Math.floor((endOf(entry) - 1) / partSize) + 1;
    const startsPart = entry.offset % partSize === 0;
    this.parts = Array.from({ length: this.last - this.first + 1 }, (_, i) => this.first + i);
    this.heldParts = this.first === this.last || startsPart ? [this.last] : [this.first, this.last];
  }
}

/** The state that both ways of storing bytes share with the archive. */
export interface ArchiveBytesOptions {
  readonly layout: ArchiveLayout;
  readonly upload: Upload;
  /** The parts that were stored before and have not been sent again. A part that is sent is removed from it. */
  readonly reused: Set<number>;
  /** Throws where the archive has failed or the caller stopped it. */
  readonly check: (options: Abortable) => void;
  /** Called with an error of the upload: returns the failure to throw. */
  readonly fail: (error: unknown, signal: AbortSignal | undefined) => Failure;
}

/** How the bytes of an archive come into its upload: part by part, or each where it belongs. */
export interface ArchiveBytes extends Disposable {
  /** Bytes of parts that the store copied from other archives, so far. */
  readonly copiedBytes: number;
  /** Prepares what is stored already. Afterwards no part with wrong planned bytes counts as stored. */
  begin(options: Abortable): Promise<void>;
  /** Whether all of a blob is stored, and right. Where not, the parts with other bytes of it do not count as stored any more. */
  isStored(blob: BlobPlace, options: Abortable): Promise<boolean>;
  /** Takes a blob: header, content and padding. Resolves when its own parts are stored. BUG where the content has another size. */
  fill(blob: BlobPlace, open: () => Bytes, options: Abortable): Promise<void>;
  /** Stores a part that was held back, with the planned bytes in it: all blobs in it are complete. */
  store(number: number, options: Abortable): Promise<void>;
}

/** Hands header, content and padding of a blob to `write`, in order, with their place in the archive. BUG where the content has another size. */
export async function writeBlob(
  entry: BlobEntry,
  content: Bytes,
  write: (bytes: Uint8Array, offset: number) => Promise<void>,
): Promise<void> {
  const contentEnd = entry.offset + entry.header.byteLength + entry.size;
  await write(entry.header, entry.offset);
  let position = entry.offset + entry.header.byteLength;
  for await (const chunk of content) {
    if (position + chunk.byteLength > contentEnd) throw wrongSize(entry, 'more');
    await write(chunk, position);
    position += chunk.byteLength;
  }
  if (position !== contentEnd) throw wrongSize(entry, 'fewer');
  await write(new Uint8Array(endOf(entry) - contentEnd), contentEnd);
}

function wrongSize(entry: BlobEntry, what: string): Failure {
  return new Failure('BUG', `${entry.descriptor.digest} was handed over with ${what} than its ${entry.size} bytes`);
}
