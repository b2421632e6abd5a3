import { ECR } from '@aws-sdk/client-ecr';
import { execFile } from 'node:child_process';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { writeSampleImage } from '../../local/sample-image.ts';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { backup } from '../../worker/images/backup.ts';
import { openLocation } from '../../worker/images/open-location.ts';
import { parseLocation } from '../../worker/oci/location.ts';
import { restore, type RestoreRequest } from '../../worker/images/restore.ts';
import { describeFailure } from '../../worker/util/failure.ts';
import { collect } from '../support/chunks.ts';
import { makeImage } from '../support/images.ts';
import { sentenceOf, openLab, requestsDuring, type Session } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, registry, bucket } = lab.stack;

const at = (where: LocalRegistry, name: string): string => `docker://${where.registryHost}/${name}`;

async function run(r: RestoreRequest, session: Session = lab.session()): ReturnType<typeof restore> {
  return restore(r, session.backends, session.options);
}

async function backedUp(from: string, to: string): Promise<void> {
  const { backends, options } = lab.session();
  const { items, faults } = await backup({ from, to }, backends, options);
  expect(items.map((item) => item.failure)).toEqual(items.map(() => undefined));
  expect(faults).toEqual([]);
}

describe('a restore', () => {
  test('of one archive writes the image to the given place, under the given tag', async () => {
    const image = await makeImage({ signed: true });
    await lab.push(image, registry, 'one/app');
    await backedUp(at(registry, 'one/app'), `s3://${bucket}/one/{tag}.tar`);
    const { items } = await run({ from: `s3://${bucket}/one/v1.tar`, to: `${at(registry, 'one/restored')}:other` });
    expect(items).toMatchObject([{ outcome: 'copied', digest: image.root.descriptor.digest }]);
    const restored = lab.view(registry, 'one/restored');
    await expectSameImage(image.content, restored, { ...image.root, tags: [] });
    expect((await restored.resolve('other')).digest).toBe(image.root.descriptor.digest);
  });

  test('of one archive keeps its tag by default', async () => {
    const image = await makeImage({ seed: 2, tag: 'release-7' });
    await lab.push(image, registry, 'tagged/app');
    await backedUp(at(registry, 'tagged/app'), `s3://${bucket}/tagged/{tag}.tar`);
    await run({ from: `s3://${bucket}/tagged/release-7.tar`, to: at(registry, 'tagged/restored') });
    await expectSameImage(image.content, lab.view(registry, 'tagged/restored'), image.root);
  });

  test('of one archive to a registry keeps repository and tag', async () => {
    const image = await makeImage({ seed: 3 });
    await lab.push(image, ecr, 'named/deep/app');
    await backedUp(at(ecr, 'named/deep/app'), `s3://${bucket}/named/{tag}.tar`);
    await run({ from: `s3://${bucket}/named/v1.tar`, to: `docker://${otherEcr.registryHost}` });
    await expectSameImage(image.content, lab.view(otherEcr, 'named/deep/app'), image.root);
  });

  test('of a whole account into another needs only S3: settings first, then every image', async () => {
    const { backends, options } = lab.session();
    const home = backends.registry(ecr.registryHost, 'target');
    const settings = {
      web: {
        tagMutability: 'IMMUTABLE',
        scanOnPush: true,
        tags: { team: 'web' },
        lifecyclePolicy:
          '{"rules":[{"rulePriority":1,"selection":{"tagStatus":"untagged","countType":"imageCountMoreThan","countNumber":9},"action":{"type":"expire"}}]}',
      },
      'batch/job': { tagMutability: 'MUTABLE', scanOnPush: false, tags: { team: 'data', cost: '7' } },
    };
    const images = [
      { repository: 'account/web', image: await makeImage({ signed: true, seed: 4 }) },
      { repository: 'account/web', image: await makeImage({ seed: 5, tag: 'v2' }) },
      { repository: 'account/batch/job', image: await makeImage({ docker: true, seed: 6 }) },
    ];
    for (const [name, set] of Object.entries(settings)) await home.applySettings(`account/${name}`, set, options);
    for (const { repository, image } of images) await lab.push(image, ecr, repository);
    await backedUp(at(ecr, 'account/*'), `s3://${bucket}/account/`);
    await lab.stack.deleteRepository('account/web');
    await lab.stack.deleteRepository('account/batch/job');
    const atHome = await requestsDuring(ecr, async () => {
      const { items, faults } = await run({
        from: `s3://${bucket}/account/`,
        to: `docker://${otherEcr.registryHost}/rescued`,
      });
      expect(faults).toEqual([]);
      expect(items.map((item) => item.outcome)).toEqual(['copied', 'copied', 'copied']);
    });
    expect(atHome).toEqual({});
    const abroad = lab.session().backends.registry(otherEcr.registryHost, 'target');
    for (const [name, set] of Object.entries(settings))
      expect(await abroad.settings(`rescued/account/${name}`, options)).toMatchObject(set);
    for (const { repository, image } of images)
      await expectSameImage(image.content, lab.view(otherEcr, `rescued/${repository}`), image.root);
    // the settings are there before the first image
    const names = otherEcr.requests.map((served) => served.operation ?? `${served.kind} ${served.path}`);
    const created = names.indexOf('CreateRepository');
    const pushed = names.findIndex((name) => name.startsWith('upload-post /v2/rescued/'));
    expect(created).toBeGreaterThanOrEqual(0);
    expect(created).toBeLessThan(pushed);

    // once more: immutable tags that stand for the same image are no conflict
    const again = await run({ from: `s3://${bucket}/account/`, to: `docker://${otherEcr.registryHost}/rescued` });
    expect(again.items.map((item) => item.outcome)).toEqual(['unchanged', 'unchanged', 'unchanged']);
    expect(again.faults).toEqual([]);
  });

  test('of a prefix restores everything below it, and nothing else', async () => {
    const image = await makeImage({ seed: 7 });
    for (const name of ['prefix/in', 'prefix/out']) {
      await lab.push(image, registry, name);
      await backedUp(at(registry, name), `s3://${bucket}/`);
    }
    const host = registry.registryHost.replace(':', '_');
    const from = `s3://${bucket}/${host}/prefix/in/`;
    const { items } = await run({ from, to: `docker://${registry.registryHost}/restored` });
    expect(items.map((item) => item.to)).toEqual([`${at(registry, 'restored/prefix/in')}:v1`]);
    await expectSameImage(image.content, lab.view(registry, 'restored/prefix/in'), image.root);
  });

  test('of a folder of archives works like one of a prefix', async () => {
    const image = await makeImage({ signed: true, seed: 8 });
    await lab.push(image, ecr, 'folder/app');
    const folder = join(lab.folder, 'archives');
    await backedUp(at(ecr, 'folder/app'), `oci-archive:${folder}/`);
    await run({ from: `oci-archive:${folder}/`, to: `docker://${otherEcr.registryHost}` });
    await expectSameImage(image.content, lab.view(otherEcr, 'folder/app'), image.root);
  });

  test('of an image without a tag writes it by its digest', async () => {
    const image = await makeImage({ seed: 9 });
    const { digest } = image.root.descriptor;
    await lab.push(image, registry, 'untagged/app');
    const key = `untagged/app/${digest.replace(':', '-')}.tar`;
    await lab.session().copy(`${at(registry, 'untagged/app')}@${digest}`, `s3://${bucket}/${key}`);
    const { items } = await run({ from: `s3://${bucket}/untagged/`, to: `docker://${otherEcr.registryHost}` });
    expect(items).toMatchObject([{ outcome: 'copied', to: `${at(otherEcr, 'untagged/app')}@${digest}` }]);
    const restored = lab.view(otherEcr, 'untagged/app');
    await expectSameImage(image.content, restored, { ...image.root, tags: [] });
    expect(await Array.fromAsync(restored.tags())).toEqual([]);
  });

  test('recovers from S3 faults without reading anything twice', async () => {
    const image = await makeImage({ platforms: ['linux/amd64'], layers: [400_000], seed: 10 });
    await lab.push(image, registry, 'healing/app');
    await backedUp(at(registry, 'healing/app'), `s3://${bucket}/healing/{tag}.tar`);
    const key = 'healing/v1.tar';
    lab.stack.s3.faults.add({ operation: 'GetObject', key }, { kind: 'answer', status: 500, code: 'InternalError' });
    lab.stack.s3.faults.add({ operation: 'GetObject', key, skip: 2 }, { kind: 'cut-answer', afterBytes: 1000 });
    await run({ from: `s3://${bucket}/${key}`, to: at(otherEcr, 'healing/app') });
    expect(lab.stack.s3.faults.pending).toBe(0);
    await expectSameImage(image.content, lab.view(otherEcr, 'healing/app'), image.root);
  });

  test('as a dry run creates and writes nothing', async () => {
    await lab.push(await makeImage({ seed: 11 }), ecr, 'dry/app');
    await backedUp(at(ecr, 'dry/app'), `s3://${bucket}/dry/`);
    const counts = await requestsDuring(otherEcr, async () => {
      const { items } = await run({
        from: `s3://${bucket}/dry/`,
        to: `docker://${otherEcr.registryHost}`,
        dryRun: true,
      });
      expect(items).toMatchObject([{ outcome: 'planned', to: `${at(otherEcr, 'dry/app')}:v1` }]);
    });
    expect(Object.keys(counts).filter((kind) => /put|post|patch/.test(kind))).toEqual([]);
    const client = new ECR({ region: 'eu-west-1' });
    const { repositories = [] } = await client.describeRepositories({});
    client.destroy();
    expect(repositories.map((r) => r.repositoryName)).not.toContain('dry/app');
  });

  test('continues after a damaged archive, which is a failed item', async () => {
    const images = await Promise.all([12, 13].map(async (seed) => makeImage({ seed, tag: `v${seed}` })));
    for (const image of images) await lab.push(image, registry, 'damaged/app');
    const folder = join(lab.folder, 'damaged');
    await backedUp(at(registry, 'damaged/app'), `oci-archive:${folder}/{repository}/{tag}.tar`);
    const file = join(folder, 'damaged/app/v12.tar');
    const bytes = await readFile(file);
    await writeFile(file, bytes.subarray(0, bytes.length / 2));
    const { items, faults } = await run({ from: `oci-archive:${folder}/`, to: `docker://${otherEcr.registryHost}` });
    expect([...items.map((item) => item.failure?.message), ...faults].join()).toContain('v12.tar');
    const [, whole] = images;
    if (whole === undefined) throw new Error('there are two images');
    await expectSameImage(whole.content, lab.view(otherEcr, 'damaged/app'), whole.root);
    expect(await Array.fromAsync(lab.view(otherEcr, 'damaged/app').tags())).toEqual(['v13']);
  });

  test('still restores the images when settings cannot be applied, and reports that', async () => {
    await lab.push(await makeImage({ seed: 14 }), ecr, 'unsettled/app');
    await backedUp(at(ecr, 'unsettled/app'), `s3://${bucket}/unsettled/`);
    const key = 'unsettled/us-east-1/unsettled/app/repository.json';
    await lab.session().backends.bucket(bucket).write(key, Buffer.from('{"format":2}'));
    const { items, faults } = await run({
      from: `s3://${bucket}/unsettled/`,
      to: `docker://${otherEcr.registryHost}`,
    });
    expect(items).toMatchObject([{ outcome: 'copied' }]);
    expect(faults).toEqual([
      expect.stringMatching(/^settings of unsettled\/app were not restored: .*repository\.json/),
    ]);
  });
});

