import { ListObjectVersionsCommand } from '@aws-sdk/client-s3';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { backup } from '../../worker/images/backup.ts';
import { execute, type PruneResult } from '../../worker/images/prune.ts';
import { planPlaces, type PlanRequest } from '../../worker/images/plan-places.ts';
import { inventories } from '../../worker/images/inventories.ts';
import { parsePrunePlace } from '../../worker/images/prune-places.ts';
import { verify } from '../../worker/images/verify.ts';
import type { Deletions, NotDeleted } from '../../worker/images/deletions.ts';
import { formatPlan, readPlan } from '../../worker/retention/plan-file.ts';
import { MemoryContent } from '../../worker/content/memory.ts';
import { copy } from '../../worker/copy/copy.ts';
import { digestOf } from '../../worker/oci/digest.ts';
import { MEDIA_TYPE, type Descriptor } from '../../worker/oci/manifest.ts';
import { openRegistry } from '../../worker/registry/registry.ts';
import { append } from '../../worker/util/lists.ts';
import { CrashPoints } from '../support/crash.ts';
import type { PrunePlan } from '../../worker/retention/plan.ts';
import type { Policy } from '../../worker/retention/policy.ts';
import type { Inventory } from '../../worker/retention/inventory.ts';
import { readFolder } from '../../worker/service/cleaner/places.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { callEcr } from '../support/call-ecr.ts';
import { clientOf } from '../support/local-s3.ts';
import { alteringFront } from '../support/altering-front.ts';
import { addJson, makeImage, type MadeImage } from '../support/images.ts';
import { openLab, type Session } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry, bucket } = lab.stack;
const client = clientOf(lab.stack.s3);
afterAll(() => client.destroy());
const DAY_MS = 24 * 60 * 60 * 1000;

/** A session `days` from now, when everything that was pushed is that old. */
function later(days: number): Pick<Session, 'backends' | 'events'> & {
  readonly options: Parameters<typeof execute>[2];
} {
  const { backends, events, options } = lab.session();
  const clock = { ...systemClock, now: () => Date.now() + days * DAY_MS };
  return { backends, events, options: { report: options.report, clock } };
}

async function plan(place: string, policy: Policy, more: Partial<PlanRequest> = {}): Promise<PrunePlan> {
  const { backends, options } = later(10);
  return planPlaces({ places: [place], policies: [{ repositories: ['*'], ...policy }], ...more }, backends, options);
}

async function carryOut(planned: PrunePlan): Promise<PruneResult> {
  const { backends, options } = later(10);
  return execute(planned, backends, options);
}

async function readAll(place: string): Promise<readonly Inventory[]> {
  const { backends, options } = later(10);
  return Array.fromAsync(inventories([parsePrunePlace(place)], backends, options));
}

const idsOf = (all: readonly Inventory[]): readonly string[] =>
  all.flatMap(({ items }) => items.map(({ id }) => id)).sort();
const doomedIn = ({ repositories }: PrunePlan): readonly string[] =>
  repositories.flatMap(({ items }) => items.flatMap(({ id, action }) => (action === 'delete' ? [id] : []))).sort();

async function pushed(
  where: LocalRegistry,
  repository: string,
  seeds: readonly number[],
): Promise<readonly MadeImage[]> {
  const images: MadeImage[] = [];
  for (const seed of seeds) {
    const image = await makeImage({ seed, signed: true, tag: `v${seed}`, layers: [300, 400] });
    await lab.push(image, where, repository);
    images.push(image);
  }
  return images;
}

async function push(where: LocalRegistry, repository: string, tag: string): Promise<void> {
  await lab.push(await makeImage({ seed: 6, tag, layers: [200], platforms: ['linux/amd64'] }), where, repository);
}

async function expectWhole(
  where: LocalRegistry,
  repository: string,
  tags: readonly string[],
  manifests = 8,
): Promise<void> {
  const { backends, options } = lab.session();
  for (const tag of tags) {
    const at = `docker://${where.registryHost}/${repository}:${tag}`;
    const [result] = await verify({ at, depth: 'bytes' }, backends, options);
    expect(result).toMatchObject({ faults: [], manifests });
  }
}

