import { ReportFold, type BackupReport } from '../../worker/images/report.ts';
import type { ProofRecord } from '../../worker/images/proof-record.ts';
import { snapshotKey } from '../../worker/store/snapshot-key.ts';
import type { SnapshotFailure } from '../../worker/store/snapshot.ts';
import type { NamedSnapshot } from '../../worker/store/snapshots.ts';
import type { BackedUpImage } from '../../worker/store/snapshot-builder.ts';
import { digestFor, makeSnapshot, SNAPSHOT_FACTS, snapshotImage } from './snapshots.ts';

const DAY_MS = 86_400_000;
const HOST = SNAPSHOT_FACTS.registry.host;
const NAMES = 'web api auth billing search mail jobs reports gateway images queue ledger audit admin docs proxy'.split(
  ' ',
);

/** A report of 45 daily backups of 16 repositories: one is new, one failed for days, one failed today, a week was missed. */
export function sampleReport(nowMs = Date.UTC(2026, 11, 1, 8)): BackupReport {
  const fold = new ReportFold();
  for (let ago = 0; ago < 45; ago++) if (ago < 20 || ago > 24) fold.add(dailyBackup(nowMs, ago));
  const place = 'store:s3://example-backups/';
  return fold.report({ place, nowMs, days: 60, broken: [], proofs: proofsUntil(nowMs) });
}

/** Weekly drills and daily verifications of a twentieth, one of which found a damaged blob. */
function proofsUntil(nowMs: number): readonly ProofRecord[] {
  return Array.from({ length: 30 }, (_, ago): ProofRecord => {
    const startedAt = new Date(nowMs - ago * DAY_MS - 2 * 3_600_000).toISOString();
    const finishedAt = new Date(nowMs - ago * DAY_MS - 3_600_000).toISOString();
    const sample = { slice: (39 - ago) % 20, slices: 20 };
    const common = { version: 1, startedAt, finishedAt, sample } as const;
    if (ago % 7 === 3)
      return {
        ...common,
        kind: 'drill',
        names: { checked: 7, of: 126 },
        findings: 0,
        first: [],
        restoredTo: '111111111111.dkr.ecr.eu-central-1.amazonaws.com/scratch',
        restored: NAMES.filter((_name, index) => (index + ago) % 3 === 0).map((name) => `${HOST}/shop/${name}`),
      };
    const isBad = ago === 9;
    return {
      ...common,
      kind: 'verification',
      depth: 'bytes',
      names: { checked: 126, of: 126 },
      findings: isBad ? 1 : 0,
      first: isBad ? ['faulty: sha256:5f1e…: it has other bytes than its digest says'] : [],
    };
  });
}

function dailyBackup(nowMs: number, ago: number): NamedSnapshot {
  const finishedAt = new Date(nowMs - ago * DAY_MS - 5 * 3_600_000).toISOString();
  const failures: SnapshotFailure[] = [
    ...(ago < 4 ? [{ repository: 'shop/ledger', tag: 'v40', reason: 'a layer of it is missing in the registry' }] : []),
    ...(ago === 0 ? [{ repository: 'shop/audit', reason: 'the role needs ecr:BatchGetImage on shop/audit' }] : []),
  ];
  const repositories = Object.fromEntries(
    NAMES.flatMap((name, index) =>
      (name === 'proxy' && ago > 9) || (name === 'audit' && ago === 0)
        ? []
        : [[`shop/${name}`, { images: imagesOf(name, index, ago) }]],
    ),
  );
  const newBytes = (ago === 44 ? 120 : ago % 7 < 2 ? 1 : 4 + ((ago * 7) % 9)) * 800_000;
  const snapshot = { ...makeSnapshot({ finishedAt, repositories, failures }), added: { blobs: 10, bytes: newBytes } };
  const id = digestFor(finishedAt).slice('sha256:'.length);
  const finishedAtMs = Date.parse(finishedAt);
  return {
    snapshot,
    name: { id, key: snapshotKey('', finishedAt, id), finishedAtMs, size: 1, storedAtMs: finishedAtMs },
  };
}

function imagesOf(name: string, index: number, ago: number): readonly BackedUpImage[] {
  return Array.from({ length: 4 + ((index * 5) % 9) }, (_, version) =>
    snapshotImage(`${name}-${version + Math.floor((45 - ago) / 3)}`, [`v${version + Math.floor((45 - ago) / 3)}`]),
  );
}
