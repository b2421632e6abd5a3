import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { Source } from '../../../worker/content/content.ts';
import { walk, type Graph, type WalkOptions } from '../../../worker/content/graph.ts';
import { MemoryContent } from '../../../worker/content/memory.ts';
import { MEDIA_TYPE, type Descriptor } from '../../../worker/oci/manifest.ts';
import type { Event } from '../../../worker/util/events.ts';
import { addJson } from '../../support/images.ts';

const CONTENT = new MemoryContent();
const EMPTY = CONTENT.add(MEDIA_TYPE.ociEmpty, Buffer.from('{}'));

function manifest(name: string, subject?: Descriptor): Descriptor {
  return addJson(CONTENT, MEDIA_TYPE.ociManifest, {
    schemaVersion: 2,
    annotations: { name },
    config: EMPTY,
    layers: [EMPTY],
    ...(subject === undefined ? {} : { subject }),
  });
}

/** Walks an image of a source that lists `listed`. */
async function walked(
  image: Descriptor,
  listed: (subject: Descriptor) => Iterable<Descriptor>,
  options: WalkOptions & { readonly opened?: () => Promise<void> } = {},
): Promise<{ readonly graph: Graph; readonly warnings: readonly string[]; readonly asked: number }> {
  const warnings: string[] = [];
  let asked = 0;
  const source: Source = {
    tags: (o) => CONTENT.tags(o),
    resolve: async (reference, o) => CONTENT.resolve(reference, o),
    open: async (d, o) => {
      await options.opened?.();
      return CONTENT.open(d, o);
    },
    referrers: async function* referrers(subject) {
      asked++;
      await turn();
      yield* listed(subject);
    },
  };
  const report = (event: Event): void => void (event.type === 'warning' && warnings.push(event.message));
  const graph = await walk(source, [{ descriptor: image, tags: [] }], { ...options, report });
  return { graph, warnings, asked };
}

test('an image with endless referrers is read with 1,000 of them, and one warning', async () => {
  const image = manifest('many');
  let made = 0;
  const { graph, warnings } = await walked(image, function* endless(subject) {
    while (made < 5000 && subject.digest === image.digest) yield manifest(`referrer ${made++}`, image);
  });
  expect(graph.referrers).toHaveLength(1000);
  expect(made).toBeLessThan(1100);
  expect(warnings).toEqual([
    expect.stringMatching(/refer to the image sha256:\w+ are copied: there are more than 1000$/),
  ]);
});

test('endless referrers of referrers are followed 3 deep, with one warning', async () => {
  const image = manifest('chain');
  const { graph, warnings, asked } = await walked(image, (subject) => [manifest('next', subject)]);
  expect(graph.referrers).toHaveLength(3);
  expect(asked).toBe(4);
  expect(warnings).toEqual([expect.stringContaining('more than 3 deep')]);
});

test('referrers 3 deep are complete, without a warning', async () => {
  const image = manifest('three');
  const chain = [manifest('a', image)];
  chain.push(manifest('b', chain[0]));
  chain.push(manifest('c', chain[1]));
  const { graph, warnings } = await walked(image, (subject) =>
    [image, ...chain].flatMap((one, index) => (one.digest === subject.digest ? chain.slice(index, index + 1) : [])),
  );
  expect(graph.referrers.map(({ descriptor }) => descriptor.digest)).toEqual(chain.map(({ digest }) => digest));
  expect(warnings).toEqual([]);
});

test('referrers are fetched as many at once as allowed', async () => {
  const image = manifest('wide');
  const referrers = Array.from({ length: 12 }, (_, index) => manifest(`wide ${index}`, image));
  let running = 0;
  let most = 0;
  const opened = async (): Promise<void> => {
    most = Math.max(most, ++running);
    await turn();
    running--;
  };
  const { graph } = await walked(image, (subject) => (subject.digest === image.digest ? referrers : []), {
    opened,
    concurrency: 4,
  });
  expect(graph.referrers).toHaveLength(12);
  expect(most).toBe(4);
});
