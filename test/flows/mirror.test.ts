import { ECR } from '@aws-sdk/client-ecr';
import { join } from 'node:path';
import { inspect as display } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { describeCopy } from '../../worker/commands/result.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { MemoryContent } from '../../worker/content/memory.ts';
import { ORIGINAL_DIGEST } from '../../worker/content/only-platforms.ts';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { MEDIA_TYPE, parseManifest, type Descriptor } from '../../worker/oci/manifest.ts';
import { describeFailure } from '../../worker/util/failure.ts';
import { addJson, makeImage, type MadeImage } from '../support/images.ts';
import { collect } from '../support/chunks.ts';
import { failureOf, sentenceOf, openLab, PASSWORD, requestsDuring } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, registry } = lab.stack;

const at = (where: LocalRegistry, name: string): string => `docker://${where.registryHost}/${name}`;

async function largestBlobOf(image: MadeImage): Promise<Descriptor> {
  const largest = blobsOf(await walk(image.content, [image.root])).toSorted((a, b) => b.size - a.size)[0];
  if (largest === undefined) throw new Error('the image has no blobs');
  return largest;
}

/** Bytes of one blob that a registry sent since `from`. */
function sentOf(where: LocalRegistry, d: Descriptor, from: number): number {
  return where.requests
    .slice(from)
    .filter((served) => /^(?:blob|layer)-get$/.test(served.kind) && served.path.endsWith(d.digest))
    .reduce((sum, served) => sum + served.sentBytes, 0);
}

