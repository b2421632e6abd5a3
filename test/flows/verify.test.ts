import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { blobPath } from '../../worker/archive/plan.ts';
import { MEDIA_TYPE, type Descriptor } from '../../worker/oci/manifest.ts';
import { verify, type VerifyRequest, type VerifyResult } from '../../worker/images/verify.ts';
import { collect } from '../support/chunks.ts';
import { addJson, makeImage, type MadeImage } from '../support/images.ts';
import { failureOf, openLab, requestsDuring } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry, bucket } = lab.stack;

const at = (where: LocalRegistry, name: string): string => `docker://${where.registryHost}/${name}:v1`;

async function run(r: VerifyRequest): Promise<readonly VerifyResult[]> {
  const { backends, options } = lab.session();
  return verify(r, backends, options);
}

async function blobsIn(image: MadeImage): Promise<readonly Descriptor[]> {
  return blobsOf(await walk(image.content, [image.root]));
}

async function bytesOf(image: MadeImage): Promise<number> {
  const graph = await walk(image.content, [image.root]);
  const all = [...blobsOf(graph), ...[...graph.manifests.values()].map((node) => node.descriptor)];
  return all.reduce((sum, d) => sum + d.size, 0);
}

async function largestOf(image: MadeImage): Promise<Descriptor> {
  const largest = (await blobsIn(image)).toSorted((a, b) => b.size - a.size)[0];
  if (largest === undefined) throw new Error('the image has no blobs');
  return largest;
}

/** Loses a blob of a registry that deletes, as a storage fault would. */
async function lose(repository: string, d: Descriptor): Promise<void> {
  const answer = await fetch(`${registry.url}/v2/${repository}/blobs/${d.digest}`, { method: 'DELETE' });
  expect(answer.status).toBe(202);
}

