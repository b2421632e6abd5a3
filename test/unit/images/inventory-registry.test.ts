import { expect, test } from 'vitest';
import { once } from '../../../worker/content/bytes.ts';
import { MemoryContent } from '../../../worker/content/memory.ts';
import { readRegistryInventory } from '../../../worker/images/inventory-registry.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import { MEDIA_TYPE, type Descriptor } from '../../../worker/oci/manifest.ts';
import { manualClock } from '../../support/clock.ts';

const LEVELS = 40;

test('dates an index whose images are reached in a trillion ways', async () => {
  const content = new MemoryContent();
  const pushIndex = async (
    manifests: readonly Descriptor[],
    annotations: Readonly<Record<string, string>>,
  ): Promise<Descriptor> => {
    const mediaType = MEDIA_TYPE.ociIndex;
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, manifests, annotations }));
    const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.byteLength };
    await content.put(descriptor, () => once(bytes));
    if (annotations['tag'] !== undefined) await content.tag(annotations['tag'], descriptor, () => once(bytes));
    return descriptor;
  };
  let below = [await pushIndex([], { 'org.opencontainers.image.created': '2026-11-30T00:00:00Z' })];
  for (let level = 0; level < LEVELS; level++)
    below = [await pushIndex(below, { at: `${level}` }), await pushIndex(below, { at: `${level} too` })];
  const { digest } = await pushIndex(below, { tag: 'v1' });
  const { items } = await readRegistryInventory(
    content,
    { host: 'registry.example', repository: 'app' },
    { clock: manualClock() },
  );
  expect(items).toHaveLength(2 * LEVELS + 2);
  expect(items.find(({ id }) => id === digest)?.pushedAtMs).toBe(Date.UTC(2026, 10, 30));
});
