import type { Source } from './content.ts';

/** What only some sources can do, for a source that asks `source` for everything but what it changes. */
export function abilitiesOf(source: Source): Pick<Source, 'rangesAtOnce' | 'listedTags'> {
  return {
    ...(source.rangesAtOnce === undefined ? {} : { rangesAtOnce: source.rangesAtOnce }),
    ...(source.listedTags === undefined ? {} : { listedTags: async (options) => source.listedTags?.(options) }),
  };
}
