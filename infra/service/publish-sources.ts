import { parseObjectPlace } from '../settings/object-place.ts';
import type { InfraSettings } from '../settings/schema.ts';

/** What workers and the planner may reach: `access`, and reading the objects that publish rules publish. */
export function accessOf({ access, publish }: Pick<InfraSettings, 'access' | 'publish'>): InfraSettings['access'] {
  const sources = (publish?.prefixes ?? []).map(parseObjectPlace).flatMap(({ bucket, prefix }) => {
    // workers and the planner may read the whole bucket of the deployment anyway
    if (bucket === undefined) return [];
    const isOpen = access.buckets.some((some) => some.name === bucket && prefix.startsWith(some.prefix));
    return isOpen ? [] : [{ name: bucket, prefix, allow: 'read' as const }];
  });
  return { ...access, buckets: [...access.buckets, ...sources] };
}

/** The objects that publish rules publish. `own` is the name of the deployment's bucket. */
export function publishedFrom(
  { publish }: Pick<InfraSettings, 'publish'>,
  own: string,
): readonly { readonly bucket: string; readonly prefix: string }[] {
  return (publish?.prefixes ?? []).map(parseObjectPlace).map(({ bucket = own, prefix }) => ({ bucket, prefix }));
}
