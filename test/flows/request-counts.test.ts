// What a copy costs in requests: budgets, counted at the embedded registries.
import { afterAll, describe, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { MemoryContent } from '../../worker/content/memory.ts';
import { copyImages } from '../../worker/images/copy-images.ts';
import { sync } from '../../worker/service/admin/sync.ts';
import { verify } from '../../worker/images/verify.ts';
import { parseLocation } from '../../worker/oci/location.ts';
import { MEDIA_TYPE, type Descriptor } from '../../worker/oci/manifest.ts';
import { systemClock, type Clock } from '../../worker/util/clock.ts';
import { alteringFront, type Alter } from '../support/altering-front.ts';
import { addJson, makeImage, seededBytes, type MadeImage } from '../support/images.ts';
import { rule } from '../support/rules.ts';
import { openLab, requestsDuring, type Session } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());

const BUNDLE = 'application/vnd.dev.sigstore.bundle.v0.3+json';

/** Two platforms, each of a config and two layers. */
async function twoPlatforms(seed: number): Promise<MadeImage> {
  return makeImage({ seed, layers: [3000, 70_000], sharedLayerBytes: 0 });
}

/** Adds a manifest that names `subject`, as cosign 3 stores signatures and every tool stores SBOMs. */
function refer(image: MadeImage, artifactType: string, subject: Descriptor): Descriptor {
  return addJson(image.content, MEDIA_TYPE.ociManifest, {
    schemaVersion: 2,
    artifactType,
    config: image.content.add(MEDIA_TYPE.ociEmpty, Buffer.from('{}')),
    layers: [image.content.add('text/plain', Buffer.from(`${artifactType} of ${subject.digest}`))],
    subject,
  });
}

/** Adds what cosign 2 creates: a manifest under a tag that names the image. */
async function cosign(image: MadeImage, about: Descriptor): Promise<void> {
  const signature = addJson(image.content, MEDIA_TYPE.ociManifest, {
    schemaVersion: 2,
    config: image.content.add(MEDIA_TYPE.ociConfig, Buffer.from('{}')),
    layers: [image.content.add('application/vnd.dev.cosign.simplesigning.v1+json', Buffer.from(about.digest))],
  });
  await image.content.tag(`${about.digest.replace(':', '-')}.sig`, signature, () => expect.unreachable('it is there'));
}

interface Ends {
  readonly source: LocalRegistry;
  readonly target: LocalRegistry;
}

async function twoRegistries(referrersApi: boolean): Promise<Ends> {
  return {
    source: await lab.registry({ mode: 'oci', referrersApi }),
    target: await lab.registry({ mode: 'oci', referrersApi }),
  };
}

type Counts = Readonly<Record<string, number>>;
const sumOf = (counts: Counts): number => Object.values(counts).reduce((sum, count) => sum + count, 0);

/** Copies `app:v1`, by a command without earlier knowledge, and counts the requests to each side. */
async function copied(
  { source, target }: Ends,
  choices: Parameters<Session['copy']>[2] = {},
): Promise<{ readonly outcome: string; readonly from: Counts; readonly to: Counts; readonly all: number }> {
  let to: Counts = {};
  let outcome = '';
  const from = await requestsDuring(source, async () => {
    to = await requestsDuring(target, async () => {
      const [image, copy] = [`docker://${source.registryHost}/app:v1`, `docker://${target.registryHost}/app:v1`];
      ({ outcome } = await lab.session().copy(image, copy, { trustTarget: true, ...choices }));
    });
  });
  return { outcome, from, to, all: sumOf(from) + sumOf(to) };
}

/** How an image is signed, and its budget when unchanged, by whether the registries have the referrers API. */
const SIGNINGS: readonly {
  readonly title: string;
  readonly sign: (image: MadeImage) => Promise<void>;
  readonly unchanged: readonly [withApi: number, withTags: number];
}[] = [
  { title: 'nothing refers to it', sign: async () => undefined, unchanged: [6, 4] },
  {
    title: 'it has a signature that names it',
    sign: async (image) => void refer(image, BUNDLE, image.root.descriptor),
    unchanged: [8, 7],
  },
  { title: 'it has a tag of cosign', sign: async (image) => cosign(image, image.root.descriptor), unchanged: [10, 7] },
  {
    title: 'it has a signature and an SBOM',
    sign: async (image) => {
      refer(image, BUNDLE, image.root.descriptor);
      refer(image, 'application/spdx+json', image.root.descriptor);
    },
    unchanged: [10, 9],
  },
];

