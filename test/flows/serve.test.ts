import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openServedPlace, type ServePlaceOptions } from '../../worker/images/serve-place.ts';
import { backup } from '../../worker/images/backup.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { openFiles } from '../../worker/objects/files/store.ts';
import { hexOf } from '../../worker/oci/digest.ts';
import type { Descriptor } from '../../worker/oci/manifest.ts';
import { parsePlace } from '../../worker/oci/place.ts';
import type { ServeOptions } from '../../worker/serve/server.ts';
import { systemClock } from '../../worker/util/clock.ts';
import type { Event } from '../../worker/util/events.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { failureOf, openLab } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';
import { serveForTest, storeImages, type Served } from '../support/served.ts';

const lab = await openLab();
const { ecr, bucket } = lab.stack;
afterAll(() => lab[Symbol.asyncDispose]());

async function served(
  place: string,
  options: Partial<ServePlaceOptions> = {},
  serveOptions: Partial<ServeOptions> = {},
): Promise<Served> {
  const { backends } = lab.session();
  const images = await openServedPlace(parsePlace(place), backends, { clock: systemClock, ...options });
  return serveForTest(images, serveOptions);
}

const folder = async (): Promise<string> => mkdtemp(join(lab.folder, 'store-'));

async function layerOf({ content, root }: MadeImage): Promise<Descriptor> {
  const layer = blobsOf(await walk(content, [root])).find(({ size }) => size > 60_000);
  if (layer === undefined) throw new Error('the image has no large layer');
  return layer;
}

describe('serve of archives', () => {
  test('serves every platform, signature and SBOM of archives in a bucket, digests unchanged', async () => {
    const image = await makeImage({ signed: true, seed: 1 });
    await lab.push(image, ecr, 'served/app');
    const session = lab.session();
    await backup(
      { from: `docker://${ecr.registryHost}/served/app`, to: `s3://${bucket}/served/` },
      session.backends,
      session.options,
    );
    const { repository, get } = await served(`s3://${bucket}/served/`);
    await expectSameImage(image.content, repository('served/app'), image.root);
    expect(await (await get('/v2/_catalog')).json()).toEqual({ repositories: ['served/app'] });
    expect(await (await get('/v2/served/app/tags/list')).json()).toEqual({ name: 'served/app', tags: ['v1'] });
  });

  test('serves images of compressed archives, and reports at its start how many there are', async () => {
    const place = `${await folder()}/`;
    const session = lab.session();
    const images = new Map<string, MadeImage>();
    for (const [tag, ending, seed] of [
      ['v1', 'tar', 17],
      ['v2', 'tar.gz', 18],
      ['v3', 'tar.zst', 19],
    ] as const) {
      const image = await makeImage({ seed, tag, signed: true, layers: [150_000, 700] });
      images.set(tag, image);
      await lab.push(image, ecr, 'packed/app');
      const request = { from: `docker://${ecr.registryHost}/packed/app:${tag}`, snapshotBy: 'test' };
      await backup(
        { ...request, to: `oci-archive:${place}{repository}/{tag}.${ending}` },
        session.backends,
        session.options,
      );
    }
    const events: Event[] = [];
    const report = (event: Event): void => void events.push(event);
    for (const asOfMs of [undefined, Infinity]) {
      const { get, repository } = await served(place, { report, asOfMs });
      expect(await (await get('/v2/packed/app/tags/list')).json()).toMatchObject({ name: 'packed/app' });
      for (const image of images.values()) await expectSameImage(image.content, repository('packed/app'), image.root);
      const [image] = [...images.values()].slice(1);
      const layer = await layerOf(image ?? expect.unreachable());
      const url = `/v2/packed/app/blobs/${layer.digest}`;
      const whole = Buffer.from(await (await get(url)).arrayBuffer());
      const part = await get(url, { range: 'bytes=100-199' });
      expect(part.status).toBe(206);
      expect(Buffer.from(await part.arrayBuffer()).equals(whole.subarray(100, 200))).toBe(true);
    }
    const message = expect.stringMatching(/^2 archives are compressed, so each pull unpacks from the beginning/);
    expect(events).toEqual([
      { type: 'warning', message },
      { type: 'warning', message },
    ]);
  });

  test('finds a blob by its digest alone, though no manifest was requested', async () => {
    const place = `${await folder()}/`;
    const [one, two] = [await makeImage({ seed: 2 }), await makeImage({ seed: 3, tag: 'v2' })];
    const session = lab.session();
    for (const [image, tag] of [
      [one, 'v1'],
      [two, 'v2'],
    ] as const) {
      await lab.push(image, ecr, 'blobs/app');
      await session.copy(`docker://${ecr.registryHost}/blobs/app:${tag}`, `oci-archive:${place}${tag}.tar`);
    }
    const { get } = await served(place);
    const layer = await layerOf(two);
    const answer = await get(`/v2/blobs/app/blobs/${layer.digest}`);
    expect(answer.status).toBe(200);
    expect((await answer.arrayBuffer()).byteLength).toBe(layer.size);
  });

  test('reports an archive that is broken, answers 500 for its tag, and serves the others', async () => {
    const place = `${await folder()}/`;
    const reported: Event[] = [];
    const image = await makeImage({ seed: 4 });
    await lab.push(image, ecr, 'broken/app');
    const session = lab.session();
    await session.copy(`docker://${ecr.registryHost}/broken/app:v1`, `oci-archive:${place}v1.tar`);
    await mkdir(join(place, 'broken'));
    await writeFile(join(place, 'broken', 'v2.tar'), (await readFile(`${place}v1.tar`)).subarray(0, 700));
    const { get, repository } = await served(place, { report: (event) => void reported.push(event) });
    await expectSameImage(image.content, repository('broken/app'), image.root);
    const answer = await get('/v2/broken/manifests/v2');
    expect([answer.status, await answer.json()]).toMatchObject([500, { errors: [{ code: 'UNKNOWN' }] }]);
    expect(reported).toMatchObject([{ type: 'warning', message: expect.stringContaining('broken/v2.tar') }]);
  });
});

