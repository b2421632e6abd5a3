import { abilitiesOf } from './abilities.ts';
import { checkAborted } from '../util/abort.ts';
import type { Digest } from '../oci/digest.ts';
import { isFailure } from '../util/failure.ts';
import type { Bytes, Source } from './content.ts';

/**
 * `source`, but its content is read from `copy`, another place that has it. What a name stands for, and what refers to it, only `source` says.
 * Content that `copy` does not have, or breaks off, comes from `source` from there on. A wrong byte in `copy` fails a read as one in `source`
 * would: the caller then reads again from `source` alone.
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
      const giveUp = (error: unknown): void => {
        checkAborted(options);
        if (!isFailure(error)) throw error;
        givenUp.add(descriptor.digest);
      };
      try {
        return watched(await copy.open(descriptor, options), giveUp);
      } catch (error) {
        giveUp(error);
        return source.open(descriptor, options);
      }
    },
  };
}

/** The same body. `broken` is called with its failure before that is thrown, so that the read that resumes asks elsewhere. */
async function* watched(body: Bytes, broken: (error: unknown) => void): Bytes {
  try {
    yield* body;
  } catch (error) {
    broken(error);
    throw error;
  }
}