describe('a mirror', () => {
  test('copies every platform, its signatures and SBOMs from a registry to ECR, and creates the repository', async () => {
    const image = await makeImage({ signed: true });
    await lab.push(image, registry, 'whole/app');
    const { copy, events } = lab.session();
    const result = await copy(`${at(registry, 'whole/app')}:v1`, `${at(ecr, 'mirrored/whole/app')}:v1`);
    // nothing had to be healed or retried
    expect(events.filter((event) => event.type === 'warning' || event.type === 'retry')).toEqual([]);
    expect(result).toMatchObject({ outcome: 'copied', digest: image.root.descriptor.digest });
    expect(result.copied?.referrers.map((referrer) => referrer.refused)).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    await expectSameImage(image.content, lab.view(ecr, 'mirrored/whole/app'), image.root);
  });

  test('copies an image from one ECR to the ECR of another account and region', async () => {
    const image = await makeImage({ signed: true, seed: 2 });
    await lab.push(image, ecr, 'abroad/app');
    await lab.session().copy(`${at(ecr, 'abroad/app')}:v1`, `${at(otherEcr, 'abroad/app')}:v1`);
    await expectSameImage(image.content, lab.view(otherEcr, 'abroad/app'), image.root);
  });

  test('copies a list and manifests of docker schema 2 unchanged', async () => {
    const image = await makeImage({ docker: true });
    expect(image.root.descriptor.mediaType).toBe(MEDIA_TYPE.dockerList);
    await lab.push(image, registry, 'schema2/app');
    await lab.session().copy(`${at(registry, 'schema2/app')}:v1`, `${at(ecr, 'schema2/app')}:v1`);
    await expectSameImage(image.content, lab.view(ecr, 'schema2/app'), image.root);
  });

  test('copies the cosign tags of the index and of each child', async () => {
    const image = await makeImage({ signed: true, seed: 3 });
    const signature = addJson(image.content, MEDIA_TYPE.ociManifest, {
      schemaVersion: 2,
      config: image.content.add(MEDIA_TYPE.ociEmpty, Buffer.from('{}')),
      layers: [image.content.add('application/vnd.dev.cosign.simplesigning.v1+json', Buffer.from('signed'))],
    });
    const tag = `${image.root.descriptor.digest.replace(':', '-')}.att`;
    await image.content.tag(tag, signature, () => expect.unreachable('it is there already'));
    await lab.push(image, registry, 'cosigned/app');
    await lab.session().copy(`${at(registry, 'cosigned/app')}:v1`, `${at(otherEcr, 'cosigned/app')}:v1`);
    const mirrored = lab.view(otherEcr, 'cosigned/app');
    expect((await mirrored.resolve(tag)).digest).toBe(signature.digest);
    expect((await Array.fromAsync(mirrored.tags())).filter((name) => name.startsWith('sha256-'))).toHaveLength(3);
    await expectSameImage(image.content, mirrored, image.root);
  });

  test('keeps the tag where the target names none, in registries and in its result', async () => {
    const image = await makeImage({ tag: 'release-7', seed: 30 });
    await lab.push(image, registry, 'kept/app');
    const result = await lab.session().copy(`${at(registry, 'kept/app')}:release-7`, at(ecr, 'kept/app'));
    expect(result.to).toBe(`${at(ecr, 'kept/app')}:release-7`);
    expect(await Array.fromAsync(lab.view(ecr, 'kept/app').tags())).toEqual(['release-7']);
  });

  test('copies by digest without a tag', async () => {
    const image = await makeImage({ seed: 4 });
    const { digest } = image.root.descriptor;
    await lab.push(image, registry, 'by-digest/app');
    await lab.session().copy(`${at(registry, 'by-digest/app')}@${digest}`, `${at(ecr, 'by-digest/app')}@${digest}`);
    const mirrored = lab.view(ecr, 'by-digest/app');
    await expectSameImage(image.content, mirrored, { ...image.root, tags: [] });
    expect(await Array.fromAsync(mirrored.tags())).toEqual([]);
  });

  test('copies only the requested platforms, and the new index names the original', async () => {
    const image = await makeImage({ seed: 5 });
    await lab.push(image, registry, 'platforms/app');
    const result = await lab
      .session()
      .copy(`${at(registry, 'platforms/app')}:v1`, `${at(ecr, 'platforms/app')}:v1`, { platforms: ['linux/arm64'] });
    expect(result.originalDigest).toBe(image.root.descriptor.digest);
    expect(result.digest).not.toBe(result.originalDigest);
    const mirrored = lab.view(ecr, 'platforms/app');
    const top = await mirrored.resolve('v1');
    expect(top.digest).toBe(result.digest);
    const index = parseManifest(await collect(await mirrored.open(top)), top.mediaType);
    if (index.kind !== 'index') throw new Error('it is no index');
    expect(index.annotations?.[ORIGINAL_DIGEST]).toBe(image.root.descriptor.digest);
    expect(index.manifests.map((d) => d.platform?.architecture)).toEqual(['arm64']);
    await expectSameImage(lab.view(ecr, 'platforms/app'), mirrored, { descriptor: top, tags: ['v1'] });
  });

  test('to ECR with an empty layer fails with one sentence that names what ECR refuses', async () => {
    const content = new MemoryContent();
    const top = addJson(content, MEDIA_TYPE.ociManifest, {
      schemaVersion: 2,
      config: content.add(MEDIA_TYPE.ociConfig, Buffer.from('{"os":"linux","architecture":"amd64"}')),
      layers: [content.add(MEDIA_TYPE.ociLayer, new Uint8Array())],
    });
    const { mediaType, digest, size } = top;
    const image = { content, root: { descriptor: { mediaType, digest, size }, tags: ['v1'] } };
    await content.tag('v1', image.root.descriptor, () => expect.unreachable('it is there already'));
    await lab.push(image, registry, 'empty/app');
    const copying = lab.session().copy(`${at(registry, 'empty/app')}:v1`, `${at(ecr, 'empty/app')}:v1`);
    const message = await sentenceOf(copying, 'UNSUPPORTED');
    expect(message).toMatch(/^target: push blob .* to \d+\.dkr\.ecr\..*\/empty\/app: ECR takes no empty blobs/);
    expect(await Array.fromAsync(lab.view(ecr, 'empty/app').tags()).catch(() => [])).toEqual([]);
  });
});