describe('serve of a store', () => {
  test('serves every platform, signature and SBOM, digests unchanged', async () => {
    const image = await makeImage({ signed: true, seed: 10 });
    const at = await folder();
    await storeImages(openFiles(at), '', [{ repository: 'team/app', image }]);
    const { repository, get } = await served(`store:${at}`);
    await expectSameImage(image.content, repository('team/app'), image.root);
    const { manifests } = (await (
      await get(`/v2/team/app/referrers/${image.root.descriptor.digest}?artifactType=application/spdx%2Bjson`)
    ).json()) as { manifests: readonly Descriptor[] };
    expect(manifests).toMatchObject([{ artifactType: 'application/spdx+json' }]);
  });

  test('serves later backups once a tag is missing or the last look is old', async () => {
    const at = await folder();
    const add = async (tag: string, seed: number, day: number): Promise<MadeImage> => {
      const image = await makeImage({ seed, tag });
      await storeImages(openFiles(at), '', [{ repository: 'app', image }], {
        finishedAt: `2026-05-0${day}T00:00:00.000Z`,
      });
      return image;
    };
    const first = await add('v1', 13, 1);
    let laterMs = 0;
    const clock = { ...systemClock, now: () => systemClock.now() + laterMs };
    const { get } = await served(`store:${at}`, {}, { clock });
    const fixed = await served(`store:${at}`, { snapshot: 'latest' }, { clock });
    const statusOf = async (tag: string, { get: ask } = { get }): Promise<number> =>
      (await ask(`/v2/app/manifests/${tag}`)).status;
    const digestOf = async (tag: string): Promise<string | null> =>
      (await get(`/v2/app/manifests/${tag}`)).headers.get('docker-content-digest');
    const both = await add('v2', 14, 2);
    // the look at the start was a moment ago
    expect(await statusOf('v2')).toBe(404);
    laterMs += 31_000;
    expect(await digestOf('v2')).toBe(both.root.descriptor.digest);
    expect(await digestOf('v1')).toBeNull();
    expect(await statusOf('v2', fixed)).toBe(404);
    const moved = await add('v2', 15, 3);
    laterMs += 5 * 60_000;
    expect(await digestOf('v2')).toBe(both.root.descriptor.digest);
    // waits for the look that the previous request began
    expect(await statusOf('v9')).toBe(404);
    expect(await digestOf('v2')).toBe(moved.root.descriptor.digest);
    expect((await fixed.get('/v2/app/manifests/v1')).headers.get('docker-content-digest')).toBe(
      first.root.descriptor.digest,
    );
  });

  test('keeps serving the previous content where the backup cannot be read again, and reports it', async () => {
    const at = await folder();
    const image = await makeImage({ seed: 16 });
    await storeImages(openFiles(at), '', [{ repository: 'app', image }]);
    let laterMs = 0;
    const clock = { ...systemClock, now: () => systemClock.now() + laterMs };
    const { get, events } = await served(`store:${at}`, {}, { clock });
    await rm(join(at, 'transship-store.json'));
    await writeFile(join(at, 'snapshots', 'new'), '');
    laterMs += 31_000;
    expect((await get('/v2/app/manifests/v9')).status).toBe(404);
    expect((await get('/v2/app/manifests/v1')).status).toBe(200);
    expect(events).toContainEqual({
      type: 'warning',
      message: expect.stringMatching(
        /cannot be read again, so what was there before is served: source: there is no store/,
      ),
    });
  });

  test('serves the state of an earlier time, or of one snapshot', async () => {
    const at = await folder();
    const [old, young] = [await makeImage({ seed: 11 }), await makeImage({ seed: 12 })];
    await storeImages(openFiles(at), '', [{ repository: 'app', image: old }], {
      finishedAt: '2026-05-01T00:00:00.000Z',
    });
    await storeImages(openFiles(at), '', [{ repository: 'app', image: young }], {
      finishedAt: '2026-05-02T00:00:00.000Z',
    });
    const digestIn = async (options: Partial<ServePlaceOptions>): Promise<string | null> =>
      (await (await served(`store:${at}`, options)).get('/v2/app/manifests/v1')).headers.get('docker-content-digest');
    expect(await digestIn({})).toBe(young.root.descriptor.digest);
    expect(await digestIn({ asOfMs: Date.parse('2026-05-01T12:00:00Z') })).toBe(old.root.descriptor.digest);
    expect(await digestIn({ snapshot: 'latest' })).toBe(young.root.descriptor.digest);
  });

  test('puts hosts before names when there are several registries, and finds what containerd asks a mirror for', async () => {
    const at = await folder();
    const [one, two] = [await makeImage({ seed: 13 }), await makeImage({ seed: 14 })];
    await storeImages(openFiles(at), '', [{ repository: 'team/app', image: one }], { host: 'one.example.com' });
    await storeImages(openFiles(at), '', [{ repository: 'team/app', image: two }], { host: 'two.example.com:5000' });
    const { get } = await served(`store:${at}`);
    const digestAt = async (path: string): Promise<string | null> =>
      (await get(path)).headers.get('docker-content-digest');
    expect(await (await get('/v2/_catalog')).json()).toEqual({
      repositories: ['one.example.com/team/app', 'two.example.com_5000/team/app'],
    });
    expect(await digestAt('/v2/one.example.com/team/app/manifests/v1')).toBe(one.root.descriptor.digest);
    expect(await digestAt('/v2/team/app/manifests/v1?ns=two.example.com:5000')).toBe(two.root.descriptor.digest);
    // the name does not decide which registry
    expect((await get('/v2/team/app/manifests/v1')).status).toBe(404);
  });

  test('breaks the connection of a damaged blob, and does not serve a damaged manifest', async () => {
    const at = await folder();
    const image = await makeImage({ seed: 15, layers: [2_000_000] });
    await storeImages(openFiles(at), '', [{ repository: 'app', image }]);
    const layer = await layerOf(image);
    for (const { digest } of [layer, image.root.descriptor]) {
      const path = join(at, 'blobs', 'sha256', hexOf(digest));
      const bytes = await readFile(path);
      bytes[10] = (bytes[10] ?? 0) ^ 1;
      await writeFile(path, bytes);
    }
    const { get, events } = await served(`store:${at}`);
    const whole = async (): Promise<ArrayBuffer> => (await get(`/v2/app/blobs/${layer.digest}`)).arrayBuffer();
    await expect(whole()).rejects.toThrow('terminated');
    const manifest = await get('/v2/app/manifests/v1');
    expect(manifest.status).toBe(500);
    expect(await manifest.json()).toMatchObject({ errors: [{ code: 'UNKNOWN' }] });
    expect(events).toContainEqual(expect.objectContaining({ message: expect.stringContaining('other bytes than') }));
  });

  test('redirects reads of blobs to S3, with a URL that no event contains', async () => {
    const image = await makeImage({ seed: 16 });
    await storeImages(lab.session().backends.bucket(bucket), 'redirect/', [{ repository: 'app', image }]);
    const { get, events, repository } = await served(`store:s3://${bucket}/redirect/`, {}, { redirect: true });
    const layer = await layerOf(image);
    const answer = await get(`/v2/app/blobs/${layer.digest}`);
    expect(answer.status).toBe(307);
    const location = answer.headers.get('location') ?? '';
    expect(location).toContain('X-Amz-Signature=');
    const part = await fetch(location, { headers: { range: 'bytes=10-19' } });
    expect([part.status, (await part.arrayBuffer()).byteLength]).toEqual([206, 10]);
    await expectSameImage(image.content, repository('app'), image.root);
    expect(JSON.stringify(events)).not.toMatch(/Signature|Amz/);
  });

  test('fails for a place without a backup', async () => {
    await failureOf(served(`store:${await folder()}`), 'NOT_FOUND');
    await failureOf(served('registry.example.com'), 'INVALID');
  });
});