describe('verify', () => {
  test.each([
    ['registry', registry],
    ['ECR', ecr],
  ] as const)('finds an image of a %s whole, by HEAD requests, or by reading every byte', async (_, where) => {
    const image = await makeImage({ signed: true });
    await lab.push(image, where, 'whole/app');
    const blobs = (await blobsIn(image)).length;
    const whole = { digest: image.root.descriptor.digest, manifests: 8, blobs, faults: [] };
    const kind = where === ecr ? 'layer-get' : 'blob-get';
    const asking = await requestsDuring(where, async () =>
      expect(await run({ at: at(where, 'whole/app') })).toMatchObject([
        { ...whole, complete: false, unchecked: ['its blobs are there; depth bytes (--deep) reads them'] },
      ]),
    );
    expect(asking[kind]).toBeUndefined();
    const reading = await requestsDuring(where, async () => {
      const [result] = await run({ at: at(where, 'whole/app'), depth: 'bytes' });
      expect(result).toMatchObject({ ...whole, hashedBytes: await bytesOf(image), complete: true, unchecked: [] });
    });
    expect(reading[kind]).toBe(blobs);
  });

  test('names the blob that a registry has lost', async () => {
    const image = await makeImage({ seed: 2 });
    await lab.push(image, registry, 'lost/app');
    const lost = await largestOf(image);
    await lose('lost/app', lost);
    for (const deep of [false, true]) {
      const [result] = await run({ at: at(registry, 'lost/app'), depth: deep ? 'bytes' : 'blobs' });
      expect(result?.faults).toHaveLength(1);
      expect(result?.faults[0]).toContain(
        deep ? lost.digest.slice(0, 19) : `${lost.digest} (${lost.size} bytes) is missing`,
      );
    }
  });

  test('names the blob that a registry sends wrong, and continues with the others', async () => {
    const image = await makeImage({ seed: 3 });
    await lab.push(image, registry, 'wrong/app');
    const wrong = await largestOf(image);
    registry.faults.add({ operation: 'blob-get', digest: wrong.digest }, { kind: 'lie-digest' });
    const [result] = await run({ at: at(registry, 'wrong/app'), depth: 'bytes' });
    expect(result?.faults).toEqual([expect.stringContaining(`${wrong.digest} has other bytes`)]);
    expect(result?.hashedBytes).toBe((await bytesOf(image)) - wrong.size);
  });

  test.each([false, true])(
    'does not report an image as whole whose signature is listed and broken (deep: %s)',
    async (deep) => {
      const image = await makeImage({ signed: true, seed: 16, layers: [2000] });
      await lab.push(image, registry, 'broken-signature/app');
      const [broken] = (await walk(image.content, [image.root])).referrers;
      if (broken === undefined) throw new Error('the image has no referrers');
      const { digest } = broken.descriptor;
      registry.faults.add({ operation: 'manifest-get', digest, times: 100 }, { kind: 'lie-digest' });
      const [result] = await run({ at: at(registry, 'broken-signature/app'), depth: deep ? 'bytes' : 'blobs' });
      registry.faults.clear();
      expect(result?.faults).toEqual([
        expect.stringMatching(
          `^what refers to the image cannot be read: ${digest} has other bytes than its digest states`,
        ),
      ]);
    },
  );

  test('does not report an image as whole of whose referrers only some were read', async () => {
    const image = await makeImage({ seed: 17, platforms: ['linux/amd64'], layers: [2000] });
    let subject = image.root.descriptor;
    for (const depth of [1, 2, 3, 4])
      subject = addJson(image.content, MEDIA_TYPE.ociManifest, {
        schemaVersion: 2,
        artifactType: `application/x-depth-${depth}`,
        config: image.content.add(MEDIA_TYPE.ociEmpty, Buffer.from('{}')),
        layers: [],
        subject,
      });
    // all of them by their own names: a copy follows referrers to a limited depth
    const view = lab.view(registry, 'deep-chain/app');
    await lab.push(image, registry, 'deep-chain/app');
    await lab.push({ ...image, root: { descriptor: subject, tags: ['last'] } }, registry, 'deep-chain/app');
    expect(await view.has(subject)).toBe(true);
    const [result] = await run({ at: at(registry, 'deep-chain/app'), depth: 'bytes' });
    expect(result).toMatchObject({ faults: [], manifests: 4, complete: false });
    expect(result?.unchecked).toEqual([expect.stringContaining('not all manifests that refer to it were looked at')]);
  });

  test('names what is missing where a child of an index is gone', async () => {
    const image = await makeImage({ seed: 4 });
    await lab.push(image, registry, 'childless/app');
    const [child] = (await walk(image.content, [image.root])).manifests.keys();
    await fetch(`${registry.url}/v2/childless/app/manifests/${child}`, { method: 'DELETE' });
    const [result] = await run({ at: at(registry, 'childless/app') });
    expect(result?.faults).toEqual([expect.stringContaining(String(child))]);
  });

  test('finds archives whole: every one below a prefix, every byte', async () => {
    const images = [await makeImage({ signed: true, seed: 5 }), await makeImage({ seed: 6, docker: true })];
    for (const [i, image] of images.entries()) {
      await lab.push(image, registry, `archived/app-${i}`);
      await lab.session().copy(at(registry, `archived/app-${i}`), `s3://${bucket}/archived/${i}.tar`);
    }
    const results = await run({ at: `s3://${bucket}/archived/` });
    expect(results.map((result) => result.faults)).toEqual([[], []]);
    for (const [i, image] of images.entries()) {
      expect(results[i]).toMatchObject({
        at: `s3://${bucket}/archived/${i}.tar`,
        digest: image.root.descriptor.digest,
        hashedBytes: await bytesOf(image),
      });
    }
  });

  test('finds one flipped byte in an archive, wherever it is, and reports the others as whole', async () => {
    const image = await makeImage({ platforms: ['linux/amd64'], seed: 7 });
    await lab.push(image, registry, 'flipped/app');
    await lab.session().copy(at(registry, 'flipped/app'), `s3://${bucket}/flipped/whole.tar`);
    const store = lab.session().backends.bucket(bucket);
    const whole = await collect(await store.read('flipped/whole.tar'));
    const layer = await largestOf(image);
    const places = {
      layer: whole.indexOf(await collect(await image.content.open(layer))) + 1000,
      manifest: whole.indexOf(await collect(await image.content.open(image.root.descriptor))) + 10,
      index: whole.indexOf('"manifests"') + 20,
    };
    for (const [name, place] of Object.entries(places)) {
      expect(place).toBeGreaterThan(100);
      const bytes = Buffer.from(whole);
      bytes[place] = (bytes[place] ?? 0) ^ 1;
      await store.write(`flipped/${name}.tar`, bytes);
    }
    const cut = whole.subarray(0, whole.length - 20_000);
    await store.write('flipped/cut.tar', cut);
    const results = await run({ at: `s3://${bucket}/flipped/` });
    expect(
      results.map(({ at: where, faults }) => [where.slice(where.lastIndexOf('/') + 1), faults.length > 0]),
    ).toEqual([
      ['cut.tar', true],
      ['index.tar', true],
      ['layer.tar', true],
      ['manifest.tar', true],
      ['whole.tar', false],
    ]);
    expect(results[2]?.faults).toEqual([expect.stringContaining(`${layer.digest} has other bytes`)]);
  });

  test('finds a blob missing in a layout folder', async () => {
    const image = await makeImage({ seed: 8 });
    await lab.push(image, registry, 'folder/app');
    const folder = join(lab.folder, 'folder');
    await lab.session().copy(at(registry, 'folder/app'), `oci:${folder}`);
    expect(await run({ at: `oci:${folder}:v1` })).toMatchObject([{ faults: [] }]);
    const lost = await largestOf(image);
    await rm(join(folder, blobPath(lost.digest)));
    const [result] = await run({ at: `oci:${folder}:v1` });
    expect(result?.faults).toEqual([expect.stringContaining(lost.digest)]);
  });

  test('of an archive that S3 does not hand out is a failure and not a fault', async () => {
    await lab.session().backends.bucket(bucket).write('frozen.tar', Buffer.alloc(1024));
    const { faults } = lab.stack.s3;
    faults.add(
      { operation: 'GetObject', key: 'frozen.tar' },
      { kind: 'answer', status: 403, code: 'InvalidObjectState' },
    );
    await failureOf(run({ at: `s3://${bucket}/frozen.tar` }), 'UNSUPPORTED');
  });

  test('of something missing or forbidden is a failure and not a fault', async () => {
    await failureOf(run({ at: at(registry, 'no/such/app') }), 'NOT_FOUND');
    await failureOf(run({ at: `s3://${bucket}/no-such.tar` }), 'NOT_FOUND');
    await failureOf(run({ at: `s3://${bucket}/no-such-prefix/` }), 'NOT_FOUND');
    const strict = await lab.registry({
      mode: 'ecr',
      account: '333333333333',
      region: 'eu-north-1',
      deny: ['ecr:BatchGetImage'],
    });
    await failureOf(run({ at: at(strict, 'any/app') }), 'DENIED');
  });
});