describe('repositories that ECR does not have', () => {
  test('are created with the requested settings', async () => {
    const image = await makeImage({ seed: 6 });
    await lab.push(image, registry, 'created/app');
    const { backends, options, copy } = lab.session({ createSettings: { tagMutability: 'IMMUTABLE' } });
    await copy(`${at(registry, 'created/app')}:v1`, `${at(ecr, 'created/app')}:v1`);
    expect(await backends.registry(ecr.registryHost, 'target').settings('created/app', options)).toMatchObject({
      tagMutability: 'IMMUTABLE',
    });
    await expectSameImage(image.content, lab.view(ecr, 'created/app'), image.root);
  });

  test('are not created when creation is off: NOT_FOUND, with advice', async () => {
    const image = await makeImage({ seed: 6 });
    await lab.push(image, registry, 'not-created/app');
    const { backends, options, copy } = lab.session({ create: false });
    const message = await sentenceOf(
      copy(`${at(registry, 'not-created/app')}:v1`, `${at(ecr, 'not-created/app')}:v1`),
      'NOT_FOUND',
    );
    expect(message).toMatch(/^target: .*not-created\/app.*; create it first, or let it be created$/);
    const repositories = await Array.fromAsync(
      backends.registry(ecr.registryHost, 'target').repositories('not-', options),
    );
    expect(repositories).toEqual([]);
  });
});

describe('an immutable tag', () => {
  test('is a success with no push when it stands for the same image already', async () => {
    const image = await makeImage({ seed: 7 });
    await lab.push(image, registry, 'immutable/app');
    const [from, to] = [`${at(registry, 'immutable/app')}:v1`, `${at(ecr, 'immutable/app')}:v1`];
    await lab.session({ createSettings: { tagMutability: 'IMMUTABLE' } }).copy(from, to);
    const counts = await requestsDuring(ecr, async () => {
      expect(await lab.session().copy(from, to)).toMatchObject({ outcome: 'unchanged' });
    });
    expect(Object.keys(counts).filter((kind) => /put|post|patch/.test(kind))).toEqual([]);
  });

  test('is CONFLICT with advice, and stays unchanged, when it stands for another image', async () => {
    const [before, after] = [await makeImage({ seed: 8 }), await makeImage({ seed: 9 })];
    await lab.push(before, registry, 'moved/app');
    const [from, to] = [`${at(registry, 'moved/app')}:v1`, `${at(ecr, 'moved/app')}:v1`];
    await lab.session({ createSettings: { tagMutability: 'IMMUTABLE' } }).copy(from, to);
    await lab.push(after, registry, 'moved/app');
    const message = await sentenceOf(lab.session().copy(from, to), 'CONFLICT');
    expect(message).toMatch(/^target: tag .*\/moved\/app:v1 as .*: the tag is immutable and stands for /);
    expect(message).toMatch(/; use another tag, or exclude this one from immutability$/);
    await expectSameImage(before.content, lab.view(ecr, 'moved/app'), before.root);
  });
});

