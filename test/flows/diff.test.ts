import { afterAll, describe, expect, test } from 'vitest';
import { diffPlaces, type DiffRequest, type PlacesDiff } from '../../worker/images/diff-places.ts';
import { parseImageFilter } from '../../worker/oci/image-filter.ts';
import { parsePlace } from '../../worker/oci/place.ts';
import { parseRepositoryMap } from '../../worker/oci/repository-map.ts';
import { makeImage } from '../support/images.ts';
import { failureOf, openLab, requestsDuring } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry, bucket } = lab.stack;

type Choices = Omit<DiffRequest, 'a' | 'b'>;

async function diff(a: string, b: string, choices: Choices = {}): Promise<PlacesDiff> {
  const { backends, options } = lab.session();
  return diffPlaces({ a: { place: parsePlace(a) }, b: { place: parsePlace(b) }, ...choices }, backends, options);
}

/** Pushes small images under tags, each created from its seed. */
async function push(where: typeof ecr, repository: string, tags: Readonly<Record<string, number>>): Promise<void> {
  for (const [tag, seed] of Object.entries(tags)) {
    const image = await makeImage({ seed, platforms: ['linux/amd64'], layers: [500] });
    await lab.push({ ...image, root: { ...image.root, tags: [tag] } }, where, repository);
  }
}

const shortly = ({ differences }: PlacesDiff): readonly string[] =>
  differences.map(({ kind, repository, tag }) => `${kind} ${repository}:${tag}`);

