import type { Source } from './content.ts';

/** The optional members of `source`, for a source that wraps it. */
export function abilitiesOf(source: Source): Pick<Source, 'rangesAtOnce' | 'listedTags'> {
  return {
    ...(source.rangesAtOnce === undefined ? {} : { rangesAtOnce: source.rangesAtOnce }),
    ...(source.listedTags === undefined ? {} : { listedTags: async (options) => source.listedTags?.(options) }),
  };
}