describe('between repositories of one registry', () => {
  async function setMounting(value: 'ENABLED' | 'DISABLED'): Promise<void> {
    const client = new ECR({ region: 'us-east-1' });
    await client.putAccountSetting({ name: 'BLOB_MOUNTING', value });
    client.destroy();
  }

  test.each(['ENABLED', 'DISABLED'] as const)(
    'of ECR blobs are mounted, also into a new repository, with BLOB_MOUNTING %s',
    async (value) => {
      const image = await makeImage({ seed: 10 });
      const name = `mount/${value.toLowerCase()}`;
      await setMounting(value);
      await lab.push(image, ecr, `${name}/from`);
      const { copy } = lab.session();
      const before = ecr.requests.length;
      const { copied } = await copy(`${at(ecr, `${name}/from`)}:v1`, `${at(ecr, `${name}/to`)}:v1`);
      await setMounting('DISABLED');
      const blobs = blobsOf(await walk(image.content, [image.root])).length;
      expect(copied?.tallies.mounted.count).toBe(value === 'ENABLED' ? blobs : 0);
      // one POST a blob, since the upload that a refused mount began is used; a POST that found no repository began none
      const posts = ecr.requests.slice(before).filter((served) => served.kind === 'upload-post' && served.status < 400);
      expect(posts).toHaveLength(blobs);
      await expectSameImage(image.content, lab.view(ecr, `${name}/to`), image.root);
    },
  );

  test('of the plain registry only manifests are read', async () => {
    const image = await makeImage({ signed: true, seed: 11 });
    await lab.push(image, registry, 'mount/from');
    const counts = await requestsDuring(registry, async () =>
      lab.session().copy(`${at(registry, 'mount/from')}:v1`, `${at(registry, 'mount/to')}:v1`),
    );
    expect(counts['blob-get']).toBeUndefined();
    expect(counts['upload-put']).toBeUndefined();
    await expectSameImage(image.content, lab.view(registry, 'mount/to'), image.root);
  });
});

describe('an unchanged image', () => {
  test('costs its source one HEAD when referrers are not requested', async () => {
    const image = await makeImage({ seed: 12 });
    await lab.push(image, registry, 'budget/plain');
    const [from, to] = [`${at(registry, 'budget/plain')}:v1`, `${at(ecr, 'budget/plain')}:v1`];
    await lab.session().copy(from, to);
    const target: Record<string, number> = {};
    const source = await requestsDuring(registry, async () => {
      const counts = await requestsDuring(ecr, async () => {
        expect(await lab.session().copy(from, to, { referrers: false })).toMatchObject({ outcome: 'unchanged' });
      });
      Object.assign(target, counts);
    });
    expect(source).toEqual({ 'manifest-head': 1 });
    // an index, two manifests, two configs and five layers
    const blobs = blobsOf(await walk(image.content, [image.root])).length;
    expect(blobs).toBe(7);
    expect(target).toEqual({ api: 1, 'manifest-get': 3, 'manifest-head': 4, 'blob-head': blobs });
  });

  test('costs its source no manifest when it has no referrers, and one request for the referrers of each manifest', async () => {
    const image = await makeImage({ seed: 13 });
    await lab.push(image, registry, 'budget/asked');
    const [from, to] = [`${at(registry, 'budget/asked')}:v1`, `${at(ecr, 'budget/asked')}:v1`];
    await lab.session().copy(from, to);
    const source = await requestsDuring(registry, async () => {
      expect(await lab.session().copy(from, to)).toMatchObject({ outcome: 'unchanged' });
    });
    // the tag; the list of tags, for those of cosign; and for each of three manifests the list of its referrers
    expect(source).toEqual({ 'manifest-head': 1, 'tags-list': 1, 'referrers-list': 3 });
  });

  test('is requested by HEAD before anything is read by GET', async () => {
    const image = await makeImage({ seed: 14 });
    await lab.push(image, registry, 'budget/first');
    const before = registry.requests.length;
    await lab.session().copy(`${at(registry, 'budget/first')}:v1`, `${at(ecr, 'budget/first')}:v1`);
    const kinds = registry.requests.slice(before).map((served) => served.kind);
    expect(kinds.indexOf('manifest-head')).toBe(0);
    expect(kinds.filter((kind) => kind === 'manifest-get')).toHaveLength(3);
  });
});