describe('verify --against', () => {
  test('reports that the broken image is the target', async () => {
    const image = await makeImage({ seed: 93 });
    await lab.push(image, registry, 'whole/app');
    await lab.push(image, ecr, 'broken/app');
    ecr.faults.add({ operation: 'manifest-get', times: 100 }, { kind: 'lie-digest' });
    const [result] = await run({ at: at(registry, 'whole/app'), against: at(ecr, 'broken/app') });
    ecr.faults.clear();
    expect(result?.faults).toEqual([expect.stringMatching(/^target: .*has other bytes than its digest states/)]);
  });

  test('finds a mirror equal, also one with referrers of its own', async () => {
    const image = await makeImage({ signed: true, seed: 9 });
    await lab.push(image, registry, 'equal/app');
    await lab.session().copy(at(registry, 'equal/app'), at(ecr, 'equal/app'));
    const r = { at: at(ecr, 'equal/app'), against: at(registry, 'equal/app') };
    expect(await run(r)).toMatchObject([{ faults: [] }]);
    addJson(image.content, MEDIA_TYPE.ociManifest, {
      schemaVersion: 2,
      artifactType: 'application/vnd.amazon.signature',
      config: image.content.add(MEDIA_TYPE.ociEmpty, Buffer.from('{}')),
      layers: [image.content.add('text/plain', Buffer.from('signed at the mirror'))],
      subject: image.root.descriptor,
    });
    await lab.push(image, ecr, 'equal/app');
    expect(await run(r)).toMatchObject([{ faults: [] }]);
    // and the other way round it is missing
    const [result] = await run({ at: r.against, against: r.at });
    expect(result?.faults).toEqual([
      expect.stringMatching(/^1 manifest that refers to the image at \S+ is missing, such as sha256:[0-9a-f]{64}$/),
    ]);
  });

  test.each(['ECR', 'a registry without the referrers API'])(
    'reports the signatures and SBOMs that a copy lacks and its source in %s has',
    async (name) => {
      const image = await makeImage({ signed: true, seed: 15 });
      const source = name === 'ECR' ? ecr : await lab.registry({ mode: 'oci', referrersApi: false });
      await lab.push(image, source, 'unsigned/app');
      await lab.session().copy(at(source, 'unsigned/app'), at(registry, 'unsigned/mirror'), { referrers: false });
      const [result] = await run({
        at: at(registry, 'unsigned/mirror'),
        depth: 'bytes',
        against: at(source, 'unsigned/app'),
      });
      const { length } = (await walk(image.content, [image.root])).referrers;
      expect(length).toBeGreaterThan(1);
      expect(result?.faults).toEqual([
        expect.stringMatching(
          new RegExp(`^${length} manifests that refer to the image at \\S+ are missing, such as sha256:`),
        ),
      ]);
    },
  );

  test('names the digests of both where the mirror is another image', async () => {
    const [image, other] = [await makeImage({ seed: 10 }), await makeImage({ seed: 11 })];
    await lab.push(image, registry, 'drift/app');
    await lab.push(other, ecr, 'drift/app');
    const [result] = await run({ at: at(registry, 'drift/app'), against: at(ecr, 'drift/app') });
    const { digest } = image.root.descriptor;
    expect(result?.faults).toEqual([`${at(ecr, 'drift/app')} is ${other.root.descriptor.digest}, not ${digest}`]);
  });

  test('reports that no mirror exists', async () => {
    await lab.push(await makeImage({ seed: 12 }), registry, 'alone/app');
    const [result] = await run({ at: at(registry, 'alone/app'), against: at(ecr, 'alone/app') });
    expect(result?.faults).toEqual([expect.stringMatching(/^target: .*\/alone\/app:v1/)]);
  });

  test('compares an archive with its source registry', async () => {
    const image = await makeImage({ signed: true, seed: 13 });
    await lab.push(image, registry, 'compared/app');
    await lab.session().copy(at(registry, 'compared/app'), `s3://${bucket}/compared.tar`);
    const r = { at: `s3://${bucket}/compared.tar`, against: at(registry, 'compared/app') };
    expect(await run(r)).toMatchObject([{ faults: [] }]);
    await lab.push(await makeImage({ seed: 14 }), registry, 'compared/app');
    expect((await run(r))[0]?.faults).toHaveLength(1);
  });
});
