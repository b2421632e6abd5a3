import { expect, test } from 'vitest';
import type { ListedImage } from '../../../worker/images/backends.ts';
import { readEcrInventory } from '../../../worker/images/inventory-ecr.ts';
import { digestOf, type Digest } from '../../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../../worker/oci/manifest.ts';

const id = (name: string): Digest => digestOf(Buffer.from(name));

test('keeps what an archived index may list, the same in any order of a list of twenty thousand', async () => {
  const row = (name: string, day: number, more: Partial<ListedImage> = {}): ListedImage => ({
    digest: id(name),
    tags: [],
    mediaType: MEDIA_TYPE.ociManifest,
    pushedAt: new Date(Date.UTC(2026, 10, day)),
    status: 'ACTIVE',
    subject: undefined,
    ...more,
  });
  const archived = { mediaType: MEDIA_TYPE.ociIndex, status: 'ARCHIVED' } as const;
  const rows = [
    row('first', 10, archived),
    row('second', 20, archived),
    row('older', 15),
    row('newer', 25),
    ...Array.from({ length: 20_000 }, (_, at) => row(`tagged ${at}`, 25, { tags: [`v${at}`] })),
  ];
  const heldIn = async (listed: readonly ListedImage[]): Promise<readonly (string | undefined)[]> => {
    const lists = {
      images: async function* () {
        yield* listed;
      },
      manifests: async function* () {},
    };
    const { items } = await readEcrInventory(lists, { host: 'registry.example', repository: 'app' }, {});
    const held = new Map(items.map((item) => [item.id, item.held]));
    return ['first', 'second', 'older', 'newer'].map((name) => held.get(id(name)));
  };
  const bySecond = `the archived index ${id('second').slice(0, 19)} may list it`;
  const expected = [bySecond, undefined, bySecond, undefined];
  expect(await heldIn(rows)).toEqual(expected);
  expect(await heldIn(rows.toReversed())).toEqual(expected);
});
