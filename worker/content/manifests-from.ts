import { abilitiesOf } from './abilities.ts';
import { algorithmOf, digestOf, type Digest } from '../oci/digest.ts';
import { isManifestType } from '../oci/manifest.ts';
import { checkAborted } from '../util/abort.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { collect, once } from './bytes.ts';
import type { Source } from './content.ts';

/**
 * `source`, but manifests are read from `copy` where it has them, whole. `copy` is asked by digest and checked against it, so it cannot
 * change what is read, only what it costs: a manifest GET counts as a pull at Docker Hub and moves ECR's last pull time. `onShown` is called with
 * each manifest that `copy` itself gave, not from what it kept.
 */
export function manifestsFrom(source: Source, copy: Source, onShown?: (digest: Digest) => void): Source {
  return {
    ...abilitiesOf(source),
    resolve: (reference, options) => source.resolve(reference, options),
    referrers: (descriptor, options) => source.referrers(descriptor, options),
    tags: (options) => source.tags(options),
    open: async (descriptor, options) => {
      if (!isManifestType(descriptor.mediaType)) return source.open(descriptor, options);
      let isShown = false;
      try {
        const bytes = await collect(
          await copy.open(descriptor, { signal: options?.signal, onAnswered: () => (isShown = true) }),
          descriptor.size,
          () => new Failure('CORRUPT', `the copy of ${descriptor.digest} has more than its ${descriptor.size} bytes`),
        );
        if (digestOf(bytes, algorithmOf(descriptor.digest)) === descriptor.digest) {
          if (isShown) onShown?.(descriptor.digest);
          return once(bytes.subarray(options?.from ?? 0, options?.to));
        }
      } catch (error) {
        checkAborted(options);
        if (!isFailure(error)) throw error;
      }
      return source.open(descriptor, options);
    },
  };
}