describe('a dry run', () => {
  test('writes nothing, creates nothing, and reports what would be copied', async () => {
    const image = await makeImage({ signed: true, seed: 15 });
    await lab.push(image, registry, 'dry/app');
    const counts: Record<string, number> = {};
    const source = await requestsDuring(registry, async () => {
      const target = await requestsDuring(ecr, async () => {
        const result = await lab
          .session()
          .copy(`${at(registry, 'dry/app')}:v1`, `${at(ecr, 'dry/app')}:v1`, { dryRun: true });
        expect(result.outcome).toBe('planned');
        const { manifests } = await walk(image.content, [image.root]);
        const blobs = blobsOf(await walk(image.content, [image.root]));
        expect(result.copied?.tallies.copied.count).toBe(blobs.length + manifests.size);
      });
      Object.assign(counts, target);
    });
    expect(source['blob-get']).toBeUndefined();
    expect(Object.keys(counts).filter((kind) => /put|post|patch/.test(kind))).toEqual([]);
    const { backends, options } = lab.session();
    expect(await Array.fromAsync(backends.registry(ecr.registryHost, 'target').repositories('dry/', options))).toEqual(
      [],
    );
  });
});

describe('referrers of an image that ECR refuses', () => {
  test('make a partial result, not a failed image', async () => {
    const image = await makeImage({ seed: 16 });
    const { descriptor } = image.root;
    const artifact = (artifactType: string): Descriptor =>
      addJson(image.content, MEDIA_TYPE.ociManifest, {
        schemaVersion: 2,
        artifactType,
        config: image.content.add(MEDIA_TYPE.ociEmpty, Buffer.from('{}')),
        layers: [image.content.add('text/plain', Buffer.from(artifactType))],
        subject: descriptor,
      });
    const refused = artifact('application/vnd.example.sbom; version=1');
    const taken = artifact('application/vnd.example.sbom');
    await lab.push(image, registry, 'partial/app');
    const { copy, events } = lab.session();
    const result = await copy(`${at(registry, 'partial/app')}:v1`, `${at(ecr, 'partial/app')}:v1`);
    expect(result.outcome).toBe('copied');
    const byDigest = new Map(result.copied?.referrers.map((r) => [r.descriptor.digest, r.refused?.code]));
    expect(byDigest).toEqual(
      new Map([
        [refused.digest, 'UNSUPPORTED'],
        [taken.digest, undefined],
      ]),
    );
    expect(events.filter((event) => event.type === 'referrer-refused')).toMatchObject([{ digest: refused.digest }]);
    expect(describeCopy(result, 1).json).toMatchObject({ outcome: 'copied', partial: true });
    const mirrored = lab.view(ecr, 'partial/app');
    await expectSameImage(image.content, mirrored, image.root, { referrers: false });
    expect((await Array.fromAsync(mirrored.referrers(descriptor))).map((d) => d.digest)).toEqual([taken.digest]);
  });
});