describe.each([
  ['with the referrers API', true],
  ['with fallback tags', false],
])('between registries %s, an image of two platforms', (_, referrersApi) => {
  test.each(SIGNINGS)(
    'costs at most 55 requests first, and few when it is unchanged: $title',
    async ({ sign, unchanged }) => {
      const image = await twoPlatforms(200);
      await sign(image);
      const ends = await twoRegistries(referrersApi);
      await lab.push(image, ends.source, 'app');
      const first = await copied(ends);
      expect(first.outcome).toBe('copied');
      expect(first.all).toBeLessThanOrEqual(55);
      await expectSameImage(image.content, lab.view(ends.target, 'app'), image.root);
      const again = await copied(ends);
      expect(again.outcome).toBe('unchanged');
      expect(again.all).toBe(unchanged[referrersApi ? 0 : 1]);
      expect(Object.keys(again.to).filter((kind) => !/^manifest-(?:head|get)$/.test(kind))).toEqual([]);
      // the tag at the source, and the index that it stands for at the target
      const alone = await copied(ends, { referrers: false });
      expect([alone.from, alone.to]).toEqual([{ 'manifest-head': 1 }, { 'manifest-get': 1 }]);
      const anew = await copied(
        { source: ends.source, target: (await twoRegistries(referrersApi)).target },
        { referrers: false },
      );
      expect(anew.all).toBe(29);
    },
  );

  test('receives later referrers to the index, to a platform, or to another referrer', async () => {
    const image = await twoPlatforms(201);
    const ends = await twoRegistries(referrersApi);
    await lab.push(image, ends.source, 'app');
    await copied(ends);
    const [platform] = (await walk(image.content, [image.root])).manifests.values();
    if (platform === undefined) throw new Error('the image has platforms');
    const sbom = refer(image, 'application/spdx+json', platform.descriptor);
    for (const late of [
      async () => cosign(image, image.root.descriptor),
      async () => cosign(image, platform.descriptor),
      async () => void refer(image, BUNDLE, image.root.descriptor),
      async () => void refer(image, BUNDLE, sbom),
    ]) {
      await late();
      await lab.push(image, ends.source, 'app');
      expect((await copied(ends)).outcome).toBe('copied');
      await expectSameImage(image.content, lab.view(ends.target, 'app'), image.root);
    }
  });
});

test('a sync of unchanged images asks each side for each tag once, and lists the tags of a repository twice', async () => {
  const { source, target } = await twoRegistries(false);
  for (const tag of ['v1', 'v2', 'v3'])
    await lab.push(await makeImage({ seed: 210, tag, platforms: ['linux/amd64'], layers: [1000] }), source, 'app');
  const from = [`${source.registryHost}/app`];
  const mirror = rule({ name: 'all', from, to: [`${target.registryHost}/{repository}`] });
  const config = { version: 1, rules: [mirror], registries: {}, allow: [] } as const;
  const synced = async (): Promise<readonly unknown[]> => {
    const { backends, options } = lab.session();
    // the clock of the registries, so that no time passes for the lease of the plan
    const sleep: Clock['sleep'] = async (ms, abortable) => systemClock.sleep(ms, abortable);
    const clock = { ...options.clock, sleep };
    const { items, faults } = await sync({ config }, backends, { ...options, clock });
    return [...items.map(({ outcome }) => outcome), ...faults];
  };
  expect(await synced()).toEqual(['copied', 'copied', 'copied']);
  let to: Counts = {};
  const asked = await requestsDuring(source, async () => {
    to = await requestsDuring(target, async () => expect(await synced()).toEqual(Array(3).fill('unchanged')));
  });
  expect(asked).toEqual({ 'tags-list': 2, 'manifest-head': 3, 'referrers-list': 1 });
  expect(to).toEqual({ 'manifest-get': 3 });
});

