import { partitionOf } from './arn.ts';
import { refuseTooMany, sizeOf, type Refuse } from './refuse.ts';
import type { InfraSettings } from './schema.ts';

/** Characters of the ARNs of repositories that the Cleaner's role has room for, each in a statement that reads and one that deletes. */
const MAX_PRUNED = 22_000;

/** The most entries that `access.buckets` alone may have. */
const MAX_BUCKETS = 100;

/** Refuses `publish.prefixes` that do not fit into the policy of an endpoint. */
export function checkPublish({ access, publish }: InfraSettings, refuse: Refuse): void {
  const sources = (publish?.prefixes ?? []).filter((prefix) => prefix.startsWith('s3://'));
  const many = access.buckets.length + sources.length;
  if (sources.length > 0 && many > MAX_BUCKETS)
    refuse(
      ['publish', 'prefixes'],
      `together with access.buckets they are ${many} places, and the endpoint of the workers' network has room for ${MAX_BUCKETS}: name fewer, larger prefixes`,
    );
}

/** Refuses settings of `prune` that do not fit into a role, or that a role cannot use. */
export function checkPrune({ prune, region }: InfraSettings, refuse: Refuse): void {
  if (prune === undefined) return;
  const { prefixes, repositories, roles, scratch, secrets, stores } = prune;
  if ([repositories, scratch, prefixes, stores, roles, secrets].every((list) => list.length === 0))
    refuse(['prune'], 'it is empty: name repositories, prefixes, stores or scratch repositories, or remove it');
  // two statements name each scratch prefix
  const pruned = repositories.flatMap((some) => some.names);
  const drilled = scratch.flatMap((some) => some.prefixes);
  const [mostly, advice] =
    2 * sizeOf(drilled, 0) > sizeOf(pruned, 0)
      ? ['scratch', 'let drills share a prefix such as drills']
      : ['repositories', 'name more of them by patterns such as ci/*'];
  refuseTooMany([...pruned, ...drilled, ...drilled], { path: ['prune', mostly], room: MAX_PRUNED, advice }, refuse);
  const here = partitionOf(region);
  for (const name of ['repositories', 'scratch'] as const)
    prune[name].forEach((one, i) => {
      if (one.region !== undefined && partitionOf(one.region) !== here)
        refuse(
          ['prune', name, i, 'region'],
          `${one.region} is of ${partitionOf(one.region)}, and ${region} of ${here}: neither can reach the other`,
        );
    });
  for (const name of ['roles', 'secrets'] as const)
    prune[name].forEach((arn, i) => {
      if (arn.split(':')[1] !== here)
        refuse(['prune', name, i], `expected an ARN of ${region}, which begins with arn:${here}:`);
    });
}