describe('prune of ECR', () => {
  test('deletes exactly what its plan names, with children and signatures, and nothing the second time', async () => {
    const repository = 'prune/app';
    const place = `${ecr.registryHost}/${repository}`;
    await pushed(ecr, repository, [1, 2, 3, 4]);
    // a moved tag leaves its image without one
    await lab.push(
      await makeImage({ seed: 9, tag: 'v3', layers: [300, 400], platforms: ['linux/amd64'] }),
      ecr,
      repository,
    );
    const before = await readAll(place);
    const planned = await plan(place, { keepLast: 2, untaggedAfterDays: 1 });
    expect(planned.repositories.map(({ refused }) => refused)).toEqual([undefined]);
    const result = await carryOut(planned);
    expect(result).toMatchObject({ gone: 0, failures: [], deleted: doomedIn(planned).length });
    const after = await readAll(place);
    expect(idsOf(after)).toEqual(idsOf(before).filter((id) => !doomedIn(planned).includes(id)));
    // two images with eight manifests each, and the untagged image with its eight
    expect(result.deleted).toBe(24);
    await expectWhole(ecr, repository, ['v4']);
    expect(doomedIn(await plan(place, { keepLast: 2, untaggedAfterDays: 1 }))).toEqual([]);
  });
});

describe('prune of ECR with an archived index', () => {
  test('deletes no older untagged image, because the index may list it, and no image in use', async () => {
    const repository = 'archived/app';
    const place = `${ecr.registryHost}/${repository}`;
    const archived = await makeImage({ seed: 3, tag: 'old', layers: [200] });
    await lab.push(archived, ecr, repository);
    await callEcr(ecr.url, 'us-east-1', 'UpdateImageStorageClass', {
      repositoryName: repository,
      imageId: { imageDigest: archived.root.descriptor.digest },
      targetStorageClass: 'ARCHIVE',
    });
    for (const seed of [4, 5])
      await lab.push(
        await makeImage({ seed, tag: 'moved', layers: [200], platforms: ['linux/amd64'] }),
        ecr,
        repository,
      );
    const planned = await plan(place, { untaggedAfterDays: 1 });
    const reasons = planned.repositories.flatMap(({ items }) =>
      items.map(({ action, reason }) => `${action} ${reason}`),
    );
    expect(reasons.filter((reason) => reason.includes('the archived index sha256:'))).toHaveLength(2);
    // a later push than the index cannot be one of its children
    expect(await carryOut(planned)).toMatchObject({ deleted: 1, failures: [] });
  });

  test('judges an index by the pulls of its images, because reading it for its children changes its own', async () => {
    const repository = 'pulled/app';
    const place = `${ecr.registryHost}/${repository}`;
    const image = await makeImage({ seed: 6, layers: [200] });
    await lab.push(image, ecr, repository);
    await lab.push(await makeImage({ seed: 7, tag: 'v2', layers: [200] }), ecr, repository);
    const [first] = await readAll(place);
    const [again] = await readAll(place);
    const pulls = (inventory?: Inventory): readonly unknown[] =>
      inventory?.items.map(({ pulledAtMs }) => pulledAtMs) ?? [];
    expect(pulls(again)).toEqual(pulls(first));
    expect(again?.items.every(({ pulledAtMs, pushedAtMs }) => pulledAtMs === pushedAtMs)).toBe(true);
  });
});

describe('prune of a registry', () => {
  test('deletes images by digest, with everything only they lead to', async () => {
    const repository = 'prune/plain';
    const place = `${registry.registryHost}/${repository}`;
    await pushed(registry, repository, [1, 2, 3]);
    const before = await readAll(place);
    expect(before[0]?.items.length).toBe(24);
    const planned = await plan(place, { deleteTags: ['v1', 'v2'] });
    const result = await carryOut(planned);
    expect(result).toMatchObject({ deleted: 16, failures: [], gone: 0 });
    expect(idsOf(await readAll(place))).toEqual(idsOf(before).filter((id) => !doomedIn(planned).includes(id)));
    await expectWhole(registry, repository, ['v3']);
  });
});

