import { afterAll, describe, expect, test } from 'vitest';
import type { Source, Target } from '../../worker/content/content.ts';
import { walk } from '../../worker/content/graph.ts';
import { childrenOf } from '../../worker/oci/manifest.ts';
import { isFailure } from '../../worker/util/failure.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { mirrorLife } from '../support/lives.ts';
import { expectSameImage } from '../support/same-image.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry } = lab.stack;

/** Fails when something is visible of which a part is missing. */
async function expectNothingHalf(image: MadeImage, view: Source & Target): Promise<void> {
  for (const node of (await walk(image.content, [image.root])).manifests.values()) {
    if (!(await view.has(node.descriptor))) continue;
    for (const child of childrenOf(node.manifest)) expect(await view.has(child), child.digest).toBe(true);
  }
  const tagged = await view.resolve('v1').catch((error: unknown) => {
    if (!isFailure(error, 'NOT_FOUND')) throw error;
    return undefined;
  });
  if (tagged !== undefined) await expectSameImage(image.content, view, image.root);
}

describe.each([
  ['a signed image to the plain registry', registry, { signed: true, platforms: ['linux/amd64'] }, 40],
  ['an image of two platforms to ECR', ecr, {}, 20],
] as const)('a mirror of %s', (_, where, recipe, least) => {
  test('killed at every write shows nothing before its parts, and another run completes it', async () => {
    const image = await makeImage({ ...recipe, layers: [20_000], sharedLayerBytes: 0 });
    const [first, later] = [lab.client(where), lab.client(where)];
    const { points } = await mirrorLife(image, first.repository('whole'));
    expect(points).toBeGreaterThan(least);
    for (let at = 1; at <= points; at++) {
      const name = `killed/at-${at}`;
      expect(await mirrorLife(image, first.repository(name), { at })).toMatchObject({ died: true });
      const view = later.repository(name);
      await expectNothingHalf(image, view);
      await mirrorLife(image, view);
      await expectSameImage(image.content, view, image.root);
    }
  });
});
