import type { Clock } from '../../worker/util/clock.ts';
import type { Rules } from './rules.ts';
import { answerRange, refuse } from './exchange.ts';
import type { RegistryStore } from './store.ts';

/**
 * What `DELETE` does: `tags`, all that the specification has; `digests`, as docker-registry 2.8, which refuses tags; `images`, where a tag stands
 * for its image, which goes; `none`, as docker-registry, which deletes only where that is enabled.
 */
export type Deletes = 'tags' | 'digests' | 'images' | 'none';

/**
 * A registry that does all that the specification allows it to: it makes repositories when something is pushed, mounts every blob it has,
 * deletes tags, manifests and blobs, and has the referrers API unless it is switched off.
 */
export function ociRules(
  store: RegistryStore,
  clock: Clock,
  options: { readonly referrersApi: boolean; readonly pageSize: number; readonly deletes: Deletes },
): Rules {
  return {
    origin: () => '',
    movingLocations: true,
    singlePost: true,
    chunkStatus: 202,
    repository: (name, forPush) => {
      const found = store.repositories.get(name) ?? (forPush ? store.create(name, clock.now()) : undefined);
      if (found === undefined) throw refuse(404, 'NAME_UNKNOWN', `there is no repository ${name}`);
      return found;
    },
    rangeOf: (upload) => `0-${Math.max(0, upload.bytes - 1)}`,
    checkChunk: (upload, from) => {
      if (from === undefined || from === upload.bytes) return;
      throw refuse(416, 'BLOB_UPLOAD_INVALID', `the chunk begins at ${from}, expected ${upload.bytes}`);
    },
    checkComplete: () => undefined,
    digestMismatch: (digest) => refuse(400, 'DIGEST_INVALID', `the bytes are not those of ${digest}`),
    mayMount: () => true,
    blob: (exchange, _, digest, bytes) => {
      const file = { path: store.path(digest), from: 0, bytes };
      const headers = { 'content-type': 'application/octet-stream', 'docker-content-digest': digest };
      const answer = answerRange(exchange, file, `"${digest}"`, headers);
      if (answer !== undefined) return answer;
      const range = { 'content-range': `bytes */${bytes}` };
      throw refuse(416, 'UNSUPPORTED', `the blob has ${bytes} bytes`, { headers: range });
    },
    deleteBlob: (repository, digest) => store.unlinkBlob(repository, digest),
    checkManifest: () => undefined,
    missingChildren: (_, __, missing) =>
      refuse(404, 'MANIFEST_BLOB_UNKNOWN', `the manifest names what is not there: ${missing.join(', ')}`, {
        detail: missing.map((digest) => ({ digest })),
      }),
    pulled: () => undefined,
    deleteManifest: (repository, manifest, tag) => {
      if (options.deletes === 'none') throw refuse(405, 'UNSUPPORTED', 'The operation is unsupported.');
      if (tag !== undefined && options.deletes === 'digests')
        throw refuse(400, 'DIGEST_INVALID', 'provided digest did not match uploaded content');
      if (tag === undefined || options.deletes === 'images') store.deleteManifest(repository, manifest.digest);
      else store.untag(repository, tag);
    },
    ...(options.referrersApi
      ? {
          referrers: (repository, subject) =>
            [...repository.manifests.values()].filter((manifest) => manifest.subject === subject),
        }
      : {}),
    pageSize: (asked) => Math.min(asked ?? options.pageSize, options.pageSize),
    opaqueLast: false,
    invalidParameter: (name) => refuse(400, 'UNSUPPORTED', `the parameter ${name} makes no sense`),
  };
}