describe('archives of other tools', () => {
  const recipe = { tag: '1.0', platforms: [{ os: 'linux', architecture: 'amd64' }], layerBytes: [5000], version: '1' };

  test.each(['plain', 'gzip', 'zstd'])('of an OCI layout packed by tar (%s) are restored', async (packing) => {
    const folder = join(lab.folder, `foreign-${packing}`);
    await writeSampleImage(folder, recipe);
    const file = join(lab.folder, `foreign-${packing}.tar${{ plain: '', gzip: '.gz', zstd: '.zst' }[packing]}`);
    // zstd of tar needs a program that may be missing here
    if (packing === 'zstd') {
      const { zstdCompressSync } = await import('node:zlib');
      const { stdout } = await promisify(execFile)('tar', ['-cf', '-', '-C', folder, '.'], {
        encoding: 'buffer',
        maxBuffer: 2 ** 26,
      });
      await writeFile(file, zstdCompressSync(stdout));
    } else {
      await promisify(execFile)('tar', [packing === 'gzip' ? '-czf' : '-cf', file, '-C', folder, '.']);
    }
    const name = `foreign/${packing}`;
    await run({ from: `oci-archive:${file}`, to: at(registry, name) });
    const { backends, options } = lab.session();
    await using original = await openLocation(backends, parseLocation(`oci:${folder}:1.0`), 'source', options);
    await expectSameImage(original.source, lab.view(registry, name), original.root);
  });

  test('by docker save, with layers that are plain tars, are restored', async () => {
    const image = await makeImage({ platforms: ['linux/amd64'], docker: true, seed: 15 });
    const folder = join(lab.folder, 'docker-save');
    const graph = await walk(image.content, [image.root]);
    const [node] = graph.manifests.values();
    if (node?.manifest.kind !== 'image') throw new Error('it is an image of one platform');
    await mkdir(folder);
    const { config, layers } = node.manifest;
    const names = [];
    for (const d of blobsOf(graph)) {
      const name = d.digest === config.digest ? 'config.json' : `layer-${names.push(d) - 1}.tar`;
      await writeFile(join(folder, name), await collect(await image.content.open(d)));
    }
    const manifest = [{ Config: 'config.json', RepoTags: ['app:1.0'], Layers: layers.map((_, i) => `layer-${i}.tar`) }];
    await writeFile(join(folder, 'manifest.json'), JSON.stringify(manifest));
    const file = join(lab.folder, 'docker-save.tar');
    await promisify(execFile)('tar', ['-cf', file, '-C', folder, '.']);
    await run({ from: `docker-archive:${file}`, to: `${at(ecr, 'foreign/docker')}:1.0` });
    const restored = lab.view(ecr, 'foreign/docker');
    const top = await restored.resolve('1.0');
    const found = await walk(restored, [{ descriptor: top, tags: ['1.0'] }]);
    expect(blobsOf(found).map((d) => d.digest)).toEqual(blobsOf(graph).map((d) => d.digest));
  });
});

