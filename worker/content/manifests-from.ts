import { algorithmOf, digestOf } from '../oci/digest.ts';
import { isManifestType } from '../oci/manifest.ts';
import { checkAborted } from '../util/abort.ts';
import { isFailure } from '../util/failure.ts';
import type { Bytes, Source } from './content.ts';

/**
 * `source`, but manifests are read from `near` where it has them, whole. `near` is asked by digest and held against it, so it cannot change
 * what is read, only what it costs: a manifest GET counts as a pull at Docker Hub and moves ECR's last pull time.
 */
export function cached(source: Source, near: Source): Source {
  return {
    ...(source.rangesAtOnce === undefined ? {} : { rangesAtOnce: source.rangesAtOnce }),
    resolve: (reference, o) => source.resolve(reference, o),
    referrers: (d, o) => source.referrers(d, o),
    tags: (o) => source.tags(o),
    open: async (d, o) => {
      if (!isManifestType(d.mediaType)) return source.open(d, o);
      try {
        const bytes = await collect(await near.open(d, { signal: o?.signal }), d.size);
        if (digestOf(bytes, algorithmOf(d.digest)) === d.digest) return once(bytes.subarray(o?.from ?? 0, o?.to));
      } catch (error) {
        checkAborted(o);
        if (!isFailure(error)) throw error;
      }
      return source.open(d, o);
    },
  };
}

/** All of `body`, or the first bytes of one that has more than `limit`. */
async function collect(body: Bytes, limit: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    size += chunk.byteLength;
    if (size > limit) break;
  }
  return Buffer.concat(chunks);
}

async function* once(bytes: Uint8Array): Bytes {
  if (bytes.byteLength > 0) yield bytes;
}
