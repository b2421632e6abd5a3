import { ReportFold, type BackupReport } from '../../worker/images/report.ts';
import { MEDIA_TYPE } from '../../worker/oci/manifest.ts';
import type { ProofRecord } from '../../worker/images/proof-record.ts';
import { snapshotKey } from '../../worker/store/snapshot-key.ts';
import type { SnapshotFailure } from '../../worker/store/snapshot.ts';
import type { NamedSnapshot } from '../../worker/store/snapshots.ts';
import type { BackedUpImage } from '../../worker/store/snapshot-builder.ts';
import { digestFor, makeSnapshot, SNAPSHOT_FACTS, snapshotImage } from './snapshots.ts';

const DAY_MS = 86_400_000;
const MB = 1_000_000;
const HOST = SNAPSHOT_FACTS.registry.host;

/** The layers that images share, by their programming language. */
const RUNTIMES = { node: 52 * MB, java: 148 * MB, python: 61 * MB, go: 2 * MB } as const;

/** Each with its runtime, the megabytes of its own layer, and the number of its versions. */
const REPOSITORIES: readonly (readonly [name: string, runtime: keyof typeof RUNTIMES, megabytes: number, number])[] = [
  ['shop/web', 'node', 46, 12],
  ['shop/api', 'java', 71, 10],
  ['shop/auth', 'go', 18, 6],
  ['shop/search', 'java', 94, 8],
  ['shop/audit', 'java', 38, 9],
  ['payments/billing', 'java', 66, 10],
  ['payments/ledger', 'java', 59, 5],
  ['payments/invoices', 'python', 31, 7],
  ['data/reports', 'python', 212, 12],
  ['data/jobs', 'python', 174, 7],
  ['data/forecast', 'python', 388, 4],
  ['platform/gateway', 'go', 22, 8],
  ['platform/queue', 'go', 15, 9],
  ['platform/proxy', 'go', 12, 7],
  ['platform/build-images/debian-toolchain', 'go', 640, 4],
  ['docs', 'node', 9, 11],
];

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
        restored: REPOSITORIES.filter((_one, index) => (index + ago) % 3 === 0).map(([name]) => `${HOST}/${name}`),
      };
    const isBad = ago === 16;
    return {
      ...common,
      kind: 'verification',
      depth: 'bytes',
      names: { checked: 126, of: 126 },
      findings: isBad ? 1 : 0,
      first: isBad ? ['faulty: sha256:5f1e…: it has other bytes than its digest states'] : [],
    };
  });
}

function dailyBackup(nowMs: number, ago: number): NamedSnapshot {
  const finishedAt = new Date(nowMs - ago * DAY_MS - 5 * 3_600_000).toISOString();
  const failures: SnapshotFailure[] = [
    ...(ago < 4
      ? [{ repository: 'payments/ledger', tag: 'v40', reason: 'a layer of it is missing in the registry' }]
      : []),
    ...(ago === 0 ? [{ repository: 'shop/audit', reason: 'the role needs ecr:BatchGetImage on shop/audit' }] : []),
  ];
  const repositories = Object.fromEntries(
    REPOSITORIES.flatMap((one) =>
      (one[0] === 'platform/proxy' && ago > 9) || (one[0] === 'shop/audit' && ago === 0)
        ? []
        : [[one[0], { images: imagesOf(one, ago) }]],
    ),
  );
  const newBytes = (ago === 44 ? 14_600 : ago % 7 < 2 ? 60 : 420 + ((ago * 7) % 9) * 90) * MB;
  const snapshot = { ...makeSnapshot({ finishedAt, repositories, failures }), added: { blobs: 10, bytes: newBytes } };
  const id = digestFor(finishedAt).slice('sha256:'.length);
  const finishedAtMs = Date.parse(finishedAt);
  return {
    snapshot,
    name: { id, key: snapshotKey('', finishedAt, id), finishedAtMs, size: 1, storedAtMs: finishedAtMs },
  };
}

function imagesOf(
  [name, runtime, megabytes, versions]: (typeof REPOSITORIES)[number],
  ago: number,
): readonly BackedUpImage[] {
  return Array.from({ length: versions }, (_, index) => {
    const version = index + Math.floor((45 - ago) / 3);
    const own = `${name}-${version}`;
    return snapshotImage(own, [`v${version}`], {
      content: [
        { digest: digestFor(own), size: 700, mediaType: MEDIA_TYPE.ociManifest },
        { digest: digestFor(`${own}/config`), size: 300 },
        { digest: digestFor('base'), size: 30 * MB },
        { digest: digestFor(runtime), size: RUNTIMES[runtime] },
        { digest: digestFor(`${own}/layer`), size: megabytes * MB },
      ],
    });
  });
}