describe('a registry that shows an image', () => {
  test('but lost a layer of it is sent the layer when it is not trusted, and is not asked for it when it is', async () => {
    const image = await twoPlatforms(202);
    const { source, target } = await twoRegistries(true);
    await lab.push(image, source, 'app');
    await copied({ source, target });
    const lost = blobsOf(await walk(image.content, [image.root])).find(({ size }) => size > 50_000);
    if (lost === undefined) throw new Error('the image has a large layer');
    const asked: string[] = [];
    const host = await alteringFront(target.url, (line, answer) => {
      asked.push(line);
      return line.startsWith('HEAD') && line.includes(lost.digest) ? { ...answer, status: 404 } : answer;
    });
    const [from, to] = [`docker://${source.registryHost}/app:v1`, `docker://${host}/app:v1`];
    const trusting = await lab.session().copy(from, to, { trustTarget: true });
    expect(trusting).toMatchObject({
      outcome: 'unchanged',
      copied: { tallies: { exists: { count: 1 }, trusted: { count: 2 } } },
    });
    expect(asked.filter((line) => line.includes('/blobs/'))).toEqual([]);
    const looking = await lab.session().copy(from, to);
    expect(looking).toMatchObject({
      outcome: 'copied',
      copied: { tallies: { copied: { count: 1 }, trusted: { count: 0 } } },
    });
  });

  test('under another tag costs three requests to tag it', async () => {
    const image = await twoPlatforms(203);
    const { source, target } = await twoRegistries(true);
    await lab.push(image, source, 'app');
    await copied({ source, target });
    const asked = await requestsDuring(target, async () => {
      const result = await lab
        .session()
        .copy(`docker://${source.registryHost}/app:v1`, `docker://${target.registryHost}/app:latest`, {
          trustTarget: true,
        });
      expect(result.outcome).toBe('copied');
    });
    expect(asked).toEqual({ 'manifest-get': 1, 'manifest-head': 1, 'manifest-put': 1 });
    expect((await lab.view(target, 'app').resolve('latest')).digest).toBe(image.root.descriptor.digest);
  });

  test('has its foreign layers reported as before', async () => {
    const image = await makeImage({ seed: 204, platforms: ['linux/amd64'] });
    const { content } = image;
    const base = {
      ...new MemoryContent().add('application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', Buffer.from('elsewhere')),
      urls: ['http://127.0.0.1:1/gone'],
    };
    const config = addJson(content, MEDIA_TYPE.ociConfig, { os: 'windows', architecture: 'amd64' });
    const windows = addJson(content, MEDIA_TYPE.ociManifest, { schemaVersion: 2, config, layers: [base] });
    const platform = { os: 'windows', architecture: 'amd64' };
    const descriptor = addJson(content, MEDIA_TYPE.ociIndex, {
      schemaVersion: 2,
      manifests: [image.root.descriptor, { ...windows, platform }],
    });
    await content.tag('v2', descriptor, () => expect.unreachable('it is there'));
    const { source, target } = await twoRegistries(true);
    await lab.push({ content, root: { descriptor, tags: ['v2'] } }, source, 'app');
    const [from, to] = [source, target].map(({ registryHost }) => `docker://${registryHost}/app:v2`);
    for (const outcome of ['copied', 'unchanged'])
      expect(await lab.session().copy(from ?? '', to ?? '', { trustTarget: true })).toMatchObject({
        outcome,
        foreign: [{ digest: base.digest }],
      });
  });
});

test('images that are copied at once send a shared layer once, and no more blobs at once than one image', async () => {
  const { source, target } = await twoRegistries(true);
  const content = new MemoryContent();
  const shared = content.add(MEDIA_TYPE.ociLayer, seededBytes('a base layer', 100_000));
  const tags = ['a', 'b', 'c', 'd', 'e', 'f'];
  for (const tag of tags) {
    const config = addJson(content, MEDIA_TYPE.ociConfig, { os: 'linux', architecture: 'amd64', tag });
    const own = content.add(MEDIA_TYPE.ociLayer, seededBytes(tag, 30_000));
    const image = addJson(content, MEDIA_TYPE.ociManifest, { schemaVersion: 2, config, layers: [shared, own] });
    const root = { descriptor: image, tags: [tag] };
    await content.tag(tag, image, () => expect.unreachable('it is there'));
    await lab.push({ content, root }, source, 'app');
  }
  let [atOnce, most] = [0, 0];
  const { backends, options } = lab.session();
  const report: typeof options.report = (event) => {
    if (event.type === 'blob-started') most = Math.max(most, ++atOnce);
    if (event.type === 'blob-done' && event.outcome === 'copied') atOnce--;
  };
  const before = target.requests.length;
  const requests = tags.map((tag) => ({
    from: parseLocation(`docker://${source.registryHost}/app:${tag}`),
    to: parseLocation(`docker://${target.registryHost}/app:${tag}`),
    trustTarget: true,
  }));
  const items = await copyImages(requests, backends, { ...options, report, concurrency: 2, imagesAtOnce: 6 });
  expect(items.map(({ outcome }) => outcome)).toEqual(tags.map(() => 'copied'));
  const puts = target.requests.slice(before).filter(({ kind, status }) => kind === 'upload-put' && status === 201);
  expect(puts).toHaveLength(1 + 2 * tags.length);
  expect(most).toBe(2);
});