describe('prune of a registry', () => {
  /** An image without layers, with a creation time. */
  async function made(repository: string, tag: string, created: string): Promise<Descriptor> {
    const content = new MemoryContent();
    const rootfs = { type: 'layers', diff_ids: [] };
    const config = content.add(MEDIA_TYPE.ociConfig, Buffer.from(JSON.stringify({ created, os: 'linux', rootfs })));
    const descriptor = addJson(content, MEDIA_TYPE.ociManifest, { schemaVersion: 2, config, layers: [] });
    await copy(content, lab.view(registry, repository), [{ descriptor, tags: [tag] }]);
    return descriptor;
  }

  async function putIndex(repository: string, tag: string, manifests: readonly Descriptor[]): Promise<Descriptor> {
    const value = { schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests, annotations: { tag } };
    const body = Buffer.from(JSON.stringify(value));
    const headers = { 'content-type': MEDIA_TYPE.ociIndex };
    const url = `${registry.url}/v2/${repository}/manifests/${tag}`;
    expect((await fetch(url, { method: 'PUT', headers, body })).status).toBe(201);
    return { mediaType: MEDIA_TYPE.ociIndex, digest: digestOf(body), size: body.byteLength };
  }

  const reasonsOf = ({ repositories }: PrunePlan): Readonly<Record<string, string>> =>
    Object.fromEntries(repositories.flatMap(({ items }) => items.map(({ tags, reason }) => [tags.join(), reason])));

  test('keeps an image that an index lists by a media type that is not a manifest', async () => {
    const child = await made('odd/type', 'pr-1', '2025-01-01T00:00:00Z');
    await putIndex('odd/type', 'prod', [{ ...child, mediaType: 'application/vnd.example+json' }]);
    const planned = await plan(`${registry.registryHost}/odd/type`, { deleteTags: ['pr-*'] });
    expect(doomedIn(planned)).toEqual([]);
    expect(reasonsOf(planned)).toMatchObject({ 'pr-1': 'child of prod' });
  });

  test('does not count an image with a creation time in the future', async () => {
    await made('odd/clock', 'real', new Date().toISOString());
    await made('odd/clock', 'claimed', '2099-01-01T00:00:00Z');
    const planned = await plan(`${registry.registryHost}/odd/clock`, { keepLast: 1 });
    expect(reasonsOf(planned)).toEqual({ real: 'keepLast 1', claimed: 'age not known' });
  });

  test('is not slowed down by indexes that list each other in many ways', async () => {
    let below: readonly Descriptor[] = [];
    for (let level = 0; level < 40; level++)
      below = [await putIndex('odd/many', `a${level}`, below), await putIndex('odd/many', `b${level}`, below)];
    const planned = await plan(`${registry.registryHost}/odd/many`, { keepLast: 1 });
    expect(planned.totals).toMatchObject({ keep: 80, delete: 0, refused: 0 });
  });

  test('counts what was deleted before the registry became unavailable', async () => {
    const tags = Array.from({ length: 12 }, (_, at) => `pr-${at}`);
    for (const [at, tag] of [...tags, 'v1'].entries())
      await made('odd/away', tag, new Date(Date.UTC(2025, 0, 1 + at)).toISOString());
    const planned = await plan(`${registry.registryHost}/odd/away`, { deleteTags: ['pr-*'] });
    const back = registry.faults.add(
      { operation: 'manifest-delete', skip: 5, times: Infinity },
      { kind: 'answer', status: 500, code: 'UNKNOWN' },
    );
    const { deleted, failures } = await carryOut(planned);
    back();
    const left = (await Array.fromAsync(lab.view(registry, 'odd/away').tags())).filter((tag) => tag !== 'v1');
    expect(left.length).toBeGreaterThan(0);
    expect({ deleted, failed: failures.length }).toEqual({ deleted: 12 - left.length, failed: left.length });
  });

  test('finds tags of an image that a proxy hides by dropping the Link of a page', async () => {
    const where = await lab.registry({ mode: 'oci', pageSize: 2 });
    const image = await makeImage({ seed: 4, layers: [200], platforms: ['linux/amd64'] });
    for (const tag of ['a', 'pr-1', 'prod'])
      await lab.push({ ...image, root: { ...image.root, tags: [tag] } }, where, 'app');
    const host = await alteringFront(where.url, (_line, answer) => {
      const { link: _, ...headers } = answer.headers;
      return { ...answer, headers };
    });
    const planned = await plan(`${host}/app`, { deleteTags: ['a', 'pr-*'] });
    expect(planned.totals).toMatchObject({ delete: 0, untag: 1 });
  });

  test('restores an image that a registry deletes with one of its tags, though the caller stops', async () => {
    const where = await lab.registry({ mode: 'oci', deletes: 'images' });
    const image = await makeImage({ seed: 8, layers: [200], platforms: ['linux/amd64'] });
    for (const tag of ['v1', 'pr-1']) await lab.push({ ...image, root: { ...image.root, tags: [tag] } }, where, 'app');
    const stop = new AbortController();
    const host = await alteringFront(where.url, (line, answer) => {
      if (line.startsWith('DELETE')) stop.abort();
      return answer;
    });
    await using asked = openRegistry(host, { side: 'target', credentials: async () => undefined, version: 'test' });
    const { digest } = image.root.descriptor;
    const removed = asked
      .deletions('app')
      .removeTags([{ tag: 'pr-1', digest, others: ['v1'] }], { signal: stop.signal });
    await removed.catch(() => undefined);
    expect(stop.signal.aborted).toBe(true);
    expect(await Array.fromAsync(lab.view(where, 'app').tags())).toEqual(['v1']);
  });
});

