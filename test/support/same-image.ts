import { expect } from 'vitest';
import { blobsOf, foreignOf, walk, type Root } from '../../worker/content/graph.ts';
import { read } from '../../worker/content/read.ts';
import type { Source, Target } from '../../worker/content/content.ts';
import { childrenOf, type Descriptor } from '../../worker/oci/manifest.ts';
import { atSide, isFailure, type Side } from '../../worker/util/failure.ts';
import { forEachOf } from '../../worker/util/limit.ts';
import { fakeClock } from './clock.ts';

export interface SameImageOptions {
  /** Whether the referrers of the image must be the same too. Default true. */
  readonly referrers?: boolean;
}

/**
 * Fails unless `target` has all of the image that `source` has, and nothing else: the tags of `root`, every manifest, every blob, every
 * referrer and cosign tag. Both graphs are walked and every byte on both sides is hashed. The closing assertion of every flow.
 */
export async function expectSameImage(
  source: Source,
  target: Source,
  root: Root,
  options: SameImageOptions = {},
): Promise<void> {
  const [expected, found] = await Promise.all([
    inventory('source', source, root, options),
    inventory('target', target, root, options),
  ]);
  const missing = expected.filter((line) => !found.includes(line)).map((line) => `- ${line}`);
  const extra = found.filter((line) => !expected.includes(line)).map((line) => `+ ${line}`);
  expect(found, ['the images differ', ...missing, ...extra].join('\n')).toEqual(expected);
}

/** Fails when `view` shows part of the image without what it names: a manifest without a child, or a tag before all of it is there. */
export async function expectNothingHalf(source: Source, view: Source & Target, root: Root): Promise<void> {
  for (const node of (await walk(source, [root])).manifests.values()) {
    if (!(await view.has(node.descriptor))) continue;
    for (const child of childrenOf(node.manifest)) expect(await view.has(child), child.digest).toBe(true);
  }
  for (const tag of root.tags) {
    const tagged = await view.resolve(tag).catch((error: unknown) => {
      if (!isFailure(error, 'NOT_FOUND')) throw error;
      return undefined;
    });
    if (tagged !== undefined) await expectSameImage(source, view, root);
  }
}

/** What is there of an image, one line each; unreadable content has a line with the reason. */
async function inventory(
  side: Side,
  source: Source,
  root: Root,
  options: SameImageOptions,
): Promise<readonly string[]> {
  const lines: string[] = [];
  try {
    for (const tag of root.tags) {
      const descriptor = await source.resolve(tag);
      lines.push(`tag ${tag} is ${descriptor.digest} ${descriptor.size} bytes ${descriptor.mediaType}`);
    }
    const { referrers = true } = options;
    const graph = await walk(source, [root], { referrers });
    for (const { descriptor } of graph.manifests.values())
      lines.push(`manifest ${await hashed(side, source, descriptor)} ${descriptor.mediaType}`);
    for (const { descriptor, tags } of graph.referrers)
      lines.push(`referrer ${descriptor.digest} ${[...tags].sort().join(' ')}`);
    for (const { digest } of foreignOf(graph)) lines.push(`foreign ${digest}`);
    await forEachOf(blobsOf(graph), 4, async (descriptor) => {
      lines.push(`blob ${await hashed(side, source, descriptor)}`);
    });
  } catch (error) {
    throw atSide(side, error);
  }
  return lines.sort();
}

/** The digest and size of `d` when its bytes are right, otherwise what is wrong with them, and where: both sides wrong is not equal. */
async function hashed(side: Side, source: Source, descriptor: Descriptor): Promise<string> {
  let bytes = 0;
  try {
    for await (const chunk of read(source, descriptor, { clock: fakeClock() })) bytes += chunk.byteLength;
  } catch (error) {
    if (!isFailure(error)) throw error;
    return `${descriptor.digest} ${error.code} at the ${side}: ${error.message}`;
  }
  return `${descriptor.digest} ${bytes} bytes`;
}
