import { readShard, readSnapshot, type Snapshot, type SnapshotEntry } from '../artifacts/snapshot.ts';
import type { Source } from '../content/content.ts';
import { readAll } from '../content/read.ts';
import { MAX_MANIFEST_BYTES, parseManifest, type Descriptor, type Manifest } from '../oci/manifest.ts';
import { Failure, isFailure, onSide, type Side } from '../util/failure.ts';
import type { OperationOptions } from './backends.ts';

export interface OpenedSnapshot {
  readonly descriptor: Descriptor;
  readonly snapshot: Snapshot;
}

/** The manifest that `descriptor` names. */
export async function readManifest(
  source: Source,
  descriptor: Descriptor,
  { signal, clock, report }: OperationOptions,
): Promise<Manifest> {
  const bytes = await readAll(source, descriptor, MAX_MANIFEST_BYTES, { signal, clock, report });
  return parseManifest(bytes, descriptor.mediaType);
}

/** The snapshot that `descriptor` names; undefined where that is something else. */
export async function openSnapshot(
  source: Source,
  descriptor: Descriptor,
  options: OperationOptions,
): Promise<OpenedSnapshot | undefined> {
  const snapshot = readSnapshot(await readManifest(source, descriptor, options));
  return snapshot === undefined ? undefined : { descriptor, snapshot };
}

/**
 * Every object of these shards in the order of the keys, one shard in memory at a time. Failures carry the side that `source` is on: NOT_FOUND where
 * a shard is missing; INVALID or CORRUPT, with `context.isBrokenSnapshot`, where one differs from what the snapshot states, or is out of order.
 */
export async function* entriesOf(
  source: Source,
  shards: readonly Descriptor[],
  { side, ...options }: OperationOptions & { readonly side: Side },
): AsyncGenerator<SnapshotEntry, void, undefined> {
  let last: string | undefined;
  for (const shard of shards) {
    const entries = await onSide(
      side,
      readEntries(source, shard, last, options).catch((error: unknown) => {
        throw broken(error);
      }),
    );
    yield* entries;
    last = entries.at(-1)?.key ?? last;
  }
}

async function readEntries(
  source: Source,
  shard: Descriptor,
  last: string | undefined,
  options: OperationOptions,
): Promise<readonly SnapshotEntry[]> {
  const entries = readShard(await readManifest(source, shard, options), last);
  if (entries !== undefined) return entries;
  throw new Failure('INVALID', `the snapshot names ${shard.digest}, which is not a shard`);
}

function broken(error: unknown): unknown {
  if (!isFailure(error, 'INVALID', 'CORRUPT')) return error;
  const { code, message, context } = error;
  return new Failure(code, message, { cause: error.cause, context: { ...context, isBrokenSnapshot: true } });
}
