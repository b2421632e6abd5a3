import { describe, expect, test } from 'vitest';
import { ReportFold } from '../../../worker/images/report.ts';
import type { ProofRecord } from '../../../worker/images/proof-record.ts';
import { reportPage } from '../../../worker/images/report-page.ts';
import { snapshotKey } from '../../../worker/store/snapshot-key.ts';
import type { Snapshot } from '../../../worker/store/snapshot.ts';
import type { NamedSnapshot } from '../../../worker/store/snapshots.ts';
import { html } from '../../../worker/util/html.ts';
import { sampleReport } from '../../support/sample-report.ts';
import { makeSnapshot, SNAPSHOT_FACTS, snapshotImage } from '../../support/snapshots.ts';

function named(snapshot: Snapshot): NamedSnapshot {
  const finishedAtMs = Date.parse(snapshot.finishedAt);
  const id = 'a'.repeat(64);
  return {
    snapshot,
    name: { id, key: snapshotKey('', snapshot.finishedAt, id), finishedAtMs, size: 1, storedAtMs: finishedAtMs },
  };
}

const NOW = Date.parse('2026-12-05T12:00:00Z');
const ABOUT = { place: 'store:folder', nowMs: NOW, days: 6, broken: [] };
const day = (number: number): string => `2026-12-0${number}T02:00:00.000Z`;

describe('a report', () => {
  test('has the age of the last complete backup of each repository on each day, the oldest first', () => {
    const fold = new ReportFold();
    const app = { images: [snapshotImage('a', ['v1'])] };
    const newestFirst = [
      makeSnapshot({
        finishedAt: day(5),
        repositories: { app, new: { images: [snapshotImage('b', ['v1'])] } },
        failures: [{ repository: 'app', tag: 'v2', reason: 'it failed' }],
      }),
      // a push, which is not a backup of the repository
      makeSnapshot({
        finishedAt: day(4),
        scope: { ...SNAPSHOT_FACTS.scope, listed: false },
        repositories: { app: { ...app, complete: false } },
      }),
      makeSnapshot({ finishedAt: day(2), repositories: { app } }),
    ];
    for (const snapshot of newestFirst) fold.add(named(snapshot));
    const report = fold.report(ABOUT);
    expect(report.days).toEqual(['2026-11-30', ...[1, 2, 3, 4, 5].map((number) => `2026-12-0${number}`)]);
    expect(report.repositories).toMatchObject([
      { name: 'app', goodAt: day(2), missing: 1, ages: [undefined, undefined, 0, 1, 2, 3] },
      { name: 'new', goodAt: day(5), missing: 0, ages: [undefined, undefined, undefined, undefined, undefined, 0] },
    ]);
    expect(report.failures).toEqual([{ image: `${SNAPSHOT_FACTS.registry.host}/app:v2`, reason: 'it failed' }]);
    expect(report.totals).toMatchObject({ registries: 1, repositories: 2, images: 2, tags: 2, missing: 1 });
    expect(report.totals.imageBytes - report.totals.uniqueBytes).toBe(30_000_000);
  });

  test('has what backups sent by day, and counts what was sent before', () => {
    const fold = new ReportFold();
    for (const [at, bytes] of [
      [day(5), 7],
      [day(5), 5],
      [day(3), 3],
      ['2026-10-01T02:00:00.000Z', 100],
    ] as const)
      fold.add(named({ ...makeSnapshot({ finishedAt: at }), added: { blobs: 1, bytes } }));
    expect(fold.report(ABOUT).growth.map(({ newBytes, sentBytes }) => [newBytes, sentBytes])).toEqual([
      [0, 100],
      [0, 100],
      [0, 100],
      [3, 103],
      [0, 103],
      [12, 115],
    ]);
  });

  test('shows when each repository was last verified and restored, and ignores proofs from before its first backup', () => {
    const fold = new ReportFold();
    const app = { images: [snapshotImage('a', ['v1'])] };
    const late = { images: [snapshotImage('b', ['v1'])] };
    fold.add(named(makeSnapshot({ finishedAt: day(4), repositories: { app, late } })));
    fold.add(named(makeSnapshot({ finishedAt: day(1), repositories: { app } })));
    const host = SNAPSHOT_FACTS.registry.host;
    const proof = (number: number, more: Partial<ProofRecord>): ProofRecord => ({
      version: 1,
      kind: 'verification',
      startedAt: day(number),
      finishedAt: day(number),
      depth: 'bytes',
      names: { checked: 1, of: 1 },
      findings: 0,
      first: [],
      ...more,
    });
    const proofs = [
      proof(5, { findings: 1, first: ['faulty: it'] }),
      proof(5, { depth: 'tags' }),
      proof(3, {}),
      proof(3, { kind: 'drill', restored: [`${host}/app`] }),
      proof(2, {}),
    ];
    const { repositories } = fold.report({ ...ABOUT, proofs });
    const [one, other] = [
      repositories.find(({ name }) => name === 'app'),
      repositories.find(({ name }) => name === 'late'),
    ];
    expect(one).toMatchObject({ verifiedAt: day(3), restoredAt: day(3) });
    expect(other).not.toHaveProperty('verifiedAt');
    expect(other).not.toHaveProperty('restoredAt');
  });

  test('counts an archived image as not backed up', () => {
    const fold = new ReportFold();
    const image = snapshotImage('a', ['v1'], { archived: true, content: [], bytes: 9 });
    fold.add(named(makeSnapshot({ finishedAt: day(5), repositories: { app: { images: [image] } } })));
    expect(fold.report(ABOUT).totals).toMatchObject({ images: 0, missing: 1, uniqueBytes: 0, imageBytes: 0 });
  });
});