describe('a mirror with trouble on the way', () => {
  test('continues when tokens expire in the middle of it, on both sides', async () => {
    const image = await makeImage({ signed: true, seed: 17 });
    await lab.push(image, otherEcr, 'expiring/app');
    otherEcr.faults.add({ operation: 'blob-get', skip: 2 }, { kind: 'expire-token' });
    ecr.faults.add({ operation: 'upload-put', skip: 1 }, { kind: 'expire-token' });
    ecr.faults.add({ operation: 'manifest-put', skip: 1 }, { kind: 'expire-token' });
    await lab.session().copy(`${at(otherEcr, 'expiring/app')}:v1`, `${at(ecr, 'expiring/app')}:v1`);
    expect([otherEcr.faults.pending, ecr.faults.pending]).toEqual([0, 0]);
    await expectSameImage(image.content, lab.view(ecr, 'expiring/app'), image.root);
  });

  test.each([
    ['upload-post', 1],
    ['upload-put', 1],
    ['manifest-put', 1],
    ['manifest-head', 0],
  ] as const)('continues when bearer tokens expire before a %s', async (operation, skip) => {
    const guarded = await lab.registry({ mode: 'oci', auth: 'bearer', users: { ann: PASSWORD } });
    const image = await makeImage({ signed: true, seed: 18 });
    await lab.push(image, registry, 'bearer/app');
    guarded.faults.add({ operation, skip }, { kind: 'expire-token' });
    const { copy } = lab.session({ target: { credentials: `ann:${PASSWORD}` } });
    await copy(`${at(registry, 'bearer/app')}:v1`, `${at(guarded, 'bearer/app')}:v1`);
    expect(guarded.faults.pending).toBe(0);
    await expectSameImage(image.content, lab.view(guarded, 'bearer/app'), image.root);
  });

  test.each([0, 1, 50_000])('a body that breaks off after %i bytes is resumed there', async (afterBytes) => {
    const image = await makeImage({ platforms: ['linux/amd64'], layers: [150_000], seed: 19 });
    const blob = await largestBlobOf(image);
    for (const source of [registry, otherEcr]) {
      const name = `cut/${afterBytes}`;
      await lab.push(image, source, name);
      const before = source.requests.length;
      const on = source === registry ? 'blob-get' : 'layer-get';
      source.faults.add({ operation: on, digest: blob.digest, times: 2 }, { kind: 'cut-answer', afterBytes });
      const { copy, events } = lab.session();
      await copy(`${at(source, name)}:v1`, `${at(ecr, `${name}/${source === registry ? 'plain' : 'ecr'}`)}:v1`);
      expect(source.faults.pending).toBe(0);
      expect(sentOf(source, blob, before)).toBe(blob.size);
      expect(events.filter((event) => event.type === 'retry')).toHaveLength(2);
    }
    await expectSameImage(image.content, lab.view(ecr, `cut/${afterBytes}/plain`), image.root);
    await expectSameImage(image.content, lab.view(ecr, `cut/${afterBytes}/ecr`), image.root);
  });

  test('recovers from answers of 429 and 500 and dropped uploads, and reports all of them', async () => {
    const image = await makeImage({ signed: true, seed: 20 });
    await lab.push(image, registry, 'trouble/app');
    registry.faults.add({ operation: 'manifest-get' }, { kind: 'answer', status: 429, retryAfterSeconds: 7 });
    registry.faults.add({ operation: 'blob-get', times: 2 }, { kind: 'answer', status: 500 });
    ecr.faults.add({ operation: 'upload-put', skip: 1 }, { kind: 'cut-request', afterBytes: 1000 });
    ecr.faults.add({ operation: 'upload-put', skip: 2 }, { kind: 'lose-answer' });
    ecr.faults.add({ operation: 'upload-post' }, { kind: 'answer', status: 503 });
    ecr.faults.add({ operation: 'manifest-put', skip: 1, times: 2 }, { kind: 'answer', status: 429 });
    ecr.faults.add({ operation: 'manifest-put', skip: 2 }, { kind: 'lose-answer' });
    const { copy, events, options } = lab.session();
    await copy(`${at(registry, 'trouble/app')}:v1`, `${at(ecr, 'trouble/app')}:v1`);
    expect([registry.faults.pending, ecr.faults.pending]).toEqual([0, 0]);
    expect(events.filter((event) => event.type === 'retry')).toHaveLength(9);
    // for as long as the registry asked
    expect(options.clock.sleeps).toContain(7000);
    await expectSameImage(image.content, lab.view(ecr, 'trouble/app'), image.root);
  });

  test('recovers from a throttled PutImage by waiting', async () => {
    const { options, copy } = lab.session();
    const slow = await lab.registry({
      mode: 'ecr',
      account: '333333333333',
      region: 'eu-north-1',
      putImagesPerSecond: 3,
      clock: options.clock,
    });
    const image = await makeImage({ signed: true, seed: 21 });
    await lab.push(image, registry, 'throttled/app');
    await copy(`${at(registry, 'throttled/app')}:v1`, `${at(slow, 'throttled/app')}:v1`);
    expect(slow.requests.some((served) => served.kind === 'manifest-put' && served.status === 429)).toBe(true);
    const view = lab.view(slow, 'throttled/app');
    await expectSameImage(image.content, view, image.root);
  });

  test.each([
    ['other bytes', { kind: 'lie-digest' }],
    ['more bytes', { kind: 'lie-size', byBytes: 10 }],
    ['fewer bytes', { kind: 'lie-size', byBytes: -10 }],
  ] as const)(
    'a source that sends %s of a layer is CORRUPT, and nothing of it becomes visible',
    async (what, fault) => {
      const image = await makeImage({ platforms: ['linux/amd64'], seed: 22 });
      const name = `lying/${what.replace(' ', '-')}`;
      await lab.push(image, registry, name);
      const blob = await largestBlobOf(image);
      registry.faults.add({ operation: 'blob-get', digest: blob.digest, times: 20 }, fault);
      const message = await sentenceOf(
        lab.session().copy(`${at(registry, name)}:v1`, `${at(ecr, name)}:v1`),
        'CORRUPT',
      );
      registry.faults.clear();
      expect(message).toMatch(new RegExp(`^source: ${at(registry, name)}:v1: ${blob.digest} `));
      const target = lab.view(ecr, name);
      expect(await target.has(blob)).toBe(false);
      expect(await Array.fromAsync(target.tags())).toEqual([]);
    },
  );

  test('a source that sends a manifest that does not match its digest is CORRUPT', async () => {
    const image = await makeImage({ seed: 23 });
    await lab.push(image, registry, 'lying/manifest');
    registry.faults.add({ operation: 'manifest-get', times: 20 }, { kind: 'lie-digest' });
    const copying = lab.session().copy(`${at(registry, 'lying/manifest')}:v1`, `${at(ecr, 'lying/manifest')}:v1`);
    const message = await sentenceOf(copying, 'CORRUPT');
    registry.faults.clear();
    expect(message).toMatch(/^source: .*\/lying\/manifest/);
  });
});

