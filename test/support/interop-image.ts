import { randomBytes } from 'node:crypto';
import { chmod, copyFile, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { arch } from 'node:process';
import { join } from 'node:path';
import { digestOf, hexOf } from '../../worker/oci/digest.ts';
import { ANNOTATION, MEDIA_TYPE, type Descriptor } from '../../worker/oci/manifest.ts';
import { run, skopeo, type ProcessOptions } from './interop-process.ts';

/** An image that umoci made of busybox, in an OCI layout folder, joined to an index by hand, with what a signer and a scanner add. */
export interface UmociImage {
  readonly layout: string;
  /** The index: `v1` in the layout. */
  readonly root: Descriptor;
  /** The images of the index, that of this machine first: `native` and `other` in the layout. */
  readonly images: readonly Descriptor[];
  /** A signature as cosign stores it: only its tag relates the image to the index. */
  readonly signature: Descriptor;
  readonly signatureTag: string;
  /** An SBOM whose manifest names the index as its subject. */
  readonly sbom: Descriptor;
  /** The index of referrers for registries without the API of OCI 1.1, and its tag there. */
  readonly referrers: Descriptor;
  readonly referrersTag: string;
}

export interface UmociRecipe {
  /** The size of an incompressible file, in a layer of its own. Default 3 MB. */
  readonly dataBytes?: number;
}

/** What busybox prints in `podman run`. */
export const GREETING = 'whole and running';

/** Creates the image in `folder`, which must not exist yet. */
export async function buildImage(
  folder: string,
  options: ProcessOptions,
  recipe: UmociRecipe = {},
): Promise<UmociImage> {
  const layout = join(folder, 'layout');
  const bundle = join(folder, 'bundle');
  const root = join(bundle, 'rootfs');
  const rootless = process.getuid?.() === 0 ? [] : ['--rootless'];
  const umoci = (...args: readonly string[]): Promise<Buffer> => run('umoci', args, options);
  const repack = (): Promise<Buffer> => umoci('repack', '--refresh-bundle', '--image', `${layout}:native`, bundle);
  await mkdir(folder, { recursive: true });
  await umoci('init', '--layout', layout);
  await umoci('new', '--image', `${layout}:native`);
  await umoci('unpack', ...rootless, '--image', `${layout}:native`, bundle);

  await mkdir(join(root, 'bin'), { recursive: true });
  await copyFile('/bin/busybox', join(root, 'bin', 'busybox'));
  await chmod(join(root, 'bin', 'busybox'), 0o755);
  for (const name of ['sh', 'echo', 'cat']) await symlink('busybox', join(root, 'bin', name));
  await repack();
  await mkdir(join(root, 'srv'));
  await writeFile(join(root, 'srv', 'data'), randomBytes(recipe.dataBytes ?? 3_000_000));
  await writeFile(join(root, 'srv', 'stale'), 'below a whiteout');
  await repack();
  await rm(join(root, 'srv', 'stale'));
  await writeFile(join(root, 'srv', 'greeting'), GREETING);
  await repack();
  await umoci('config', '--image', `${layout}:native`, '--os=linux', `--architecture=${goArchitecture()}`);
  await umoci('config', '--image', `${layout}:native`, '--config.cmd=/bin/cat', '--config.cmd=/srv/greeting');
  await umoci('tag', '--image', `${layout}:native`, 'other');
  await umoci('config', '--image', `${layout}:other`, '--architecture=s390x', '--config.env=EMULATED=1');
  await umoci('gc', '--layout', layout);
  return finish(layout);
}

/**
 * Pushes all of the image to a registry without the referrers API: the index as `v1`, and its referrers under their tags.
 * `credentials` are `user:password`.
 */
export async function pushImage(
  image: UmociImage,
  repository: string,
  options: ProcessOptions & { readonly credentials?: string },
): Promise<void> {
  const flags = options.credentials === undefined ? [] : ['--dest-creds', options.credentials];
  const push = (from: string, to: string): Promise<Buffer> =>
    skopeo(
      ['copy', '--all', '--preserve-digests', ...flags, `oci:${image.layout}:${from}`, `docker://${repository}${to}`],
      options,
    );
  await push('v1', ':v1');
  await push(image.signatureTag, `:${image.signatureTag}`);
  await push('sbom', `@${image.sbom.digest}`);
  // skopeo 1.9 refuses an index whose entries have no platform
  const [host = '', ...name] = repository.split('/');
  const answer = await fetch(`http://${host}/v2/${name.join('/')}/manifests/${image.referrersTag}`, {
    method: 'PUT',
    headers: {
      'content-type': image.referrers.mediaType,
      ...(options.credentials === undefined
        ? {}
        : { authorization: `Basic ${Buffer.from(options.credentials).toString('base64')}` }),
    },
    body: await readFile(join(image.layout, 'blobs', 'sha256', hexOf(image.referrers.digest))),
  });
  if (answer.status !== 201) throw new Error(`push ${image.referrersTag}: ${answer.status} ${await answer.text()}`);
  await answer.body?.cancel();
}

/** The manifest at `place`, byte for byte as skopeo read it. */
export async function rawManifest(
  place: string,
  options: ProcessOptions,
  flags: readonly string[] = [],
): Promise<Buffer> {
  return skopeo(['inspect', '--raw', ...flags, place], options);
}

/** The name of this machine's architecture in OCI. */
export function goArchitecture(): string {
  return arch === 'x64' ? 'amd64' : arch;
}

interface Layout {
  readonly manifests: readonly Descriptor[];
}

/** Joins the images of a layout to an index, and adds its signature, its SBOM and the list of its referrers. */
async function finish(layout: string): Promise<UmociImage> {
  const put = async (mediaType: string, content: string | object): Promise<Descriptor> => {
    const bytes = Buffer.from(typeof content === 'string' ? content : JSON.stringify(content));
    const digest = digestOf(bytes);
    await writeFile(join(layout, 'blobs', 'sha256', hexOf(digest)), bytes);
    return { mediaType, digest, size: bytes.byteLength };
  };
  const { manifests } = JSON.parse(await readFile(join(layout, 'index.json'), 'utf8')) as Layout;
  const images = (['native', 'other'] as const).map((name) => {
    const found = manifests.find((descriptor) => descriptor.annotations?.[ANNOTATION.refName] === name);
    if (found === undefined) throw new Error(`umoci left no image ${name} in ${layout}`);
    const { mediaType, digest, size } = found;
    const architecture = name === 'native' ? goArchitecture() : 's390x';
    return { mediaType, digest, size, platform: { os: 'linux', architecture } };
  });
  const root = await put(MEDIA_TYPE.ociIndex, { schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests: images });
  const payload = 'application/vnd.dev.cosign.simplesigning.v1+json';
  const signature = await put(MEDIA_TYPE.ociManifest, {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociManifest,
    config: await put(MEDIA_TYPE.ociConfig, {
      architecture: '',
      os: '',
      config: {},
      rootfs: { type: 'layers', diff_ids: [digestOf(Buffer.from(`of ${root.digest}`))] },
    }),
    layers: [await put(payload, `of ${root.digest}`)],
  });
  const sbom = {
    ...(await put(MEDIA_TYPE.ociManifest, {
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociManifest,
      artifactType: 'application/spdx+json',
      config: await put(MEDIA_TYPE.ociEmpty, '{}'),
      layers: [await put('application/spdx+json', '{"spdxVersion":"SPDX-2.3"}')],
      subject: root,
    })),
    artifactType: 'application/spdx+json',
  };
  // https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema
  const referrers = await put(MEDIA_TYPE.ociIndex, {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociIndex,
    manifests: [sbom],
  });
  const referrersTag = root.digest.replace(':', '-');
  const named = { v1: root, [`${referrersTag}.sig`]: signature, sbom, [referrersTag]: referrers };
  const entries = Object.entries(named).map(([name, descriptor]) =>
    Object.assign({}, descriptor, { annotations: { [ANNOTATION.refName]: name } }),
  );
  await writeFile(
    join(layout, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [...manifests, ...entries] }),
  );
  return { layout, root, images, signature, signatureTag: `${referrersTag}.sig`, sbom, referrers, referrersTag };
}
