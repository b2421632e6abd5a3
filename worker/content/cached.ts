import { isManifestType } from '../oci/manifest.ts';
import { checkAborted } from '../util/abort.ts';
import { isFailure } from '../util/failure.ts';
import type { Source } from './content.ts';

/**
 * `source`, but manifests are read from `near` where it has them. `near` is asked by digest and all bytes are verified, so it cannot change
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
        return await near.open(d, o);
      } catch (error) {
        checkAborted(o);
        if (!isFailure(error)) throw error;
        return source.open(d, o);
      }
    },
  };
}
