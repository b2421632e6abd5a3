import { encodeHeader, END_BYTES, paddingOf } from '../../worker/archive/tar.ts';
import type { Bytes } from '../../worker/content/content.ts';
import { MemoryContent } from '../../worker/content/memory.ts';
import { MEDIA_TYPE, type Descriptor } from '../../worker/oci/manifest.ts';
import { addJson, type MadeImage } from './images.ts';

export const GOLDEN_REPOSITORY = 'registry.example.com/team/hello';

/**
 * The image in test/fixtures/archive-v1.tar: two platforms with a common layer, a signature and an SBOM that refer to the index, and
 * cosign's tags of the index and of one child. It runs nothing, but it is a real image: its layers are plain tars, whose digests are the
 * diff ids. Nothing in it may ever change, nor depend on compressors or seeds.
 */
export async function goldenImage(): Promise<MadeImage> {
  const content = new MemoryContent();
  const base = addLayer(content, 'etc/os-release', 'NAME="Example"\nID=example\n');
  const children: Descriptor[] = [];
  for (const architecture of ['amd64', 'arm64']) {
    const own = addLayer(content, 'usr/share/hello', `hello from linux/${architecture}\n`.repeat(100));
    const config = content.add(
      MEDIA_TYPE.ociConfig,
      json({
        created: '2026-01-01T00:00:00Z',
        architecture,
        os: 'linux',
        config: { Env: ['PATH=/usr/bin:/bin'], Cmd: ['/usr/bin/hello'] },
        rootfs: { type: 'layers', diff_ids: [base.digest, own.digest] },
        history: [{ created_by: 'base' }, { created_by: 'hello' }],
      }),
    );
    const image = addJson(content, MEDIA_TYPE.ociManifest, { schemaVersion: 2, config, layers: [base, own] });
    children.push({ ...image, platform: { os: 'linux', architecture } });
  }
  const descriptor = addJson(content, MEDIA_TYPE.ociIndex, { schemaVersion: 2, manifests: children });
  addReferrer(content, descriptor, 'application/vnd.example.signature', 'signature of the index');
  addReferrer(content, descriptor, 'application/spdx+json', '{"spdxVersion":"SPDX-2.3"}');
  for (const subject of [descriptor, ...children.slice(0, 1)]) {
    const signature = addReferrer(content, undefined, undefined, `cosign of ${subject.digest}`);
    await content.tag(`${subject.digest.replace(':', '-')}.sig`, signature, isThere);
  }
  await content.tag('v1', descriptor, isThere);
  return { content, root: { descriptor, tags: ['v1'] } };
}

function addLayer(content: MemoryContent, name: string, text: string): Descriptor {
  const file = Buffer.from(text);
  const end = Buffer.alloc(paddingOf(file.byteLength) + END_BYTES);
  return content.add(MEDIA_TYPE.ociLayer, Buffer.concat([encodeHeader(name, file.byteLength), file, end]));
}

function addReferrer(
  content: MemoryContent,
  subject: Descriptor | undefined,
  artifactType: string | undefined,
  text: string,
): Descriptor {
  return addJson(content, MEDIA_TYPE.ociManifest, {
    schemaVersion: 2,
    ...(artifactType === undefined ? {} : { artifactType }),
    config: content.add(MEDIA_TYPE.ociEmpty, Buffer.from('{}')),
    layers: [content.add('application/octet-stream', Buffer.from(text))],
    ...(subject === undefined ? {} : { subject }),
  });
}

function json(value: object): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function isThere(): Bytes {
  throw new Error('the content is there already');
}
