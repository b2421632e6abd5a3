import { afterAll, describe, expect, test } from 'vitest';
import type { Source, Target } from '../../worker/content/content.ts';
import { walk } from '../../worker/content/graph.ts';
import { copy } from '../../worker/copy/copy.ts';
import { childrenOf } from '../../worker/oci/manifest.ts';
import { isFailure } from '../../worker/util/failure.ts';
import { Crash } from '../support/faulty-objects.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry } = lab.stack;

/**
 * `target` as a process sees it that is killed at its `at`-th write (counted from 1). Each put and tag is three points: before it begins, when
 * the first bytes were sent, and when it took effect but the caller has not heard of it. From then on every call throws Crash.
 */
function dying(target: Target, at: number): Target {
  let points = 0;
  const alive = (): void => {
    if (points >= at) throw new Crash(`crashed at write ${at}`);
  };
  const point = (): void => {
    alive();
    points++;
    alive();
  };
  const write = async (
    open: Parameters<Target['put']>[1],
    work: (opener: Parameters<Target['put']>[1]) => Promise<void>,
  ): Promise<void> => {
    point();
    await work(async function* () {
      for await (const chunk of open()) {
        // half of a chunk is on its way when it happens
        if (chunk.byteLength > 1) yield chunk.subarray(0, chunk.byteLength / 2);
        point();
        yield chunk.subarray(chunk.byteLength > 1 ? chunk.byteLength / 2 : 0);
      }
    });
    point();
  };
  return {
    has: async (d, o) => {
      alive();
      return target.has(d, o);
    },
    put: async (d, open, o) => write(open, async (opener) => target.put(d, opener, o)),
    tag: async (name, d, open, o) => write(open, async (opener) => target.tag(name, d, opener, o)),
  };
}

/** The crash itself, or a failure that wraps it. */
function isCrash(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) if (at instanceof Crash) return true;
  return false;
}

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
    let points = 0;
    for (let at = 1; ; at++) {
      const name = `killed/at-${at}`;
      const target = dying(first.repository(name), at);
      const died = await copy(image.content, target, [image.root], { strict: true }).then(
        () => false,
        (error: unknown) => {
          if (!isCrash(error)) throw error;
          return true;
        },
      );
      if (!died) break;
      points++;
      const view = later.repository(name);
      await expectNothingHalf(image, view);
      await copy(image.content, view, [image.root]);
      await expectSameImage(image.content, view, image.root);
    }
    expect(points).toBeGreaterThan(least);
  });
});