describe('prune of archives', () => {
  /** Archives of one image under keys of several days, as backups with `{date}` leave them. */
  async function archived(prefix: string, dates: readonly string[], tag = 'v1'): Promise<void> {
    const repository = `prune/${prefix}`;
    const image = await makeImage({ seed: 5, tag, layers: [300], platforms: ['linux/amd64'] });
    await lab.push(image, ecr, repository);
    for (const date of dates) {
      const session = lab.session();
      const to = `s3://${bucket}/${prefix}/${date}/{repository}/{tag}.tar`;
      await backup(
        { from: `docker://${ecr.registryHost}/${repository}:${tag}`, to },
        session.backends,
        session.options,
      );
    }
  }

  const keys = async (prefix: string): Promise<readonly string[]> =>
    Array.fromAsync(lab.session().backends.bucket(bucket).list(prefix), ({ key }) => key);

  test('counts the backups of one image across the folders of their days, and hides deleted ones with a marker', async () => {
    await archived('dated', ['2026-11-01', '2026-11-02', '2026-11-03']);
    const planned = await plan(`s3://${bucket}/dated/`, { keepLast: 1 });
    expect(planned.repositories).toHaveLength(1);
    expect(planned.repositories[0]).toMatchObject({
      place: `s3://${bucket}/dated/{date}/prune/dated`,
      kind: 'archives',
    });
    // with each archive its settings, which have no archive left
    expect(doomedIn(planned)).toHaveLength(4);
    expect(await carryOut(planned)).toMatchObject({ deleted: 4, gone: 0, failures: [] });
    const left = await keys('dated/');
    expect(left.filter((key) => key.endsWith('.tar'))).toHaveLength(1);
    expect(left.filter((key) => key.endsWith('repository.json'))).toHaveLength(1);
    const { DeleteMarkers = [] } = await client.send(
      new ListObjectVersionsCommand({ Bucket: bucket, Prefix: 'dated/' }),
    );
    expect(DeleteMarkers).toHaveLength(4);
    expect(doomedIn(await plan(`s3://${bucket}/dated/`, { keepLast: 1 }))).toEqual([]);
  });

  test('keeps an archive that was written again after the plan, and deletes the others', async () => {
    await archived('rewritten', ['2026-11-01', '2026-11-02', '2026-11-03']);
    const planned = await plan(`s3://${bucket}/rewritten/`, { keepLast: 1 });
    const changed = doomedIn(planned).find((id) => id.endsWith('.tar')) ?? '';
    await lab.session().backends.bucket(bucket).write(changed, Buffer.from('another backup'));
    const result = await carryOut(planned);
    // the settings beside it stay too
    expect(result).toMatchObject({ deleted: 2 });
    expect(result.failures.map(({ failure }) => failure.code)).toEqual(['CONFLICT', 'CONFLICT']);
    expect(await keys('rewritten/')).toContain(changed);
  });

  test('keeps the previous archive where the newest is cut off', async () => {
    await archived('torn', ['2026-11-01', '2026-11-02', '2026-11-03']);
    const { backends } = lab.session();
    const archives = (await keys('torn/')).filter((key) => key.endsWith('.tar'));
    const newest = archives.at(-1) ?? '';
    const { metadata } = await backends.bucket(bucket).stat(newest);
    const whole = Buffer.concat(
      await Array.fromAsync(await backends.bucket(bucket).read(newest), (chunk) => Buffer.from(chunk)),
    );
    await backends.bucket(bucket).write(newest, whole.subarray(0, whole.length - 2000), { metadata });
    const planned = await plan(`s3://${bucket}/torn/`, { keepLast: 1 });
    expect(doomedIn(planned).filter((key) => key.endsWith('.tar'))).toEqual(archives.slice(0, 1));
    const reasons = planned.repositories.flatMap(({ items }) => items.map(({ reason }) => reason));
    expect(reasons).toContainEqual(expect.stringMatching(/^it cannot be restored: .* it is cut off/));
  });

  test('uses the time an archive was created, also in a bucket that it was copied to in another order', async () => {
    await archived('copied', ['2026-11-01', '2026-11-02']);
    const store = lab.session().backends.bucket(bucket);
    const [, first = ''] = await keys('copied/2026-11-01/');
    const { metadata } = await store.stat(first);
    const body = Buffer.concat(await Array.fromAsync(await store.read(first), (chunk) => Buffer.from(chunk)));
    await store.write(first, body, { metadata: { ...metadata, 'transship-created': '2020-11-01T00:00:00.000Z' } });
    const planned = await plan(`s3://${bucket}/copied/`, { keepLast: 1 });
    expect(doomedIn(planned).filter((key) => key.endsWith('.tar'))).toEqual([first]);
  });

  test('refuses a folder with the archive of a repository that has another policy', async () => {
    await archived('mixed', ['2026-11-01', '2026-11-02']);
    const { backends, options } = lab.session();
    const [, key = ''] = await keys('mixed/2026-11-01/');
    await push(ecr, 'other/app', 'v1');
    const to = `s3://${bucket}/${key.replace('v1.tar', 'other.tar')}`;
    await backup({ from: `docker://${ecr.registryHost}/other/app:v1`, to }, backends, options);
    const policies = [
      { repositories: ['prune/*'], keepLast: 50 },
      { repositories: ['*'], keepLast: 1, keepTags: ['none'] },
    ];
    const planned = await plan(`s3://${bucket}/mixed/`, {}, { policies });
    expect(doomedIn(planned)).toEqual([]);
    expect(planned.repositories[0]?.refused).toMatch(/archives of other\/app and prune\/mixed, which have different/);
  });

  test('of a folder counts the backups of one image by the content of the archives, each once', async () => {
    await push(ecr, 'folder/app', 'v1');
    const { backends, options } = lab.session();
    const folder = join(lab.folder, 'folder');
    for (const day of [1, 2, 3])
      await backup(
        { from: `docker://${ecr.registryHost}/folder/app:v1`, to: `oci-archive:${folder}/in/v1-2026-11-0${day}.tar` },
        backends,
        options,
      );
    const places = [`${folder}/`, `${folder}/in/`];
    const planned = await plan('', { keepLast: 1 }, { places });
    expect(doomedIn(planned)).toEqual(['in/v1-2026-11-01.tar', 'in/v1-2026-11-02.tar']);
    expect(await carryOut(planned)).toMatchObject({ deleted: 2, failures: [] });
  });

  test('reads no archive of neighbouring folders when it is given one folder', async () => {
    const { backends, options } = later(10);
    for (const name of ['a', 'b'])
      await backends.bucket(bucket).write(`beside/2026-11-01/${name}/v1.tar`, Buffer.from(name));
    const before = lab.stack.s3.requests.length;
    const at = [`s3://${bucket}/beside/`];
    const found = await readFolder(`${at[0]}{date}/b`, { at, policies: [] }, backends, options);
    expect(found.items.map(({ id }) => id)).toEqual(['beside/2026-11-01/b/v1.tar']);
    const asked = lab.stack.s3.requests.slice(before).map(({ operation }) => operation);
    expect(asked).toEqual(['ListObjectsV2', 'HeadObject']);
  });

  test('keeps the newest backup of each image whatever the policy, and reads no archive', async () => {
    await archived('newest', ['a']);
    const before = lab.stack.s3.requests.length;
    const planned = await plan(`s3://${bucket}/newest/`, { keepDays: 1 });
    const asked = lab.stack.s3.requests.slice(before).map(({ operation }) => operation);
    expect(asked).toEqual(['ListObjectsV2', 'HeadObject']);
    expect(doomedIn(planned)).toEqual([]);
    const reasons = planned.repositories.flatMap(({ items }) => items.map(({ reason }) => reason));
    expect(reasons).toContain(`newest good backup of ${ecr.registryHost}/prune/newest:v1`);
  });
});

