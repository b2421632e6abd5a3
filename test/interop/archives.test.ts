import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { digestOf } from '../../worker/oci/digest.ts';
import { MEDIA_TYPE, type Descriptor, type Manifest } from '../../worker/oci/manifest.ts';
import { GREETING, goArchitecture, rawManifest } from '../support/interop-image.ts';
import { APP, openLab } from '../support/interop-lab.ts';
import { run, skopeo, transship, transshipJson } from '../support/interop-process.ts';
import { BUCKET } from '../support/local-s3.ts';

interface RunDocument {
  readonly items: readonly { readonly outcome: string; readonly digest: string; readonly bytesSent: number }[];
  readonly faults: readonly string[];
}

type ImageManifest = Extract<Manifest, { kind: 'image' }>;

const lab = await openLab();
afterAll(() => lab[Symbol.asyncDispose]());
const { o, image, folder } = lab;
const source = `docker://${lab.registry.host}/${APP}:v1`;
const [native, other] = image.images as [Descriptor, Descriptor];
const rawIndex = await rawManifest(source, o);
const restored = await lab.startRegistry('restored');

test('skopeo stored the index as it was built by hand', () => {
  expect(digestOf(rawIndex)).toBe(image.root.digest);
});

describe('an archive written by Transship', async () => {
  const file = join(folder, 'archives', 'v1.tar');
  await mkdir(dirname(file));
  const first = await transshipJson<RunDocument>(
    ['backup', `${lab.registry.host}/${APP}:v1`, `oci-archive:${folder}/archives/{tag}.tar`],
    o,
  );

  test('has the digest of the image', () => {
    expect(first.items.map(({ outcome, digest }) => ({ outcome, digest }))).toEqual([
      { outcome: 'copied', digest: image.root.digest },
    ]);
    expect(first.faults).toEqual([]);
  });

  test('is in S3 the same as in a file, byte for byte', async () => {
    const { items } = await transshipJson<RunDocument>(
      ['backup', `${lab.registry.host}/${APP}:v1`, `s3://${BUCKET}/{repository}/{tag}.tar`],
      o,
    );
    expect(items[0]?.outcome).toBe('copied');
    expect((await lab.object(`${APP}/v1.tar`)).equals(await readFile(file))).toBe(true);
    const { keys, uploads } = await lab.bucketContents();
    expect(keys).toContain(`${APP}/v1.tar`);
    expect(uploads).toEqual([]);
  });

  test('is not written again while the image is the same', async () => {
    const { items } = await transshipJson<RunDocument>(
      ['backup', `${lab.registry.host}/${APP}`, `oci-archive:${folder}/archives/{tag}.tar`],
      o,
    );
    expect(items).toMatchObject([{ outcome: 'unchanged', bytesSent: 0 }]);
  });

  test('shows skopeo the manifest of the registry, byte for byte', async () => {
    expect((await rawManifest(`oci-archive:${file}`, o)).equals(rawIndex)).toBe(true);
  });

  test('is pushed by skopeo with every platform, digests unchanged', async () => {
    await skopeo(['copy', '--all', `oci-archive:${file}`, `docker://${restored.host}/by-skopeo:v1`], o);
    expect((await rawManifest(`docker://${restored.host}/by-skopeo:v1`, o)).equals(rawIndex)).toBe(true);
    for (const { digest } of image.images) {
      expect(digestOf(await rawManifest(`docker://${restored.host}/by-skopeo@${digest}`, o))).toBe(digest);
    }
  });

  test('with layers that are not compressed keeps its digest in skopeo with --preserve-digests only', async () => {
    const archive = 'oci-archive:test/fixtures/archive-v1.tar';
    const raw = async (from: string): Promise<string> => digestOf(await rawManifest(from, o));
    const digest = await raw(archive);
    const to = `docker://${restored.host}/not-compressed`;
    await skopeo(['copy', '--all', archive, `${to}:changed`], o);
    await skopeo(['copy', '--all', '--preserve-digests', archive, `${to}:kept`], o);
    expect([await raw(`${to}:changed`), await raw(`${to}:kept`)]).toEqual([
      expect.not.stringContaining(digest),
      digest,
    ]);
  });

  test('is pushed by skopeo with the one platform that it is asked for', async () => {
    const to = `docker://${restored.host}/one-platform:v1`;
    await run(
      'skopeo',
      [
        '--insecure-policy',
        '--override-arch=s390x',
        'copy',
        '-q',
        '--dest-tls-verify=false',
        `oci-archive:${file}`,
        to,
      ],
      o,
    );
    expect(digestOf(await rawManifest(to, o))).toBe(other.digest);
  });

  test('is also a docker-archive with the config of one platform', async () => {
    const { config } = JSON.parse(
      (await rawManifest(`${source.slice(0, -3)}@${native.digest}`, o)).toString(),
    ) as ImageManifest;
    expect(digestOf(await skopeo(['inspect', '--config', '--raw', `docker-archive:${file}`], o))).toBe(config.digest);
    const inspected = JSON.parse((await skopeo(['inspect', `docker-archive:${file}`], o)).toString()) as {
      readonly Architecture: string;
      readonly Layers: readonly string[];
    };
    expect(inspected.Architecture).toBe(goArchitecture());
    expect(inspected.Layers).toHaveLength(3);
  });

  /** Restores `from` to `to`, and checks the image, its signature and its SBOM in `repository`. */
  const expectRestored = async (from: string, to: string, repository: string): Promise<void> => {
    const { items } = await transshipJson<RunDocument>(['restore', from, to], o);
    expect(items).toMatchObject([{ outcome: 'copied', digest: image.root.digest }]);
    const at = (reference: string): Promise<Buffer> =>
      rawManifest(`docker://${restored.host}/${repository}${reference}`, o);
    expect((await at(':v1')).equals(rawIndex)).toBe(true);
    expect(digestOf(await at(`:${image.signatureTag}`))).toBe(image.signature.digest);
    expect(digestOf(await at(`@${image.sbom.digest}`))).toBe(image.sbom.digest);
    const referrers = JSON.parse((await at(`:${image.referrersTag}`)).toString()) as {
      readonly manifests: readonly Descriptor[];
    };
    expect(referrers.manifests).toEqual([
      expect.objectContaining({ digest: image.sbom.digest, artifactType: 'application/spdx+json' }),
    ]);
  };

  test('is restored with its signature and its SBOM', async () => {
    await expectRestored(`oci-archive:${file}`, `docker://${restored.host}/restored:v1`, 'restored');
  });

  test('is restored from S3, with everything below a prefix, under its original name', async () => {
    await run(...transship(['backup', `${lab.registry.host}/${APP}`, `s3://${BUCKET}/all/`]), o);
    await expectRestored(`s3://${BUCKET}/all/`, `docker://${restored.host}/again`, `again/${APP}`);
  });

  test('is copied to a folder that umoci unpacks', async () => {
    const out = join(folder, 'out');
    await run(...transship(['copy', `${lab.registry.host}/${APP}@${native.digest}`, `oci:${out}:native`]), o);
    await run('umoci', ['unpack', ...rootless(), '--image', `${out}:native`, join(folder, 'unpacked')], o);
    expect(await readFile(join(folder, 'unpacked', 'rootfs', 'srv', 'greeting'), 'utf8')).toBe(GREETING);
  });
});

