import { afterAll, describe, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { restoreSnapshot, type SnapshotRestoreRequest } from '../../worker/images/restore-snapshot.ts';
import { backedUpToStore } from '../support/backed-up.ts';
import { makeImage } from '../support/images.ts';
import { openLab, requestsDuring, sentenceOf, type Session } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, registry, bucket } = lab.stack;

const LIFECYCLE =
  '{"rules":[{"rulePriority":1,"selection":{"tagStatus":"untagged","countType":"imageCountMoreThan","countNumber":9},"action":{"type":"expire"}}]}';
const POLICY =
  '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"222222222222"},"Action":"ecr:BatchGetImage"}]}';

async function run(
  request: Omit<SnapshotRestoreRequest, 'to'> & { readonly to?: string },
  session: Session = lab.session(),
): ReturnType<typeof restoreSnapshot> {
  return restoreSnapshot({ to: `docker://${otherEcr.registryHost}`, ...request }, session.backends, session.options);
}

async function stored(from: LocalRegistry, pattern: string, to: string): Promise<string> {
  return backedUpToStore(`docker://${from.registryHost}/${pattern}`, to, lab.session());
}

describe('a restore from a store', () => {
  test('restores repositories with settings, images, signatures and policies, and finds them equal', async () => {
    const { backends, options } = lab.session();
    const home = backends.registry(ecr.registryHost, 'target');
    const settings = {
      tagMutability: 'IMMUTABLE',
      scanOnPush: true,
      tags: { team: 'web' },
      lifecyclePolicy: LIFECYCLE,
      repositoryPolicy: POLICY,
    };
    await home.applySettings('whole/web', settings, options);
    const images = [
      { repository: 'whole/web', image: await makeImage({ signed: true, seed: 1 }) },
      { repository: 'whole/web', image: await makeImage({ seed: 2, tag: 'v2' }) },
      { repository: 'whole/job', image: await makeImage({ docker: true, seed: 3 }) },
    ];
    for (const { repository, image } of images) await lab.push(image, ecr, repository);
    const from = `store:s3://${bucket}/whole`;
    await stored(ecr, 'whole/*', from);
    for (const name of ['whole/web', 'whole/job']) await lab.stack.deleteRepository(name);

    const result = await run({ from });
    expect(result.faults).toEqual([]);
    expect(result.failures).toEqual([]);
    expect(result.repositories).toMatchObject([
      { images: 1, copied: 1, comparison: { equal: 1, differences: [] } },
      { images: 2, copied: 2, comparison: { equal: 2, differences: [] } },
    ]);
    for (const { repository, image } of images)
      await expectSameImage(image.content, lab.view(otherEcr, repository), image.root);
    const abroad = lab.session().backends.registry(otherEcr.registryHost, 'target');
    expect(await abroad.settings('whole/web', options)).toMatchObject({
      ...settings,
      repositoryPolicy: expect.any(String),
    });
    const operations = otherEcr.requests.flatMap(({ operation }) => operation ?? []);
    const pushed = otherEcr.requests.findLastIndex(({ kind }) => kind === 'manifest-put');
    const policies = otherEcr.requests.findIndex(({ operation }) => operation === 'PutLifecyclePolicy');
    expect(operations).toContain('SetRepositoryPolicy');
    expect(policies).toBeGreaterThan(pushed);

    // once more: nothing is sent, and no image of the store is read
    const counts = await requestsDuring(otherEcr, async () => {
      const again = await run({ from });
      expect(again.repositories).toMatchObject([
        { unchanged: 1, bytesSent: 0, comparison: { equal: 1 } },
        { unchanged: 2, bytesSent: 0, comparison: { equal: 2 } },
      ]);
    });
    expect(Object.keys(counts).filter((kind) => /manifest|blob|upload/.test(kind))).toEqual([]);
  });

  test('restores images into a plain registry, asking for each tag and manifest', async () => {
    const image = await makeImage({ signed: true, seed: 4 });
    await lab.push(image, ecr, 'plain/app');
    const from = `store:s3://${bucket}/plain`;
    await stored(ecr, 'plain/*', from);
    const result = await run({ from, to: `docker://${registry.registryHost}/rescued` });
    expect(result).toMatchObject({
      faults: [],
      failures: [],
      repositories: [{ comparison: { equal: 1, differences: [] } }],
    });
    await expectSameImage(image.content, lab.view(registry, 'rescued/plain/app'), image.root);
  });
});

describe('a restore of part of a backup', () => {
  test('restores the repositories and tags of --only, under the names of --map', async () => {
    for (const [seed, name] of ['part/a', 'part/b', 'part/sub/c'].entries())
      for (const tag of ['v1', 'v2']) await lab.push(await makeImage({ seed: 10 + seed, tag }), ecr, name);
    const from = `store:s3://${bucket}/part`;
    await stored(ecr, 'part/*', from);
    const result = await run({ from, only: ['part/sub/*', 'part/a:v1'], maps: ['part/*=moved/*'] });
    expect(result.repositories.map(({ to, images }) => [to.split('/').slice(1).join('/'), images])).toEqual([
      ['moved/a', 1],
      ['moved/sub/c', 1],
    ]);
    expect(await Array.fromAsync(lab.view(otherEcr, 'moved/a').tags())).toEqual(['v1']);
    expect((await Array.fromAsync(lab.view(otherEcr, 'moved/sub/c').tags())).sort()).toEqual(['v1', 'v2']);
    expect(await sentenceOf(run({ from, maps: ['part/a=x', 'part/b=x'] }), 'INVALID')).toMatch(
      /part\/a and .*part\/b would both be restored to .*\/x: give them different names with --map/,
    );
    expect(await sentenceOf(run({ from, maps: ['none/*=x/*'] }), 'INVALID')).toContain('matches none');
    expect(await sentenceOf(run({ from, only: ['part/a:v9'] }), 'NOT_FOUND')).toContain('--only part/a:v9');
  });
});