describe('prune of tags', () => {
  /** An image with the tags `v1` and `pr-7`. */
  async function twice(where: LocalRegistry, repository: string): Promise<MadeImage> {
    const image = await makeImage({ seed: 7, layers: [300] });
    await lab.push(image, where, repository);
    await lab.push({ ...image, root: { ...image.root, tags: ['pr-7'] } }, where, repository);
    return image;
  }

  const tagsOf = async (where: LocalRegistry, repository: string): Promise<readonly string[]> =>
    (await Array.fromAsync(lab.view(where, repository).tags())).sort();

  test.each([
    ['ECR', async () => ecr],
    ['a registry', async () => registry],
  ] as const)('removes a tag in %s from an image that keeps another', async (_, open) => {
    const where = await open();
    await twice(where, 'tags/app');
    const planned = await plan(`${where.registryHost}/tags/app`, { deleteTags: ['pr-*'] });
    expect(planned.totals).toMatchObject({ delete: 0, untag: 1 });
    expect(await carryOut(planned)).toMatchObject({ deleted: 0, untagged: 1, failures: [] });
    expect(await tagsOf(where, 'tags/app')).toEqual(['v1']);
    expect(await carryOut(planned)).toMatchObject({ untagged: 0, gone: 1, failures: [] });
  });

  test.each([
    ['refuses tags', 'digests', /tags alone cannot be deleted there$/],
    ['deletes the image with a tag', 'images', /put back as v1; tags alone cannot be deleted there$/],
    ['deletes nothing', 'none', /tags alone cannot be deleted there$/],
  ] as const)('leaves the image whole in a registry that %s', async (_, deletes, message) => {
    const where = await lab.registry({ mode: 'oci', deletes });
    const image = await twice(where, 'app');
    const { failures } = await carryOut(await plan(`${where.registryHost}/app`, { deleteTags: ['pr-*'] }));
    expect(failures).toHaveLength(1);
    expect(failures[0]?.failure).toMatchObject({ code: 'UNSUPPORTED' });
    expect(failures[0]?.failure.message).toMatch(message);
    const { backends, options } = lab.session();
    const at = `docker://${where.registryHost}/app:v1`;
    expect(await verify({ at, depth: 'bytes' }, backends, options)).toMatchObject([
      { digest: image.root.descriptor.digest, faults: [] },
    ]);
  });

  test('deletes images, and tries only one tag, in a registry that deletes an image with a tag', async () => {
    const where = await lab.registry({ mode: 'oci', deletes: 'images' });
    await twice(where, 'app');
    const other = await makeImage({ seed: 8, tag: 'v2', layers: [300] });
    for (const tags of [['v2'], ['pr-8']]) await lab.push({ ...other, root: { ...other.root, tags } }, where, 'app');
    await lab.push(await makeImage({ seed: 9, tag: 'pr-9', layers: [300] }), where, 'app');
    const planned = await plan(`${where.registryHost}/app`, { deleteTags: ['pr-*'] });
    const before = where.requests.length;
    const { deleted, untagged, failures } = await carryOut(planned);
    expect({ deleted, untagged, failed: failures.length }).toEqual({
      deleted: doomedIn(planned).length,
      untagged: 0,
      failed: 2,
    });
    expect(deleted).toBeGreaterThan(0);
    const asked = where.requests
      .slice(before)
      .filter(({ method, path }) => method === 'DELETE' && /\/pr-\d$/.test(path));
    expect(asked).toHaveLength(1);
  });

  test('restores an image that was deleted with its tag, also when the run is stopped in between', async () => {
    const where = await lab.registry({ mode: 'oci', deletes: 'images' });
    const image = await twice(where, 'app');
    const stop = new AbortController();
    const take = where.faults.take.bind(where.faults);
    let isDeleted = false;
    where.faults.take = (request) => {
      // the first request after the deletion
      if (isDeleted) stop.abort();
      isDeleted ||= request.operations.includes('manifest-delete');
      return take(request);
    };
    const endpoints = new Map([[where.registryHost, where.url]]);
    const common = { credentials: async () => undefined, endpoints, version: 'test', clock: systemClock };
    await using other = openRegistry(where.registryHost, { ...common, side: 'target', create: {} });
    const { digest } = image.root.descriptor;
    const work = other.deletions('app').removeTags([{ tag: 'pr-7', digest, others: ['v1'] }], { signal: stop.signal });
    await work.catch(() => undefined);
    expect(stop.signal.aborted).toBe(true);
    expect(await lab.view(where, 'app').resolve('v1')).toMatchObject({ digest });
  });

  test('deletes the others where a registry refuses only the first image', async () => {
    const place = `${registry.registryHost}/prune/protected`;
    await pushed(registry, 'prune/protected', [1, 2, 3]);
    const planned = await plan(place, { deleteTags: ['v1', 'v2'] });
    registry.faults.add({ operation: 'manifest-delete' }, { kind: 'answer', status: 412, code: 'PRECONDITION' });
    const { deleted, failures } = await carryOut(planned);
    // what belongs to the image stays with it
    expect({ deleted, failed: failures.length }).toEqual({ deleted: 8, failed: 8 });
  });

  test('asks a registry only once that does not allow deletion, and reports the setting', async () => {
    const where = await lab.registry({ mode: 'oci', deletes: 'none' });
    await pushed(where, 'app', [1, 2, 3]);
    const planned = await plan(`${where.registryHost}/app`, { deleteTags: ['v1', 'v2'] });
    const before = where.requests.length;
    const { deleted, failures } = await carryOut(planned);
    expect(deleted).toBe(0);
    expect(failures.map(({ id, failure }) => [id, failure.code])).toEqual([[undefined, 'UNSUPPORTED']]);
    expect(failures[0]?.failure.message).toContain('REGISTRY_STORAGE_DELETE_ENABLED=true');
    expect(where.requests.slice(before).filter(({ method }) => method === 'DELETE')).toHaveLength(1);
  });
});

