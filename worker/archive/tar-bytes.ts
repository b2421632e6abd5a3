import { once } from '../content/bytes.ts';
import type { Bytes } from '../content/content.ts';
import { Failure } from '../util/failure.ts';
import { encodeHeader, END_BYTES, MAX_ENTRIES, paddingOf } from './tar.ts';

/** A file of a tar that is written from the first byte to the last. */
export interface TarFile {
  readonly name: string;
  readonly size: number;
  /** Its bytes, verified. */
  readonly open: () => Bytes;
}

/**
 * The bytes of an uncompressed tar of these files, in their order: the same for the same files. UNSUPPORTED for more files than a reader takes,
 * CORRUPT for a file of another size than listed.
 */
export async function* tarOf(files: readonly TarFile[]): Bytes {
  if (files.length > MAX_ENTRIES)
    throw new Failure('UNSUPPORTED', `one file holds at most ${MAX_ENTRIES} blobs and snapshots, not ${files.length}`);
  for (const { name, size, open } of files) {
    yield encodeHeader(name, size);
    let sent = 0;
    for await (const chunk of open()) {
      sent += chunk.byteLength;
      yield chunk;
    }
    if (sent !== size) throw new Failure('CORRUPT', `${name} has ${sent} bytes, and ${size} were listed`);
    yield* once(Buffer.alloc(paddingOf(size)));
  }
  yield Buffer.alloc(END_BYTES);
}
