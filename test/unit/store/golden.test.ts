import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { openSnapshotImage } from '../../../worker/images/snapshot-image.ts';
import { openFiles } from '../../../worker/objects/files/store.ts';
import type { ObjectStore } from '../../../worker/objects/objects.ts';
import { openImageStore } from '../../../worker/store/image-store.ts';
import { holdsIndex, layoutIndexOf } from '../../../worker/store/layout-index.ts';
import { expandImage } from '../../../worker/store/expanded.ts';
import { readState } from '../../../worker/store/read-state.ts';
import { openSnapshots } from '../../../worker/store/snapshots.ts';
import { sourceSuite } from '../../contracts/source.ts';
import { fakeClock } from '../../support/clock.ts';
import { goldenImage } from '../../support/golden.ts';
import { storePlace, writeStore } from '../../support/golden-store.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';
import { expectSameImage } from '../../support/same-image.ts';

// Stores outlive the program that wrote them. When one of these fails, the code is wrong: the files never change.
const FOLDER = fileURLToPath(new URL('../../fixtures/store-v1', import.meta.url));
/** The one image of a store, as a source. */
async function openOnly(objects: ObjectStore): Promise<Awaited<ReturnType<typeof openSnapshotImage>>> {
  const clock = fakeClock();
  const store = await openImageStore(storePlace(objects), { clock });
  const { snapshot } = await store.snapshots.read('latest');
  const [repository] = snapshot.repositories;
  const image = repository?.images[0];
  if (image === undefined || repository === undefined) throw new Error('the store has no image');
  const { kind, registry } = snapshot;
  return openSnapshotImage(
    { store: objects, blobs: store.content },
    { registry: registry.host, repository: repository.name, image: { ...expandImage(snapshot, image), kind } },
    { temporary: () => expect.unreachable('nothing is unpacked') },
    { clock },
  );
}

describe('the golden store', () => {
  test('holds the image whole, and its index.json matches its snapshot', async () => {
    const { content, root } = await goldenImage();
    const objects = openFiles(FOLDER);
    await using opened = await openOnly(objects);
    expect(opened.root).toEqual(root);
    await expectSameImage(content, opened.source, root);
    const index = layoutIndexOf(await readState(openSnapshots(storePlace(objects))));
    expect(await holdsIndex(storePlace(objects), index, {})).toBe(true);
  });

  test('is what a backup of its image writes, byte for byte', async () => {
    const objects = new MemoryObjects();
    await writeStore(objects, await goldenImage());
    const golden = openFiles(FOLDER);
    const keys = (await Array.fromAsync(objects.list('')))
      .map(({ key }) => key)
      .filter((key) => !key.startsWith('locks/'));
    expect(keys).toEqual((await Array.fromAsync(golden.list(''))).map(({ key }) => key));
    for (const key of keys) {
      // the compression of zstd depends on its version
      if (key.startsWith('snapshots/')) continue;
      expect(Buffer.compare(objects.bytesOf(key), await readFile(`${FOLDER}/${key}`)), key).toBe(0);
    }
  });
});

sourceSuite('an image of a store', async (image) => {
  const objects = new MemoryObjects();
  await writeStore(objects, image);
  const { source } = await openOnly(objects);
  return { source };
});