describe('a prune that is killed', () => {
  /** A run that may be killed before or after any deletion. Returns whether it was killed, and how many points it passed. */
  async function life(planned: PrunePlan, at: number): Promise<{ readonly died: boolean; readonly points: number }> {
    const { backends, options } = later(10);
    const points = new CrashPoints(at);
    const each = async <T>(items: readonly T[], one: (item: T) => Promise<readonly NotDeleted[]>) => {
      const all: NotDeleted[] = [];
      for (const item of items) {
        points.point();
        append(all, await one(item));
        points.point();
      }
      return all;
    };
    const deletions: Deletions = {
      ...backends.deletions,
      images: (host, repository) => {
        const inner = backends.deletions.images(host, repository);
        return {
          deleteImages: async (digests) => each(digests, async (digest) => inner.deleteImages([digest])),
          removeTags: async (tags) => each(tags, async (tag) => inner.removeTags([tag])),
        };
      },
    };
    const { failures } = await execute(planned, { ...backends, deletions }, options);
    return { died: failures.some(({ failure }) => failure.code === 'BUG'), points: points.count };
  }

  test.each([
    ['any deletion in ECR', ecr, 1],
    // the same code: every third is enough
    ['deletions in a registry', registry, 3],
  ] as const)('at %s resumes by its reviewed plan, and ends like an uninterrupted one', async (_, where, step) => {
    const policy = { deleteTags: ['v1', 'pr-*'], untaggedAfterDays: 1 };
    const kept = await makeImage({ seed: 2, tag: 'v2', layers: [300], platforms: ['linux/amd64'] });
    let alive = false;
    for (let at = 1; !alive; at += step) {
      const repository = `killed/${at}`;
      const place = `${where.registryHost}/${repository}`;
      await pushed(where, repository, [1]);
      for (const tags of [['v2'], ['pr-2']])
        await lab.push({ ...kept, root: { ...kept.root, tags } }, where, repository);
      const reviewed = readPlan(formatPlan(await plan(place, policy)));
      const stays = idsOf(await readAll(place)).filter((id) => !doomedIn(reviewed).includes(id));
      const first = await life(reviewed, at);
      alive = !first.died;
      const again = await plan(place, policy, { reviewed });
      expect((await life(again, Infinity)).died, `killed at ${at}`).toBe(false);
      expect(idsOf(await readAll(place)), `killed at ${at}`).toEqual(stays);
      if (alive) expect(first.points).toBe(2 * 9);
    }
    await expectWhole(where, 'killed/7', ['v2'], 1);
  });
});
