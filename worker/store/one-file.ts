import { blobPath } from '../archive/plan.ts';
import { tarOf, type TarFile } from '../archive/tar-bytes.ts';
import { collect, once } from '../content/bytes.ts';
import type { Bytes } from '../content/content.ts';
import { read } from '../content/read.ts';
import type { ReadOptions } from '../content/reading.ts';
import { Failure, ifFound } from '../util/failure.ts';
import { layoutIndexOf } from './layout-index.ts';
import type { StorePlace } from './place.ts';
import { readState } from './read-state.ts';
import { signatureKey, type SnapshotName } from './snapshot-key.ts';
import { MAX_COMPRESSED_BYTES } from './snapshot-codec.ts';
import type { ImageStore } from './store.ts';

/**
 * The bytes of a tar that is a store with this snapshot alone: the description of the store, the snapshot with its signature, an `index.json` of the
 * images, and the blobs that the snapshot names, each hashed while it is read. The same bytes for the same snapshot.
 */
export async function storeTar(
  place: Pick<StorePlace, 'store' | 'prefix'>,
  { snapshots, content }: Pick<ImageStore, 'snapshots' | 'content'>,
  name: SnapshotName,
  options: ReadOptions,
): Promise<Bytes> {
  const { store, prefix } = place;
  const { snapshot } = await snapshots.read(name, options);
  const index = layoutIndexOf(await readState(snapshots, { snapshot: name.id, signal: options.signal }));
  const small = async (key: string): Promise<TarFile | undefined> => {
    const body = await ifFound(store.read(key, { signal: options.signal }));
    if (body === undefined) return undefined;
    const tooLong = new Failure('UNSUPPORTED', `${store.describe(key)} has more than ${MAX_COMPRESSED_BYTES} bytes`);
    return fileOf(key.slice(prefix.length), await collect(body, MAX_COMPRESSED_BYTES, () => tooLong));
  };
  const described = await Promise.all(
    [`${prefix}transship-store.json`, `${prefix}oci-layout`, name.key, signatureKey(name.key)].map(small),
  );
  const blobs = snapshot.content.map(({ digest, size }) => ({
    name: blobPath(digest),
    size,
    open: () => read(content, { mediaType: 'application/octet-stream', digest, size }, options),
  }));
  const lists = Array.from(index.lists, ([digest, bytes]) => fileOf(blobPath(digest), bytes));
  return tarOf([
    ...described.filter((file) => file !== undefined),
    fileOf('index.json', index.bytes),
    ...lists,
    ...blobs,
  ]);
}

function fileOf(name: string, bytes: Uint8Array): TarFile {
  return { name, size: bytes.byteLength, open: () => once(bytes) };
}