describe('a restore that cannot be', () => {
  test.each([
    ['there is no archive', () => `s3://${bucket}/nothing/`, /^source: there is no archive \(\*\.tar\) below s3:/],
    ['there is no such bucket', () => 's3://no-such-bucket/', /^source: .*s3:\/\/no-such-bucket/],
  ])('is NOT_FOUND because %s', async (_, from, expected) => {
    const message = await sentenceOf(run({ from: from(), to: at(ecr, 'never/app') }), 'NOT_FOUND');
    expect(message).toMatch(expected);
  });

  test('is a failed item that names the missing archive', async () => {
    const { items } = await run({ from: `s3://${bucket}/nothing.tar`, to: at(ecr, 'never/app') });
    expect(items).toMatchObject([{ outcome: 'failed', failure: { code: 'NOT_FOUND' } }]);
    expect(describeFailure(items[0]?.failure)).toMatch(/^source: .*s3:\/\/.*\/nothing\.tar/);
  });

  test('is INVALID before anything is listed when the place for several images is not a registry', async () => {
    const before = lab.stack.s3.requests.length;
    const message = await sentenceOf(run({ from: `s3://${bucket}/`, to: 's3://elsewhere/' }), 'INVALID');
    expect(message).toMatch(/^"s3:\/\/elsewhere\/" is not .*: a registry is named by its host/);
    expect(lab.stack.s3.requests.slice(before)).toEqual([]);
  });

  test('names the command to use instead when the source is a registry', async () => {
    const message = await sentenceOf(run({ from: at(ecr, 'x/app'), to: at(otherEcr, 'x/app') }), 'INVALID');
    expect(message).toMatch(/is an image of a registry, not an archive; use transship copy for that$/);
  });

  test('names the option to use when the archive does not name its image', async () => {
    const folder = join(lab.folder, 'nameless');
    await writeSampleImage(folder, {
      tag: '1.0',
      platforms: [{ os: 'linux', architecture: 'amd64' }],
      layerBytes: [100],
      version: '1',
    });
    await cp(folder, join(lab.folder, 'nameless-archives/image'), { recursive: true });
    await promisify(execFile)('tar', ['-cf', join(lab.folder, 'nameless-archives/x.tar'), '-C', folder, '.']);
    await rm(join(lab.folder, 'nameless-archives/image'), { recursive: true });
    const { faults, items } = await run({
      from: `oci-archive:${join(lab.folder, 'nameless-archives')}/`,
      to: `docker://${otherEcr.registryHost}`,
    });
    expect(items).toEqual([]);
    expect(faults).toEqual([expect.stringMatching(/x\.tar does not say what its image was called: restore it alone/)]);
  });
});
