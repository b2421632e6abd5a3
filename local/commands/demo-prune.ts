import type { Stack } from '../stack.ts';
import type { Look } from '../../worker/commands/look.ts';
import { formatTable } from '../../worker/commands/table.ts';
import { formatBytes, formatDigest, formatTag } from '../../worker/commands/text.ts';
import type { Backends, OperationOptions } from '../../worker/images/backends.ts';
import { planPlaces } from '../../worker/images/plan-places.ts';
import { Failure } from '../../worker/util/failure.ts';

/**
 * Plans what would be deleted by a rule that keeps the newest image of each repository, among images that have a whole backup.
 * Deletes nothing. Returns a table of what would be deleted, and a sentence about it. UNAVAILABLE when nothing would be deleted.
 */
export async function planDemoPrune(
  stack: Stack,
  backends: Backends,
  options: OperationOptions,
  look: Look,
): Promise<{ readonly table: string; readonly what: string }> {
  const plan = await planPlaces(
    {
      places: [`${stack.ecr.registryHost}/product/*`],
      policies: [{ repositories: ['*'], keepLast: 1 }],
      requireBackup: `s3://${stack.bucket}/`,
    },
    backends,
    options,
  );
  const { delete: going, keep, bytes } = plan.totals;
  const rows = plan.repositories.flatMap(({ items }) =>
    items
      .filter(({ action }) => action !== 'keep')
      .map(({ id, action, tags, reason }) => [action, formatDigest(id), tags.map(formatTag).join(' '), reason]),
  );
  if (rows.length === 0) throw new Failure('UNAVAILABLE', 'plan what to delete: the plan deletes nothing');
  const what = `keepLast 1 would delete ${going} manifests of ${formatBytes(bytes)}, whose backups are whole, and keep ${keep}; a plan deletes nothing`;
  return {
    table: formatTable(['action', 'manifest', 'tags', 'reason'], rows, look, { drop: ['manifest'], wrap: true }),
    what,
  };
}