describe('a list of referrers', () => {
  test.each([-1, 1, 1000])('is still read when each of its sizes is %i bytes off', async (more) => {
    const image = await twoPlatforms(206);
    refer(image, BUNDLE, image.root.descriptor);
    const { source, target } = await twoRegistries(true);
    await lab.push(image, source, 'app');
    const host = await alteringFront(source.url, (line, answer) => {
      if (!line.includes('/referrers/')) return answer;
      const list = JSON.parse(answer.body.toString()) as { readonly manifests: readonly { readonly size: number }[] };
      const manifests = list.manifests.map((one) => ({ ...one, size: one.size + more }));
      return { ...answer, body: Buffer.from(JSON.stringify({ ...list, manifests })) };
    });
    for (const outcome of ['copied', 'unchanged']) {
      const result = await lab
        .session()
        .copy(`docker://${host}/app:v1`, `docker://${target.registryHost}/app:v1`, { trustTarget: true });
      expect(result).toMatchObject({ outcome, unchecked: [] });
      expect(result.copied?.referrers.map(({ refused }) => refused)).toEqual([undefined]);
    }
    await expectSameImage(image.content, lab.view(target, 'app'), image.root);
  });

  test('does not stop the copy of the image when it names a missing manifest', async () => {
    const image = await twoPlatforms(207);
    const gone = refer(image, BUNDLE, image.root.descriptor);
    const { source, target } = await twoRegistries(true);
    await lab.push(image, source, 'app');
    const host = await alteringFront(source.url, (line, answer) =>
      line.includes(`/manifests/${gone.digest}`) ? { ...answer, status: 404, body: Buffer.alloc(0) } : answer,
    );
    const result = await lab
      .session()
      .copy(`docker://${host}/app:v1`, `docker://${target.registryHost}/app:v1`, { trustTarget: true });
    expect(result.copied?.referrers.map(({ refused }) => refused?.code)).toEqual(['NOT_FOUND']);
    await expectSameImage(image.content, lab.view(target, 'app'), image.root, { referrers: false });
  });
});

test('a first copy that was stopped sends no large layer twice', async () => {
  const image = await twoPlatforms(205);
  const { source, target } = await twoRegistries(true);
  await lab.push(image, source, 'app');
  target.faults.add({ operation: 'manifest-put' }, { kind: 'answer', status: 403 });
  await expect(copied({ source, target })).rejects.toMatchObject({ code: 'DENIED' });
  const { to, from } = await copied({ source, target });
  // two layers of 70,000 bytes are there; those of 3,000 and the configs are sent without asking first
  expect([from['blob-get'], to['upload-put'], to['blob-head']]).toEqual([4, 4, 2]);
  await expectSameImage(image.content, lab.view(target, 'app'), image.root);
});

describe('a list of tags', () => {
  /** Copies a signed image from a registry whose answers are altered. Returns the requests for tags of cosign. */
  async function cosignTagsAsked(seed: number, alter: Alter): Promise<readonly string[]> {
    const image = await twoPlatforms(seed);
    await cosign(image, image.root.descriptor);
    const { source, target } = await twoRegistries(true);
    await lab.push(image, source, 'app');
    const asked: string[] = [];
    const host = await alteringFront(source.url, (line, answer) => {
      if (/\/manifests\/sha256-/.test(line)) asked.push(line);
      return alter(line, answer);
    });
    await lab.session().copy(`docker://${host}/app:v1`, `docker://${target.registryHost}/app:v1`);
    await expectSameImage(image.content, lab.view(target, 'app'), image.root);
    return asked;
  }

  const listing =
    (tags: readonly string[]): Alter =>
    (line, answer) =>
      line.includes('/tags/list') ? { ...answer, body: Buffer.from(JSON.stringify({ name: 'app', tags })) } : answer;

  test('saves requests for cosign tags that it does not list', async () => {
    expect(await cosignTagsAsked(210, (_, answer) => answer)).toHaveLength(1);
  });

  test.each([
    ['proves nothing when it does not show the tag of the image yet', listing([])],
    [
      'proves nothing when it is refused',
      (line, answer) => (line.includes('/tags/list') ? { ...answer, status: 403 } : answer),
    ],
    [
      'proves nothing when a proxy drops its Links after the first page',
      (line, answer) => {
        const page = Array.from({ length: 10 }, (_, at) => `a${at}`);
        if (line.includes('last=')) return listing(page.map((tag, at) => `${tag}/${line.length}-${at}`))(line, answer);
        return listing([...page.slice(1), 'v1'])(line, answer);
      },
    ],
  ] satisfies readonly (readonly [string, Alter])[])('%s', async (_, alter) => {
    // three for each of the index, two platforms and the signature
    expect((await cosignTagsAsked(211, alter)).length).toBe(12);
  });

  test('is not trusted by verify, which asks for each tag', async () => {
    const image = await twoPlatforms(212);
    const { source } = await twoRegistries(true);
    await lab.push(image, source, 'app');
    const { backends, options } = lab.session();
    const asked = await requestsDuring(source, async () =>
      verify({ at: `docker://${source.registryHost}/app:v1` }, backends, options),
    );
    expect(asked['manifest-head']).toBe(1 + 3 * 3);
    expect(asked['tags-list']).toBeUndefined();
  });
});
