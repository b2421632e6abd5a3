import { html, Html } from '../util/html.ts';
import { describeSample } from '../util/sample.ts';
import type { ProofRecord } from './proof-record.ts';
import type { BackupReport, ReportedRepository } from './report.ts';
import { deduplication, growthChart } from './report-charts.ts';
import { REPORT_STYLE } from './report-style.ts';
import { reportTable } from './report-table.ts';
import { ageOf, bytes, count, percent, round, timeOf } from './report-words.ts';

/** The most rows of a table: what is left out is counted. The oldest come first, so none that is bad is left out. */
const MAX_ROWS = 500;
/** The newest verifications and drills, which are shown even without a finding. */
const NEWEST_PROOFS = 10;
/** The most verifications and drills that are shown. */
const MAX_PROOFS = 30;

/** The report as one page: no script, and nothing that a browser has to fetch. All that it shows of registries is escaped. */
export function reportPage(report: BackupReport): string {
  const { place, madeAt, snapshots, broken } = report;
  // what needs work is not below the fold
  const failed = report.failures.length > 0;
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'" />
        <meta name="referrer" content="no-referrer" />
        <title>Backups in ${place}</title>
        <style>
          ${new Html(REPORT_STYLE)}
        </style>
      </head>
      <body>
        <main>
          <h1>Backups in ${place}</h1>
          <p class="soft">${timeOf(madeAt)}, from ${count(snapshots, 'snapshot')}</p>
          ${facts(report)} ${broken.length === 0 ? '' : list('Snapshots that cannot be read', broken)}
          ${failed ? failures(report) : ''} ${heatMap(report)} ${proved(report)} ${growthChart(report.growth)}
          ${deduplication(report)} ${failed ? '' : failures(report)}
        </main>
      </body>
    </html> `;
  return page.text;
}

function facts({ totals, repositories, madeAt }: BackupReport): Html {
  const [worst] = repositories;
  const known = totals.images + totals.missing;
  const share = known === 0 ? '–' : percent(totals.images / known);
  const age = worst === undefined ? '–' : ageOf(worst.goodAt, madeAt);
  const fact = (label: string, value: string, kind = ''): Html =>
    html`<div class="fact ${kind}"><b>${value}</b><span class="soft">${label}</span></div>`;
  return html`<div class="facts">
    ${fact('of the known images are backed up', share, totals.missing === 0 ? 'good' : 'bad')}
    ${fact('is the age of the oldest complete copy of a repository', age, worst?.goodAt === undefined ? 'bad' : '')}
    ${fact(`in ${count(totals.repositories, 'repository', 'repositories')} of ${count(totals.registries, 'registry', 'registries')}`, count(totals.images, 'image'))}
    ${fact('failed, or are in the archive storage class', String(totals.missing), totals.missing === 0 ? '' : 'bad')}
    ${fact('of content, each layer once', bytes(totals.uniqueBytes))}
  </div>`;
}

/** The ages of copies in four steps, in days: the same day, the day before, a week, more. */
function stepOf(age: number | undefined): string {
  if (age === undefined) return 'none';
  return String(age === 0 ? 0 : age === 1 ? 1 : age <= 7 ? 2 : 3);
}

const LEGEND = [
  ['0', 'backed up that day'],
  ['1', 'the day before'],
  ['2', 'within a week'],
  ['3', 'longer ago'],
  ['none', 'no complete backup yet'],
] as const;

function heatMap({ repositories, days, madeAt, totals }: BackupReport): Html {
  const shown = repositories.slice(0, MAX_ROWS);
  const left = repositories.length - shown.length;
  const name = ({ registry, name: own }: ReportedRepository): string =>
    totals.registries > 1 ? `${registry}/${own}` : own;
  return reportTable({
    title: 'Age of the last complete backup, by repository and day',
    kind: 'heat-map',
    above: html`<div class="legend small soft">
      ${LEGEND.map(([step, label]) => html`<span><i class="age-${step}"></i>${label}</span>`)}
    </div>`,
    columns: [
      { label: 'Repository', kind: 'name' },
      { label: 'Images', kind: 'n optional' },
      { label: 'Bytes', kind: 'n optional' },
      { label: 'Age', kind: 'age' },
      { label: 'Verified', kind: 'optional' },
      { label: 'Restored', kind: 'optional' },
      { label: [days[0], days.at(-1)].map(endOfDays), kind: 'days' },
    ],
    rows: shown.map((one) => [
      { shown: breakable(name(one)), title: `${one.registry}/${one.name}` },
      one.images,
      bytes(one.bytes),
      ageOf(one.goodAt, madeAt),
      ageOf(one.verifiedAt, madeAt),
      ageOf(one.restoredAt, madeAt),
      cells(one, days),
    ]),
    notes: left === 0 ? [] : [`and ${count(left, 'repository', 'repositories')} with a later backup`],
  });
}

/** The first or the last day of the heat map: a phone leaves out the year. */
function endOfDays(day = ''): Html {
  return html`<span><span class="optional">${day.slice(0, 5)}</span>${day.slice(5)}</span>`;
}

/** A name that a narrow screen breaks after a slash. */
function breakable(name: string): Html {
  return html`${name.split(/(?<=\/)/).map((part) => html`${part}<wbr />`)}`;
}

function cells({ ages, name }: ReportedRepository, days: readonly string[]): Html {
  const width = 480 / Math.max(1, ages.length);
  // days of one colour that follow one another are one rectangle
  const parts: Html[] = [];
  for (let from = 0; from < ages.length;) {
    const step = stepOf(ages[from]);
    let to = from + 1;
    while (to < ages.length && stepOf(ages[to]) === step) to++;
    const span = to - from === 1 ? `${days[from]}` : `${days[from]} to ${days[to - 1]}`;
    const label = LEGEND.find(([one]) => one === step)?.[1] ?? '';
    parts.push(
      html`<rect class="age-${step}" x="${round(from * width)}" width="${round((to - from) * width)}" height="16"
        ><title>${span}: ${label}</title></rect
      >`,
    );
    from = to;
  }
  return html`<svg
    class="heat"
    viewBox="0 0 480 16"
    preserveAspectRatio="none"
    role="img"
    aria-label="Backups of ${name} by day"
  >
    ${parts}
  </svg>`;
}

/** The verifications and drills that left a record. */
function proved({ proofs, unreadProofs, madeAt }: BackupReport): Html {
  const title = 'Verifications and drills';
  const notes =
    unreadProofs === 0
      ? []
      : [`${count(unreadProofs, 'record')} cannot be read, and ${unreadProofs === 1 ? 'is' : 'are'} left out.`];
  if (proofs.length === 0)
    return html`<section>
      <h2>${title}</h2>
      <p class="soft">
        No record of one. Rules of kind verify leave one after each run, and so does the command with --record.
      </p>
      ${notes.map((note) => html`<p class="soft small">${note}</p>`)}
    </section>`;
  const shown = proofs.filter(({ findings }, index) => index < NEWEST_PROOFS || findings > 0).slice(0, MAX_PROOFS);
  const left = proofs.length - shown.length;
  return reportTable({
    title,
    kind: 'stacked',
    columns: [
      { label: 'Began' },
      { label: 'Age', kind: 'optional' },
      { label: 'What', kind: 'reason' },
      { label: 'Images', kind: 'n' },
      { label: 'Findings', kind: 'reason' },
    ],
    rows: shown.map((proof) => [
      timeOf(proof.startedAt),
      ageOf(proof.startedAt, madeAt),
      whatOf(proof),
      `${proof.names.checked.toLocaleString('en')} of ${proof.names.of.toLocaleString('en')}`,
      proof.findings === 0 ? 'none' : html`<b class="bad">${proof.findings}</b> ${proof.first[0] ?? ''}`,
    ]),
    notes: [...(left === 0 ? [] : [`and ${left} older`]), ...notes],
  });
}

function whatOf({ kind, depth, sample, restoredTo }: ProofRecord): string {
  const part = sample === undefined ? '' : `, ${describeSample(sample)}`;
  return kind === 'drill' ? `restored to ${restoredTo ?? 'a registry'}${part}` : `verified ${depth ?? ''}${part}`;
}

function failures({ failures: some }: BackupReport): Html {
  if (some.length === 0)
    return html`<section>
      <h2>Failures</h2>
      <p class="soft">The newest backups had no failures.</p>
    </section>`;
  const shown = some.slice(0, MAX_ROWS);
  const left = some.length - shown.length;
  return reportTable({
    title: 'Failures of the newest backups',
    kind: 'stacked',
    columns: [
      { label: 'Image', kind: 'reason' },
      { label: 'Reason', kind: 'reason' },
    ],
    rows: shown.map(({ image, reason }) => [image, reason]),
    notes: left === 0 ? [] : [`and ${left} more`],
  });
}

function list(title: string, sentences: readonly string[]): Html {
  return html`<section>
    <h2>${title}</h2>
    <ul>
      ${sentences.map((one) => html`<li>${one}</li>`)}
    </ul>
  </section>`;
}
