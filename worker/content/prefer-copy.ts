import { abilitiesOf } from './abilities.ts';
import { checkAborted } from '../util/abort.ts';
import type { Digest } from '../oci/digest.ts';
import { isFailure } from '../util/failure.ts';
import type { Source } from './content.ts';
import { watched } from './watch.ts';

/**
 * `source`, but its content is read from `copy`, another place that has it. Names and referrers are resolved by `source` alone. Content that `copy`
 * does not have comes from `source`; where a body of `copy` breaks off, `source` supplies the rest. A wrong byte in `copy` fails a read as one in
 * `source` would: the caller then reads again from `source` alone.
 */
export function preferCopy(copy: Source, source: Source): Source {
  const givenUp = new Set<Digest>();
  const { listedTags } = abilitiesOf(source);
  return {
    ...(copy.rangesAtOnce === undefined ? {} : { rangesAtOnce: copy.rangesAtOnce }),
    ...(listedTags === undefined ? {} : { listedTags }),
    resolve: (reference, options) => source.resolve(reference, options),
    referrers: (descriptor, options) => source.referrers(descriptor, options),
    tags: (options) => source.tags(options),
    open: async (descriptor, options) => {
      if (givenUp.has(descriptor.digest)) return source.open(descriptor, options);
      // before it is thrown, so that the read that resumes asks elsewhere
      const failed = (error: unknown): unknown => {
        if (isFailure(error) && options?.signal?.aborted !== true) givenUp.add(descriptor.digest);
        return error;
      };
      try {
        return watched(await copy.open(descriptor, options), { failed });
      } catch (error) {
        checkAborted(options);
        if (!isFailure(error)) throw error;
        givenUp.add(descriptor.digest);
        return source.open(descriptor, options);
      }
    },
  };
}
