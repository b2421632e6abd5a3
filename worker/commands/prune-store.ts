import type { Backends } from '../images/backends.ts';
import type { DeletingBackends } from '../images/deletions.ts';
import type { StorePrunePlan, StorePruneRequest, StorePruneResult } from '../images/prune-store.ts';
import type { Policy } from '../retention/policy.ts';
import { describeFailure, Failure } from '../util/failure.ts';
import { printResult, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { optionsOf } from './result.ts';
import { connectFlags, type S3Flags, type SideFlags } from './sides.ts';
import type { Look } from './look.ts';
import { formatTable } from './table.ts';
import { formatBytes, printable } from './text.ts';

export interface StorePruneFlags extends CommonFlags, SideFlags, S3Flags {
  readonly yes?: boolean;
  readonly graceDays?: number;
  readonly allowEmpty?: boolean;
}

/** Prunes stores: prints the plan of each, and with `--yes` carries it out. Exit code 1 where nothing of what should go could be deleted. */
export async function pruneStores(
  places: readonly string[],
  policy: Policy,
  flags: StorePruneFlags,
  context: CommandContext,
): Promise<void> {
  const other = places.find((place) => !place.startsWith('store:'));
  if (other !== undefined)
    throw new Failure('INVALID', `stores are pruned alone: prune ${other} in a command of its own`);
  const requests = places.map((place) => ({ place, policy, graceDays: flags.graceDays, allowEmpty: flags.allowEmpty }));
  const pruned = await withProgress(context, flags, async ({ report }) => {
    const connect = { ...connectFlags(flags), concurrency: context.concurrency, report };
    const options = optionsOf(context, {}, report);
    if (flags.yes !== true) {
      await using backends = context.connect(connect);
      return await each(requests, backends, options);
    }
    await using backends = context.connectDeleting(connect);
    return await each(requests, backends, options, backends);
  });
  const documents = pruned.map(documentOf);
  printResult(context, flags, documents.length === 1 ? documents[0] : { stores: documents }, (look) =>
    pruned.map((one) => describe(one, look)).join('\n\n'),
  );
  if (pruned.some(hasFailed)) context.exit(1);
}

type Pruned = StorePrunePlan & Partial<StorePruneResult>;

async function each(
  requests: readonly StorePruneRequest[],
  backends: Backends,
  options: ReturnType<typeof optionsOf>,
  deleting?: DeletingBackends,
): Promise<readonly Pruned[]> {
  const { planStorePrune, pruneStore } = await import('../images/prune-store.ts');
  const pruned: Pruned[] = [];
  for (const request of requests)
    pruned.push(
      deleting === undefined
        ? await planStorePrune(request, backends, options)
        : await pruneStore(request, deleting, options),
    );
  return pruned;
}

/** A locked object stays, which is what its lock is for. Where everything stays, a permission is missing. */
function hasFailed({ deleted, notDeleted = [] }: Pruned): boolean {
  if (deleted === undefined || notDeleted.length === 0) return false;
  return deleted.snapshots + deleted.blobs === 0 || notDeleted.some(({ failure }) => failure.code !== 'DENIED');
}

function documentOf({ location, snapshots, sweep, deleted, notDeleted }: Pruned): object {
  const { needed, young, blobs } = sweep;
  return {
    place: location,
    snapshots: snapshots.map(({ name, scope, action, reason }) => ({
      id: name.id,
      finishedAt: new Date(name.finishedAtMs).toISOString(),
      scope,
      action,
      reason,
    })),
    needed,
    unreferenced: { count: blobs.length, bytes: bytesOf(blobs) },
    young,
    ...(deleted === undefined ? {} : { deleted }),
    ...(notDeleted === undefined ? {} : { notDeleted }),
  };
}

function bytesOf(objects: readonly { readonly size: number }[]): number {
  return objects.reduce((sum, { size }) => sum + size, 0);
}

function describe(pruned: Pruned, look: Look): string {
  const { location, snapshots, sweep, deleted, notDeleted = [] } = pruned;
  const { blobs, needed, young } = sweep;
  const lines = [printable(location)];
  if (snapshots.length > 0)
    lines.push(
      formatTable(
        ['action', 'snapshot', 'finished', 'of', 'reason'],
        snapshots.map(({ name, scope, action, reason }) => [
          action,
          name.id.slice(0, 12),
          new Date(name.finishedAtMs).toISOString(),
          printable(scope),
          printable(reason),
        ]),
        look,
        { shorten: ['of'], drop: ['finished'], wrap: true },
      ),
    );
  lines.push(
    `needed: ${counted(needed)}; unreferenced: ${counted({ count: blobs.length, bytes: bytesOf(blobs) })}; unreferenced and too young to delete: ${counted(young)}`,
  );
  if (deleted === undefined) {
    const going = snapshots.filter(({ action }) => action === 'delete').length;
    lines.push(
      `would delete ${snapshotCount(going)} and ${counted({ count: blobs.length, bytes: bytesOf(blobs) })}`,
      going + blobs.length === 0 ? 'there is nothing to delete' : 'nothing was deleted: pass --yes to delete',
    );
    return lines.join('\n');
  }
  lines.push(
    `deleted ${snapshotCount(deleted.snapshots)} and ${counted({ count: deleted.blobs, bytes: deleted.bytes })}`,
    ...notDeleted.map(({ failure }) => `not deleted: ${printable(describeFailure(failure))}`),
  );
  return lines.join('\n');
}

function counted({ count, bytes }: { readonly count: number; readonly bytes: number }): string {
  return `${count === 1 ? '1 blob' : `${count} blobs`} of ${formatBytes(bytes)}`;
}

function snapshotCount(count: number): string {
  return count === 1 ? '1 snapshot' : `${count} snapshots`;
}
