import { checkAborted } from '../util/abort.ts';
import type { Digest } from '../oci/digest.ts';
import { isFailure } from '../util/failure.ts';
import type { Bytes, Source } from './content.ts';

/**
 * `source`, but its content is read from `near`, a copy of it: what a name stands for, and what refers to it, only `source` says. What `near`
 * has not, or breaks off with, comes from `source` from there on. A wrong byte at `near` fails a read as one at `source` would: who reads has
 * to read once more from `source` alone.
 */
export function nearest(near: Source, source: Source): Source {
  const givenUp = new Set<Digest>();
  return {
    ...(near.rangesAtOnce === undefined ? {} : { rangesAtOnce: near.rangesAtOnce }),
    resolve: (reference, o) => source.resolve(reference, o),
    referrers: (d, o) => source.referrers(d, o),
    tags: (o) => source.tags(o),
    open: async (d, o) => {
      if (givenUp.has(d.digest)) return source.open(d, o);
      const giveUp = (error: unknown): void => {
        checkAborted(o);
        if (!isFailure(error)) throw error;
        givenUp.add(d.digest);
      };
      try {
        return watched(await near.open(d, o), giveUp);
      } catch (error) {
        giveUp(error);
        return source.open(d, o);
      }
    },
  };
}

/** A body whose breaking off is told before it is thrown: who goes on with it asks elsewhere. */
async function* watched(body: Bytes, broken: (error: unknown) => void): Bytes {
  try {
    yield* body;
  } catch (error) {
    broken(error);
    throw error;
  }
}