describe('an archive of another tool is restored:', async () => {
  const restore = async (from: string, name: string): Promise<string> => {
    const { items } = await transshipJson<RunDocument>(['restore', from, `docker://${restored.host}/${name}:v1`], o);
    expect(items.map(({ outcome }) => outcome)).toEqual(['copied']);
    return items[0]?.digest ?? '';
  };
  const found = (name: string): Promise<Buffer> => rawManifest(`docker://${restored.host}/${name}:v1`, o);

  test("skopeo's oci-archive of all platforms, digests unchanged", async () => {
    const file = join(folder, 'skopeo-oci.tar');
    await skopeo(['copy', '--all', source, `oci-archive:${file}:v1`], o);
    expect(await restore(`oci-archive:${file}`, 'from-oci-archive')).toBe(image.root.digest);
    expect((await found('from-oci-archive')).equals(rawIndex)).toBe(true);
  });

  const dockerArchive = join(folder, 'skopeo-docker.tar');
  await skopeo(['copy', source, `docker-archive:${dockerArchive}:example.com/app:v1`], o);
  const tar = await readFile(dockerArchive);

  test.each([
    ['', tar],
    ['.gz', gzipSync(tar, { level: 1 })],
    ['.zst', zstdCompressSync(tar)],
  ])("skopeo's docker-archive%s, with its original config", async (suffix, bytes) => {
    const file = `${dockerArchive}${suffix}`;
    await writeFile(file, bytes);
    const name = `from-docker-archive${suffix.replace('.', '-')}`;
    const digest = await restore(`docker-archive:${file}`, name);
    expect(digestOf(await found(name))).toBe(digest);
    const config = await skopeo(['inspect', '--config', '--raw', `docker://${restored.host}/${name}:v1`], o);
    const made = await skopeo(['inspect', '--config', '--raw', `docker-archive:${dockerArchive}`], o);
    expect(digestOf(config)).toBe(digestOf(made));
    // every layer is there, and matches the config
    await run(
      'skopeo',
      [
        '--insecure-policy',
        'copy',
        '-q',
        '--src-tls-verify=false',
        `docker://${restored.host}/${name}:v1`,
        `dir:${join(folder, name)}`,
      ],
      o,
    );
  });

  test('a layout folder of umoci, digests unchanged', async () => {
    expect(await restore(`oci:${image.layout}:native`, 'from-umoci')).toBe(native.digest);
    const manifest = await found('from-umoci');
    expect(digestOf(manifest)).toBe(native.digest);
    // umoci writes no mediaType into its manifests; the registry still knows it
    const head = await fetch(`${restored.url}/v2/from-umoci/manifests/v1`, {
      method: 'HEAD',
      headers: { accept: MEDIA_TYPE.ociManifest },
    });
    expect(head.headers.get('content-type')).toBe(MEDIA_TYPE.ociManifest);
  });
});

function rootless(): readonly string[] {
  return process.getuid?.() === 0 ? [] : ['--rootless'];
}
