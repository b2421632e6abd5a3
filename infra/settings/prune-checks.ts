import { partitionOf } from './arn.ts';
import { sizeOf, type Refuse } from './refuse.ts';
import type { InfraSettings } from './schema.ts';

/** Characters of the ARNs of repositories that the role of the Cleaner has room for, in a statement that reads and one that deletes. */
const MAX_PRUNED = 22_000;
/** Of an ARN beside the name of its repository. */
const ARN_OF_REPOSITORY = 50;

/** As many as `access.buckets` has by itself. */
const MAX_BUCKETS = 100;

/** Of `publish`: what the policy of an endpoint has no room for. */
export function checkPublish({ access, publish }: InfraSettings, refuse: Refuse): void {
  const sources = (publish?.prefixes ?? []).filter((prefix) => prefix.startsWith('s3://'));
  const many = access.buckets.length + sources.length;
  if (sources.length > 0 && many > MAX_BUCKETS)
    refuse(
      ['publish', 'prefixes'],
      `with access.buckets they are ${many} places, and the network of the workers has room for ${MAX_BUCKETS}: name fewer, larger prefixes`,
    );
}

/** Of `prune`: what a role would have no room for, or could do nothing with. */
export function checkPrune({ prune, region }: InfraSettings, refuse: Refuse): void {
  if (prune === undefined) return;
  const { prefixes, repositories, roles, secrets } = prune;
  if ([repositories, prefixes, roles, secrets].every((list) => list.length === 0))
    refuse(
      ['prune'],
      'there is nothing in it: name repositories or prefixes that prune rules may delete from, or leave it out',
    );
  const names = repositories.flatMap((some) => some.names);
  const characters = sizeOf(names, ARN_OF_REPOSITORY);
  if (characters > MAX_PRUNED)
    refuse(
      ['prune', 'repositories'],
      `${names.length} names are more than a role has room for, some ${Math.floor((MAX_PRUNED / characters) * names.length)}: say more of them by patterns such as ci/*`,
    );
  const here = partitionOf(region);
  repositories.forEach((one, i) => {
    if (one.region !== undefined && partitionOf(one.region) !== here)
      refuse(
        ['prune', 'repositories', i, 'region'],
        `${one.region} is of ${partitionOf(one.region)}, and ${region} of ${here}: nothing goes from the one to the other`,
      );
  });
  for (const name of ['roles', 'secrets'] as const)
    prune[name].forEach((arn, i) => {
      if (arn.split(':')[1] !== here)
        refuse(['prune', name, i], `expected an ARN of ${region}, which begins with arn:${here}:`);
    });
}
