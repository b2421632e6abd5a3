import type { Policy } from '../retention/policy.ts';
import { keptByTime, whyItGoes } from '../retention/rules.ts';
import type { Abortable } from '../util/abort.ts';
import { ifFound } from '../util/failure.ts';
import type { Snapshot } from './snapshot.ts';
import type { SnapshotName, Snapshots } from './snapshots.ts';
import { wholeFold } from './state.ts';

/** What becomes of a snapshot, and why. */
export interface JudgedSnapshot {
  readonly name: SnapshotName;
  /** What was backed up: `host/*`, `host/team/app:v*`. */
  readonly scope: string;
  readonly action: 'keep' | 'delete';
  readonly reason: string;
}

/** The reason for which a snapshot that gives the present state stays, whatever the policy. */
const PRESENT = 'part of what a restore gives now';

/**
 * Which snapshots go, from the newest to the oldest. Each rule of the policy counts the snapshots of one scope, because a backup of one tag does not
 * stand for one of the whole registry. What the state of now is made of stays: at least the newest snapshot of each registry. Reads every snapshot.
 * Failures as `Snapshots.read`.
 */
export async function judgeSnapshots(
  snapshots: Snapshots,
  policy: Policy | undefined,
  { nowMs, signal }: Abortable & { readonly nowMs: number },
): Promise<readonly JudgedSnapshot[]> {
  const names = (await snapshots.list({ signal })).toReversed();
  const fold = wholeFold();
  const found: { readonly name: SnapshotName; readonly scope: string; readonly isPresent: boolean }[] = [];
  for (const name of names) {
    const named = await ifFound(snapshots.read(name, { signal }));
    // another collection deleted it
    if (named === undefined) continue;
    found.push({ name, scope: scopeOf(named.snapshot), isPresent: fold.add(named) });
  }
  if (policy === undefined)
    return found.map(({ name, scope }) => ({ name, scope, action: 'keep', reason: 'no rule deletes snapshots' }));
  const kept = new Map<SnapshotName, readonly string[]>();
  for (const group of Map.groupBy(found, ({ scope }) => scope).values()) {
    const aged = group.map(({ name }) => ({ node: name, pushedAtMs: name.finishedAtMs }));
    for (const [name, reasons] of keptByTime(aged, policy, nowMs)) kept.set(name, reasons);
  }
  return found.map(({ name, scope, isPresent }) => {
    const reasons = [...(isPresent ? [PRESENT] : []), ...(kept.get(name) ?? [])];
    return reasons.length > 0
      ? { name, scope, action: 'keep', reason: reasons.join(', ') }
      : { name, scope, action: 'delete', reason: whyItGoes({ policy }, []) };
  });
}

function scopeOf({ registry, scope }: Snapshot): string {
  const { repositories, tags } = scope;
  return `${registry.host}/${repositories}${tags === undefined ? '' : `:${tags}`}`;
}
