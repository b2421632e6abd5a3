import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { createArchive } from '../../../worker/archive/writer.ts';
import { openImage } from '../../../worker/archive/reader.ts';
import { planArchive } from '../../../worker/archive/plan.ts';
import { walk } from '../../../worker/content/graph.ts';
import { copy } from '../../../worker/copy/copy.ts';
import { openFiles } from '../../../worker/objects/files/store.ts';
import { goldenImage, GOLDEN_REPOSITORY } from '../../support/golden.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';
import { expectSameImage } from '../../support/same-image.ts';

// Archives outlive the program that wrote them. When one of these fails, the code is wrong: neither the file nor the numbers ever change.
const FIXTURES = fileURLToPath(new URL('../../fixtures', import.meta.url));
const NAME = 'archive-v1.tar';
const LAYOUT_DIGEST = 'sha256:ee6c012e910daa5b4b8ebdc043c9d8410e3719ced989d5a835cae663d4339d71';
const FILE_SHA256 = '1ab8afbdf9a57b531a3ca5abc184d9dafc73b1450185b2e38b203bd680084e84';

test('the golden archive is unchanged', async () => {
  const bytes = await readFile(`${FIXTURES}/${NAME}`);
  expect(createHash('sha256').update(bytes).digest('hex')).toBe(FILE_SHA256);
});

test("today's code reads the golden archive whole", async () => {
  const { content, root } = await goldenImage();
  const opened = await openImage(openFiles(FIXTURES), NAME);
  expect(opened.root).toEqual(root);
  expect(opened.repository).toBe(GOLDEN_REPOSITORY);
  expect(opened.layoutDigest).toBe(LAYOUT_DIGEST);
  await expectSameImage(content, opened, root);
});

test("today's code reproduces the golden archive byte for byte", async () => {
  const { content, root } = await goldenImage();
  const graph = await walk(content, [root]);
  const layout = planArchive(graph, { tag: 'v1', repository: GOLDEN_REPOSITORY });
  const store = new MemoryObjects();
  const archive = await createArchive(store, NAME, layout);
  await copy(content, archive, [root], { graph, strict: true });
  await archive.commit();
  expect(Buffer.compare(store.bytesOf(NAME), await readFile(`${FIXTURES}/${NAME}`))).toBe(0);
});

test('an archive of the golden archive is the golden archive', async () => {
  const golden = await openImage(openFiles(FIXTURES), NAME);
  const graph = await walk(golden, [golden.root]);
  const layout = planArchive(graph, { tag: golden.root.tags[0], repository: golden.repository ?? '' });
  expect(layout.digest).toBe(LAYOUT_DIGEST);
});
