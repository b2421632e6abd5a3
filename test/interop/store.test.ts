// A store read by other tools: a copy of it in a folder is an OCI image layout. Debian does not package oras and regctl: tests of a missing
// tool are skipped.
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { digestOf } from '../../worker/oci/digest.ts';
import type { Descriptor } from '../../worker/oci/manifest.ts';
import { rawManifest } from '../support/interop-image.ts';
import { APP, openLab } from '../support/interop-lab.ts';
import { isInstalled, run, transship } from '../support/interop-process.ts';
import { BUCKET } from '../support/local-s3.ts';

const lab = await openLab();
afterAll(() => lab[Symbol.asyncDispose]());
const { o, image, folder, registry } = lab;
const PREFIX = 'backups/';
const store = join(folder, 'store');
await run(...transship(['backup', `${registry.host}/${APP}`, `store:s3://${BUCKET}/${PREFIX}`]), o);
// as `aws s3 sync` does it
for (const key of (await lab.bucketContents()).keys) {
  const path = join(store, key.slice(PREFIX.length));
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, await lab.object(key));
}
const name = `${registry.host}/${APP}:v1`;
const oneFile = join(folder, 'store.tar');
await run(...transship(['backup', `${registry.host}/${APP}`, `store:${oneFile}`]), o);

/** The digests that the registry lists as referrers of the image in this repository. */
async function referrersIn(repository: string): Promise<readonly string[]> {
  const list = await rawManifest(`docker://${registry.host}/${repository}:${image.referrersTag}`, o);
  const { manifests } = JSON.parse(list.toString()) as { readonly manifests: readonly Descriptor[] };
  return manifests.map(({ digest }) => digest);
}

async function digestAt(reference: string): Promise<string> {
  return digestOf(await rawManifest(`docker://${registry.host}/${reference}`, o));
}

test('skopeo copies an image out of a store by its whole name, with every platform', async () => {
  const to = `docker://${registry.host}/by-skopeo:v1`;
  await run(
    'skopeo',
    ['copy', '--all', '--preserve-digests', '--dest-tls-verify=false', `oci:${store}:${name}`, to],
    o,
  );
  expect(await digestAt('by-skopeo:v1')).toBe(image.root.digest);
});

test('skopeo copies an image out of a store in one file by its whole name, with every platform', async () => {
  const to = `docker://${registry.host}/by-skopeo-of-a-file:v1`;
  const flags = ['--all', '--preserve-digests', '--dest-tls-verify=false'];
  await run('skopeo', ['copy', ...flags, `oci-archive:${oneFile}:${name}`, to], o);
  expect(await digestAt('by-skopeo-of-a-file:v1')).toBe(image.root.digest);
});

test('tar unpacks a store in one file to a store in a folder', async () => {
  const unpacked = join(folder, 'unpacked');
  await mkdir(unpacked);
  await run('tar', ['-xf', oneFile, '-C', unpacked], o);
  await run(...transship(['verify', `store:${unpacked}`, '--depth', 'bytes']), o);
});

test('umoci lists the images of a store, and unpacks one', async () => {
  const listed = (await run('umoci', ['ls', '--layout', store], o)).toString();
  expect(listed.split('\n')).toContain(name);
});

describe.skipIf(!isInstalled('regctl'))('regctl', () => {
  test('copies an image out of a store with its SBOM', async () => {
    const flags = ['--host', `reg=${registry.host},tls=disabled`];
    const to = `${registry.host}/store-by-regctl:v1`;
    const from = `ocidir://${store}@${image.root.digest}`;
    await run('regctl', [...flags, 'image', 'copy', '--referrers', from, to], o);
    expect(await digestAt('store-by-regctl:v1')).toBe(image.root.digest);
    expect(await referrersIn('store-by-regctl')).toEqual([image.sbom.digest]);
  });
});

describe.skipIf(!isInstalled('oras'))('oras', () => {
  test('copies an image out of a store with its SBOM', async () => {
    const to = `${registry.host}/store-by-oras:v1`;
    const from = `${store}@${image.root.digest}`;
    await run('oras', ['cp', '-r', '--from-oci-layout', '--to-plain-http', from, to], o);
    expect(await digestAt('store-by-oras:v1')).toBe(image.root.digest);
    expect(await referrersIn('store-by-oras')).toEqual([image.sbom.digest]);
  });

  test('copies an image out of a store in one file with its SBOM', async () => {
    const to = `${registry.host}/file-by-oras:v1`;
    const from = `${oneFile}@${image.root.digest}`;
    await run('oras', ['cp', '-r', '--from-oci-layout', '--to-plain-http', from, to], o);
    expect(await digestAt('file-by-oras:v1')).toBe(image.root.digest);
    expect(await referrersIn('file-by-oras')).toEqual([image.sbom.digest]);
  });

  test('discovers the referrers of an image in a store', async () => {
    const from = `${store}@${image.root.digest}`;
    const found = (await run('oras', ['discover', '--format', 'json', '--oci-layout', from], o)).toString();
    expect(found).toContain(image.sbom.digest);
  });
});

test('transship reads the folder as a store', async () => {
  const to = `docker://${registry.host}/back:v1`;
  await run(...transship(['copy', `store:${store}:${name}`, to]), o);
  expect(await digestAt('back:v1')).toBe(image.root.digest);
  expect(await digestAt(`back:${image.signatureTag}`)).toBe(image.signature.digest);
  expect(await referrersIn('back')).toEqual([image.sbom.digest]);
});