describe('a mirror that cannot be', () => {
  test.each([
    ['repository', 'no/such/app:v1'],
    ['tag', 'there/app:no-such-tag'],
    ['digest', `there/app@sha256:${'0'.repeat(64)}`],
  ])('is NOT_FOUND and named when the source has no such %s', async (_, name) => {
    await lab.push(await makeImage({ seed: 24 }), registry, 'there/app');
    const message = await sentenceOf(lab.session().copy(at(registry, name), `${at(ecr, 'never/app')}:v1`), 'NOT_FOUND');
    expect(message).toContain(`${registry.registryHost}/${name}`);
    expect(message).toMatch(/^source: /);
  });

  test('is UNAUTHENTICATED with the side whose credentials are wrong', async () => {
    const guarded = await lab.registry({ mode: 'oci', auth: 'bearer', users: { ann: PASSWORD } });
    await lab.push(await makeImage({ seed: 25 }), registry, 'wrong/app');
    const [from, to] = [`${at(registry, 'wrong/app')}:v1`, `${at(guarded, 'wrong/app')}:v1`];
    const wrong = lab.session({ target: { credentials: 'ann:wrong-password' } });
    const failure = await failureOf(wrong.copy(from, to), 'UNAUTHENTICATED');
    expect(describeFailure(failure)).toMatch(/^target: /);
    expect(describeFailure(failure)).toContain(`the credentials for ${guarded.registryHost} are wrong`);
    const none = await failureOf(lab.session().copy(to, at(ecr, 'never/app:v1')), 'UNAUTHENTICATED');
    expect(describeFailure(none)).toContain(`transship login ${guarded.registryHost}`);
    expect(describeFailure(none)).toMatch(/^source: /);
  });

  test.each([
    ['ecr:BatchGetImage', 'source'],
    ['ecr:GetDownloadUrlForLayer', 'source'],
    ['ecr:CreateRepository', 'target'],
    ['ecr:InitiateLayerUpload', 'target'],
    ['ecr:CompleteLayerUpload', 'target'],
    ['ecr:PutImage', 'target'],
  ] as const)('is DENIED and names %s when that is missing', async (action, side) => {
    const region = 'eu-north-1';
    const image = await makeImage({ platforms: ['linux/amd64'], seed: 26 });
    const account = '444444444444';
    const name = `denied/${action.slice(4).toLowerCase()}`;
    const home = `docker://${account}.dkr.ecr.${region}.amazonaws.com/${name}:v1`;
    await lab.push(image, registry, name);
    if (side === 'target') {
      const strict = await lab.registry({ mode: 'ecr', account, region, deny: [action] });
      const failure = await failureOf(lab.session().copy(`${at(registry, name)}:v1`, home), 'DENIED');
      expect(describeFailure(failure)).toMatch(
        new RegExp(`^target: .*${strict.registryHost}/${name}.*the caller needs .*${action}`),
      );
      return;
    }
    const folder = join(lab.folder, name);
    const lenient = await lab.registry({ mode: 'ecr', account, region, folder });
    await lab.push(image, lenient, name);
    await lenient.close();
    const strict = await lab.registry({ mode: 'ecr', account, region, folder, deny: [action] });
    const failure = await failureOf(lab.session().copy(home, `${at(registry, `${name}/never`)}:v1`), 'DENIED');
    expect(describeFailure(failure)).toMatch(
      new RegExp(`^source: .*${strict.registryHost}/${name}.*the caller needs .*${action}`),
    );
  });
});

