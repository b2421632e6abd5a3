// OCI layouts that Transship writes, read by oras and regctl, and the other way round. Debian does not package these tools: tests of a
// missing tool are skipped.
import { join } from 'node:path';
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
const layout = join(folder, 'layout');
await run(...transship(['backup', `${registry.host}/${APP}:v1`, `s3://${BUCKET}/{repository}/{tag}.tar`]), o);
await run(...transship(['copy', `s3://${BUCKET}/${APP}/v1.tar`, `oci:${layout}:v1`]), o);

/** The digests that the registry lists as referrers of the image in this repository. */
async function referrersIn(repository: string): Promise<readonly string[]> {
  const list = await rawManifest(`docker://${registry.host}/${repository}:${image.referrersTag}`, o);
  const { manifests } = JSON.parse(list.toString()) as { readonly manifests: readonly Descriptor[] };
  return manifests.map(({ digest }) => digest);
}

async function digestAt(reference: string): Promise<string> {
  return digestOf(await rawManifest(`docker://${registry.host}/${reference}`, o));
}

describe.skipIf(!isInstalled('regctl'))('regctl', () => {
  const regctl = async (...args: readonly string[]): Promise<string> =>
    (await run('regctl', ['--host', `reg=${registry.host},tls=disabled`, ...args], o)).toString();

  test('finds the SBOM and the signature of an archive that was copied to a layout', async () => {
    const to = `${registry.host}/by-regctl:v1`;
    await regctl('image', 'copy', '--referrers', '--digest-tags', `ocidir://${layout}:v1`, to);
    expect(await digestAt('by-regctl:v1')).toBe(image.root.digest);
    expect(await digestAt(`by-regctl:${image.signatureTag}`)).toBe(image.signature.digest);
    expect(await referrersIn('by-regctl')).toEqual([image.sbom.digest]);
  });

  test('writes a layout in which Transship finds them', async () => {
    const theirs = join(folder, 'regctl');
    await regctl(
      'image',
      'copy',
      '--referrers',
      '--digest-tags',
      `${registry.host}/${APP}:v1`,
      `ocidir://${theirs}:v1`,
    );
    await run(...transship(['copy', `oci:${theirs}`, `docker://${registry.host}/from-regctl:v1`]), o);
    expect(await digestAt(`from-regctl:${image.signatureTag}`)).toBe(image.signature.digest);
    expect(await referrersIn('from-regctl')).toEqual([image.sbom.digest]);
  });
});

describe.skipIf(!isInstalled('oras'))('oras', () => {
  test('finds the SBOM of an archive that was copied to a layout', async () => {
    const to = `${registry.host}/by-oras:v1`;
    await run('oras', ['cp', '-r', '--from-oci-layout', '--to-plain-http', `${layout}:v1`, to], o);
    expect(await digestAt('by-oras:v1')).toBe(image.root.digest);
    expect(await referrersIn('by-oras')).toEqual([image.sbom.digest]);
  });

  test('writes a layout, and a tar of it, that Transship reads without a tag', async () => {
    const theirs = join(folder, 'oras');
    const from = `${registry.host}/${APP}:v1`;
    await run('oras', ['cp', '-r', '--from-plain-http', '--to-oci-layout', from, `${theirs}:v1`], o);
    const tar = join(folder, 'oras.tar');
    await run('tar', ['-C', theirs, '-cf', tar, '.'], o);
    for (const [place, repository] of [
      [`oci:${theirs}`, 'from-oras'],
      [`oci-archive:${tar}`, 'from-oras-tar'],
    ] as const) {
      await run(...transship(['copy', place, `docker://${registry.host}/${repository}:v1`]), o);
      expect(await digestAt(`${repository}:v1`)).toBe(image.root.digest);
      expect(await referrersIn(repository)).toEqual([image.sbom.digest]);
    }
  });
});