/** The elements of a page that were opened and not closed, or closed and not opened. */
function unbalanced(page: string): readonly string[] {
  const open: string[] = [];
  const wrong: string[] = [];
  for (const [, slash, name = '', rest = ''] of page.matchAll(/<(\/?)([a-z0-9]+)((?:"[^"]*"|[^>"])*)>/g)) {
    if (['meta', '!doctype', 'wbr'].includes(name) || rest.endsWith('/')) continue;
    if (slash === '') open.push(name);
    else if (open.pop() !== name) wrong.push(name);
  }
  return [...open, ...wrong];
}

describe('the page of a report', () => {
  const page = reportPage(sampleReport());

  test('is complete: every element that is opened is closed', () => expect(unbalanced(page)).toEqual([]));

  test('makes a browser request nothing, run nothing and load nothing', () => {
    expect(page).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`);
    expect(page).not.toMatch(/<script|<link|<img|<iframe|\bsrc=|\bhref=|url\(|@import|\bon[a-z]+=/i);
    expect(page).not.toMatch(/https?:/);
  });

  test('is for light and dark, and for a phone', () => {
    expect(page).toContain('prefers-color-scheme: dark');
    expect(page).toContain('<meta name="viewport" content="width=device-width, initial-scale=1" />');
  });

  test('shows failures with their reasons, and never 100 % where something is missing', () => {
    expect(page).toContain('the role needs ecr:BatchGetImage on shop/audit');
    expect(page).toMatch(/<b>98\.5 %<\/b>/);
    const { totals, ...rest } = sampleReport();
    expect(reportPage({ ...rest, totals: { ...totals, images: 99_999, missing: 1 } })).toContain('<b>99.9 %</b>');
  });

  test('shows verifications and drills with their findings', () => {
    expect(page).toContain('restored to 111111111111.dkr.ecr.eu-central-1.amazonaws.com/scratch, sample');
    expect(page).toContain('faulty: sha256:5f1e…: it has other bytes than its digest states');
    // the newest ten, and an older one with a finding
    expect(page.match(/verified bytes, sample|restored to 1111/g)).toHaveLength(11);
    expect(page).toContain('and 19 older');
    const none = reportPage({ ...sampleReport(), proofs: [], unreadProofs: 2 });
    expect(none).toContain('No record of one.');
    expect(none).toContain('2 records cannot be read');
    expect(unbalanced(none)).toEqual([]);
  });

  test('escapes names and reasons', () => {
    const evil = `</title><script>alert("1")</script>' onload='x`;
    const sample = sampleReport();
    const hostile = reportPage({
      ...sample,
      place: evil,
      broken: [evil],
      failures: [{ image: evil, reason: evil }],
      proofs: sample.proofs.map((one) => ({ ...one, findings: 1, first: [evil], restoredTo: evil })),
      repositories: sample.repositories.map((one) => Object.assign({}, one, { name: evil, registry: evil })),
    });
    expect(hostile).not.toMatch(/<script/i);
    expect(hostile).not.toContain(`' onload`);
    expect(unbalanced(hostile)).toEqual([]);
  });

  test('of 10,000 repositories shows those with the oldest backups, and counts the others', () => {
    const sample = sampleReport();
    const [one] = sample.repositories;
    if (one === undefined) throw new Error('the sample has no repository');
    const repositories = Array.from({ length: 10_000 }, (_, index) => ({ ...one, name: `app-${index}` }));
    const large = reportPage({ ...sample, repositories });
    expect(large).toContain('and 9,500 repositories with a later backup');
    expect(large.length).toBeLessThan(2_000_000);
  });

  test('is complete for a place without images', () => {
    expect(unbalanced(reportPage(new ReportFold().report(ABOUT)))).toEqual([]);
  });
});

test('html escapes for text and attributes, and joins lists', () => {
  expect(html`<i title="${`"<&'`}">${['a<', html`<b>${1}</b>`]}</i>`.text).toBe(
    '<i title="&quot;&lt;&amp;&#39;">a&lt;<b>1</b></i>',
  );
});
