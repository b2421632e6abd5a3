import { createCipheriv, createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const MIB = 1024 * 1024;

/** Layers of one GiB: two large ones, like a language runtime and a model, and nine of the usual sizes. */
export function layersOf(gib: number): readonly number[] {
  const small = Array.from({ length: 9 }, (_, i) => (i < 8 ? 56 : 64) * MIB * gib);
  return [256 * MIB * gib, ...small, 256 * MIB * gib];
}

/** Writes an OCI layout of gzipped layers that do not compress, tagged `bench`. */
export async function writeImage(folder: string, sizes: readonly number[]): Promise<void> {
  const blobs = join(folder, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const put = async (mediaType: string, bytes: Buffer) => {
    const digest = createHash('sha256').update(bytes).digest('hex');
    await writeFile(join(blobs, digest), bytes);
    return { mediaType, digest: `sha256:${digest}`, size: bytes.byteLength };
  };
  const layers = [];
  for (const [i, size] of sizes.entries()) {
    const key = createHash('sha256').update(`layer ${i} of ${sizes.length}`).digest();
    const stream = createCipheriv('aes-128-ctr', key.subarray(0, 16), key.subarray(16));
    // gzip without compression: the content would not compress anyhow, and skopeo would compress anything else itself
    const layer = gzipSync(stream.update(Buffer.alloc(size)), { level: 0 });
    layers.push(await put('application/vnd.oci.image.layer.v1.tar+gzip', layer));
  }
  const config = await put(
    'application/vnd.oci.image.config.v1+json',
    Buffer.from(
      JSON.stringify({
        os: 'linux',
        architecture: 'amd64',
        rootfs: { type: 'layers', diff_ids: layers.map((l) => l.digest) },
      }),
    ),
  );
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = await put(mediaType, Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config, layers })));
  const annotations = { 'org.opencontainers.image.ref.name': 'bench' };
  await writeFile(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(
    join(folder, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }),
  );
}