describe('secrets', () => {
  test('appear in no message, event or result of failed copies', async () => {
    const guarded = await lab.registry({ mode: 'oci', auth: 'bearer', users: { ann: PASSWORD } });
    const image = await makeImage({ seed: 27 });
    await lab.push(image, guarded, 'secret/app');
    await lab.push(image, otherEcr, 'secret/app');
    const written: string[] = [];
    const failing = async (from: string, to: string, password = PASSWORD): Promise<void> => {
      const side = { credentials: `ann:${password}` };
      const { copy, events } = lab.session({ source: side, target: side });
      const failure = await copy(from, to).then(
        () => expect.unreachable('it succeeded'),
        (error: unknown) => error,
      );
      written.push(display(failure, { depth: 10 }), JSON.stringify(events), JSON.stringify(failure));
    };
    guarded.faults.add({ operation: 'blob-get', times: 50 }, { kind: 'answer', status: 500 });
    await failing(`${at(guarded, 'secret/app')}:v1`, `${at(ecr, 'secret/app')}:v1`);
    guarded.faults.clear();
    guarded.faults.add({ operation: 'upload-put', times: 50 }, { kind: 'cut-request', afterBytes: 10 });
    await failing(`${at(otherEcr, 'secret/app')}:v1`, `${at(guarded, 'secret/to')}:v1`);
    guarded.faults.clear();
    for (const fault of [
      { kind: 'answer', status: 500 },
      { kind: 'cut-answer', afterBytes: 0 },
      { kind: 'lie-digest' },
    ] as const) {
      otherEcr.faults.add({ operation: 'layer-get', times: 50 }, fault);
      await failing(`${at(otherEcr, 'secret/app')}:v1`, `${at(guarded, 'secret/to')}:v1`);
      otherEcr.faults.clear();
    }
    await failing(`${at(guarded, 'secret/app')}:v1`, `${at(ecr, 'secret/app')}:v1`, 'guessed-password');
    const all = written.join('\n');
    expect(all).toContain('retry');
    for (const secret of [PASSWORD, 'guessed-password', 'X-Amz-']) expect(all).not.toContain(secret);
    expect(all).not.toMatch(/\b(?:Bearer|Basic) +[\w+/=.-]{8,}/);
    expect(all).not.toContain(Buffer.from(`ann:${PASSWORD}`).toString('base64'));
  });
});
