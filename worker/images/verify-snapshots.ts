import type { SnapshotName, Snapshots } from '../store/snapshots.ts';
import { wholeFold, type State } from '../store/state.ts';
import type { Snapshot } from '../store/snapshot.ts';
import { describeFailure, isFailure } from '../util/failure.ts';
import type { OperationOptions } from './backends.ts';
import type { Verifying } from './verify-image.ts';
import type { Finding, Looked, PlaceRequest } from './verify-result.ts';

/** What a place has by its snapshots, and what is wrong with them. */
export interface VerifiedSnapshots {
  readonly state: State;
  /** All that there are, also those that cannot be read. */
  readonly names: readonly SnapshotName[];
  readonly looked: Looked;
  readonly findings: readonly Finding[];
}

/**
 * Reads every snapshot, or the one that is asked for: each must have the bytes that its id names, and the signature of the trusted key where there is
 * one. One without it is a finding, and does not count. NOT_FOUND where the one that is asked for does not exist; INVALID where it is of a newer version, or several have that name.
 */
export async function verifySnapshots(
  snapshots: Snapshots,
  { snapshot: which, asOfMs = Infinity }: Pick<PlaceRequest, 'snapshot' | 'asOfMs'>,
  options: OperationOptions,
  onSnapshot?: (name: SnapshotName, snapshot: Snapshot) => void,
): Promise<VerifiedSnapshots> {
  const findings: Finding[] = [];
  const fold = wholeFold();
  const names = await snapshots.list(options);
  let checked = 0;
  for (const wanted of which === undefined ? names.toReversed() : [which]) {
    const at = typeof wanted === 'string' ? wanted : wanted.key;
    try {
      const found = await snapshots.read(wanted, options);
      checked++;
      const { name, snapshot } = found;
      onSnapshot?.(name, snapshot);
      if (which !== undefined || name.finishedAtMs <= asOfMs) fold.add(found);
    } catch (error) {
      // a garbage collection deleted it meanwhile
      if (which === undefined && isFailure(error, 'NOT_FOUND')) continue;
      if (!isFailure(error, 'CORRUPT', 'INVALID', 'UNSUPPORTED')) throw error;
      if (error.code === 'INVALID' && which !== undefined) throw error;
      findings.push({ kind: 'snapshot', at, message: describeFailure(error) });
    }
  }
  if (which === undefined)
    for (const at of await snapshots.misnamed(options))
      findings.push({
        kind: 'snapshot',
        at,
        message: 'its name is not that of a snapshot: rename it as it was, or delete it',
      });
  return { state: fold.state(), names, looked: { checked, of: which === undefined ? names.length : 1 }, findings };
}

/** Reads the key that must have signed the snapshots, where one is set. Fails where it cannot be read: that is not evidence about a snapshot. */
export async function checkTrustedKey({ backends, options }: Verifying): Promise<void> {
  await backends.snapshotKeys?.trusted?.publicKey(options);
}