describe('diff', () => {
  test.each([
    ['ECR', ecr],
    ['another registry', registry],
  ] as const)('names missing, different and extra tags, compared with %s', async (name, other) => {
    const [from, to] = name === 'ECR' ? [ecr, registry] : [other, ecr];
    const base = name === 'ECR' ? 'named' : 'named-back';
    await push(from, `${base}/app`, { v1: 1, v2: 2, v3: 3 });
    await push(to, `${base}/app`, { v1: 1, v2: 9, v4: 4 });
    await push(from, `${base}/lost`, { v1: 1 });
    const found = await diff(`${from.registryHost}/${base}/*`, `${to.registryHost}/${base}/*`);
    expect(shortly(found)).toEqual([
      `different ${base}/app:v2`,
      `missing ${base}/app:v3`,
      `extra ${base}/app:v4`,
      `missing ${base}/lost:v1`,
    ]);
    expect(found).toMatchObject({ equal: 1, unchecked: [], compared: { by: 'name', referrers: false } });
    const [moved] = found.differences;
    expect(moved?.digest).not.toBe(moved?.otherDigest);
    expect(moved).toMatchObject({
      where: `docker://${from.registryHost}/${base}/app:v2`,
      otherWhere: `docker://${to.registryHost}/${base}/app:v2`,
    });
  });

  test('lists ECR by its pages, without a request for each tag', async () => {
    await push(ecr, 'pages/app', { v1: 1, v2: 2, v3: 3 });
    const requests = await requestsDuring(ecr, async () => {
      const place = `${ecr.registryHost}/pages/app`;
      expect((await diff(place, place)).equal).toBe(3);
    });
    expect(Object.keys(requests).filter((kind) => kind.startsWith('manifest'))).toEqual([]);
  });

  test('compares an archive of each tag with its source registry', async () => {
    await push(ecr, 'stored/app', { v1: 1, v2: 2 });
    const at = `${ecr.registryHost}/stored/app`;
    for (const tag of ['v1', 'v2'])
      await lab.session().copy(`docker://${at}:${tag}`, `s3://${bucket}/diff/eu/stored/app/${tag}.tar`);
    expect(await diff(at, `s3://${bucket}/diff/`)).toMatchObject({ equal: 2, differences: [], unchecked: [] });
    await push(ecr, 'stored/app', { v2: 7, v3: 3 });
    const later = await diff(at, `s3://${bucket}/diff/`);
    expect(shortly(later)).toEqual(['different stored/app:v2', 'missing stored/app:v3']);
  });

  test('compares the newest archive where a tag has one for each day', async () => {
    await push(ecr, 'daily/app', { v1: 1 });
    const at = `docker://${ecr.registryHost}/daily/app:v1`;
    await lab.session().copy(at, `s3://${bucket}/daily/2026-11-30/daily/app/v1.tar`);
    await push(ecr, 'daily/app', { v1: 2 });
    const session = lab.session();
    await session.options.clock.sleep(86_400_000);
    await session.copy(at, `s3://${bucket}/daily/2026-12-01/daily/app/v1.tar`);
    expect(await diff(`${ecr.registryHost}/daily/*`, `s3://${bucket}/daily/`)).toMatchObject({
      equal: 1,
      differences: [],
    });
  });

  test('finds repositories under the names that a map gives them', async () => {
    await push(ecr, 'mapped/app', { v1: 1, v2: 2 });
    await push(registry, 'mirror/mapped/app', { v1: 1 });
    const maps = [parseRepositoryMap('mapped/*=mirror/mapped/*')];
    const found = await diff(`${ecr.registryHost}/mapped/*`, `${registry.registryHost}/mirror/mapped/*`, { maps });
    expect(shortly(found)).toEqual(['missing mirror/mapped/app:v2']);
    expect(found.equal).toBe(1);
  });

  test('compares images whatever their tags by digest', async () => {
    await push(ecr, 'digests/app', { v1: 1, v2: 2 });
    await push(registry, 'digests/app', { other: 1 });
    const found = await diff(`${ecr.registryHost}/digests/*`, `${registry.registryHost}/digests/*`, { by: 'digest' });
    expect(shortly(found)).toEqual(['missing digests/app:v2']);
    expect(found.equal).toBe(1);
  });

  test('compares only what is chosen', async () => {
    await push(ecr, 'chosen/app', { v1: 1, v2: 2 });
    await push(registry, 'chosen/app', { v3: 3 });
    const only = [parseImageFilter('chosen/*:v1')];
    const found = await diff(`${ecr.registryHost}/chosen/*`, `${registry.registryHost}/chosen/*`, { only });
    expect(shortly(found)).toEqual(['missing chosen/app:v1']);
  });

  test('names signatures that one side lacks, where both list them or when it may read', async () => {
    const image = await makeImage({ signed: true, seed: 20, layers: [500] });
    await lab.push(image, ecr, 'signed/app');
    const [a, b] = [`${ecr.registryHost}/signed/app`, `${registry.registryHost}/signed/app`];
    await lab.session().copy(`docker://${a}:v1`, `docker://${b}:v1`);
    expect(await diff(a, b)).toMatchObject({ differences: [], compared: { referrers: false } });
    const read = await diff(a, b, { referrers: 'all' });
    expect(read).toMatchObject({ differences: [], compared: { referrers: true } });
    expect(read.equal).toBeGreaterThan(3);
    await lab.session().copy(`docker://${a}:v1`, `docker://${registry.registryHost}/signed/bare:v1`, {
      referrers: false,
    });
    const maps = [parseRepositoryMap('signed/app=signed/bare')];
    const bare = await diff(a, `${registry.registryHost}/signed/bare`, { maps, referrers: 'all' });
    expect(bare.differences).toHaveLength(read.equal - 1);
    expect(bare.differences.every(({ kind, subject }) => kind === 'missing' && subject !== undefined)).toBe(true);
  });

  test('refuses a place that is not listed', async () => {
    await push(registry, 'refused/app', { v1: 1 });
    const [a, b] = [`${ecr.registryHost}/refused/app`, `${registry.registryHost}/refused/app`];
    const failure = await failureOf(diff(a, b, { untagged: true }), 'UNSUPPORTED');
    expect(failure.message).toContain('does not list images without tags');
    const only = [parseImageFilter('refused/app:v1')];
    await failureOf(diff(a, b, { referrers: 'all', only }), 'INVALID');
    await failureOf(diff(`s3://${bucket}/no-such-prefix/`, b), 'NOT_FOUND');
  });
});
