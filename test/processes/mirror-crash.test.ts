import { afterAll, describe, expect, test } from 'vitest';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { runMirror } from '../support/process-run.ts';
import { expectNothingHalf, expectSameImage } from '../support/same-image.ts';

// Each process here is simulated in this one. test/interop/crash.test.ts does the same with real processes.

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry } = lab.stack;

describe.each([
  ['a signed image to the plain registry', registry, { signed: true, platforms: ['linux/amd64'] }, 35],
  ['an image of two platforms to ECR', ecr, {}, 20],
] as const)('a mirror of %s', (_, where, recipe, least) => {
  test('killed at every write shows nothing before its parts, and another run completes it', async () => {
    const image = await makeImage({ ...recipe, layers: [20_000], sharedLayerBytes: 0 });
    const [first, later] = [lab.client(where), lab.client(where)];
    const { points } = await runMirror(image, first.repository('whole'));
    expect(points).toBeGreaterThan(least);
    for (let at = 1; at <= points; at++) {
      const name = `killed/at-${at}`;
      expect(await runMirror(image, first.repository(name), { at })).toMatchObject({ wasKilled: true });
      const view = later.repository(name);
      await expectNothingHalf(image.content, view, image.root);
      await runMirror(image, view);
      await expectSameImage(image.content, view, image.root);
    }
  });
});
