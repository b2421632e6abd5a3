import { html, Html } from '../util/html.ts';
import { highest } from '../util/lists.ts';
import { describeSample } from '../util/sample.ts';
import type { ProofRecord } from './proof-record.ts';
import type { BackupReport, DayOfBackups, ReportedRepository } from './report.ts';
import { REPORT_STYLE } from './report-style.ts';

/** The most rows of a table: what is left out is counted. The oldest come first, so none that is bad is left out. */
const MAX_ROWS = 500;
/** The most verifications and drills that are shown: the newest. */
const MAX_PROOFS = 30;

/** The report as one page: no script, and nothing that a browser has to fetch. All that it shows of registries is escaped. */
export function reportPage(report: BackupReport): string {
  const { place, madeAt, snapshots, broken } = report;
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
          ${heatMap(report)} ${proved(report)} ${growthChart(report.growth)} ${deduplication(report)}
          ${failures(report)}
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
  const name = ({ registry, name: own }: ReportedRepository): string =>
    totals.registries > 1 ? `${registry}/${own}` : own;
  const rows = shown.map(
    (one) =>
      html`<tr>
        <td class="name" title="${`${one.registry}/${one.name}`}">${name(one)}</td>
        <td class="n optional">${one.images}</td>
        <td class="n optional">${bytes(one.bytes)}</td>
        <td>${ageOf(one.goodAt, madeAt)}</td>
        <td class="optional">${ageOf(one.verifiedAt, madeAt)}</td>
        <td class="optional">${ageOf(one.restoredAt, madeAt)}</td>
        <td class="days">${cells(one, days)}</td>
      </tr> `,
  );
  const left = repositories.length - shown.length;
  return html`<section>
    <h2>Age of the last complete backup, by repository and day</h2>
    <div class="legend small soft">
      ${LEGEND.map(([step, label]) => html`<span><i class="age-${step}"></i>${label}</span>`)}
    </div>
    <div class="wide">
      <table>
        <thead>
          <tr>
            <th>Repository</th>
            <th class="n optional">Images</th>
            <th class="n optional">Bytes</th>
            <th>Age</th>
            <th class="optional">Verified</th>
            <th class="optional">Restored</th>
            <th>${days[0] ?? ''} to ${days.at(-1) ?? ''}</th>
          </tr>
        </thead>
        <tbody>
          ${rows}
        </tbody>
      </table>
    </div>
    ${left === 0 ? '' : html`<p class="soft small">and ${count(left, 'repository', 'repositories')} with a later backup</p>`}
  </section>`;
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
  const note =
    unreadProofs === 0
      ? ''
      : html`<p class="soft small">
          ${count(unreadProofs, 'record')} cannot be read, and ${unreadProofs === 1 ? 'is' : 'are'} left out.
        </p>`;
  if (proofs.length === 0)
    return html`<section>
      <h2>Verifications and drills</h2>
      <p class="soft">
        No record of one. Rules of kind verify leave one after each run, and so does the command with --record.
      </p>
      ${note}
    </section>`;
  const rows = proofs.slice(0, MAX_PROOFS).map(
    (proof) =>
      html`<tr>
        <td>${timeOf(proof.startedAt)}</td>
        <td>${ageOf(proof.startedAt, madeAt)}</td>
        <td class="reason">${whatOf(proof)}</td>
        <td class="n">${proof.names.checked.toLocaleString('en')} of ${proof.names.of.toLocaleString('en')}</td>
        <td class="reason">
          ${proof.findings === 0 ? 'none' : html`<b class="bad">${proof.findings}</b> ${proof.first[0] ?? ''}`}
        </td>
      </tr> `,
  );
  const left = proofs.length - rows.length;
  return html`<section>
    <h2>Verifications and drills</h2>
    <div class="wide">
      <table>
        <thead>
          <tr>
            <th>Began</th>
            <th>Age</th>
            <th>What</th>
            <th class="n">Images</th>
            <th>Findings</th>
          </tr>
        </thead>
        <tbody>
          ${rows}
        </tbody>
      </table>
    </div>
    ${left === 0 ? '' : html`<p class="soft small">and ${left} older</p>`} ${note}
  </section>`;
}

function whatOf({ kind, depth, sample, restoredTo }: ProofRecord): string {
  const part = sample === undefined ? '' : `, ${describeSample(sample)}`;
  return kind === 'drill' ? `restored to ${restoredTo ?? 'a registry'}${part}` : `verified ${depth ?? ''}${part}`;
}

const CHART = { width: 1000, height: 220, left: 70, top: 12, bottom: 24 } as const;

/** The height of the part of the chart that has bars. */
const BARS_HEIGHT = CHART.height - CHART.top - CHART.bottom;

/** How far from the top of the chart `share` of its highest value is. */
function levelOf(share: number): number {
  return CHART.top + BARS_HEIGHT * (1 - share);
}

/** What backups sent, by day, with the sum of all as a line. */
function growthChart(growth: readonly DayOfBackups[]): Html {
  const { width, height, left } = CHART;
  const step = (width - left) / Math.max(1, growth.length);
  const most = highest(
    growth.map(({ newBytes }) => newBytes),
    1,
  );
  const bars = growth.map((day, index) => growthBar(day, { x: left + index * step, step, share: day.newBytes / most }));
  const marks = [0, 0.5, 1].map(
    (share) =>
      html`<line
          class="axis"
          x1="${left}"
          x2="${width}"
          y1="${round(levelOf(share))}"
          y2="${round(levelOf(share))}"
        /><text x="${left - 6}" y="${round(levelOf(share) + 4)}" text-anchor="end">${bytes(most * share)}</text>`,
  );
  return html`<section>
    <h2>New bytes by day</h2>
    <div class="wide">
      <svg class="chart" viewBox="0 0 ${width} ${height}" role="img" aria-label="Bytes that backups sent, by day">
        ${marks}${bars}
        <polyline class="line" points="${growthLine(growth, step)}" />
        <text x="${left}" y="${height - 6}">${growth[0]?.day ?? ''}</text>
        <text x="${width}" y="${height - 6}" text-anchor="end">${growth.at(-1)?.day ?? ''}</text>
      </svg>
    </div>
    <p class="soft small">
      Bars: what the backups of a day sent. Line: what all backups until then sent,
      ${bytes(growth.at(-1)?.sentBytes ?? 0)} in all.
    </p>
  </section>`;
}

/** What the backups of one day sent, as a bar. */
function growthBar(
  { day, newBytes, snapshots, failures: failed }: DayOfBackups,
  { x, step, share }: { readonly x: number; readonly step: number; readonly share: number },
): Html {
  return html`<rect
    class="bar"
    x="${round(x + step * 0.1)}"
    y="${round(levelOf(share))}"
    width="${round(step * 0.8)}"
    height="${round(share * BARS_HEIGHT)}"
    ><title>
      ${day}: ${bytes(newBytes)} in ${count(snapshots, 'backup')}${failed === 0 ? '' : `, ${count(failed, 'failure')}`}
    </title></rect
  >`;
}

/** The points of the line: what all backups until a day sent. */
function growthLine(growth: readonly DayOfBackups[], step: number): string {
  const all = highest(
    growth.map(({ sentBytes }) => sentBytes),
    1,
  );
  const points = growth.map(({ sentBytes }, index) => {
    const x = CHART.left + (index + 0.5) * step;
    return `${round(x)},${round(levelOf(sentBytes / all))}`;
  });
  return points.join(' ');
}

function deduplication({ totals: { uniqueBytes, imageBytes } }: BackupReport): Html {
  const all = Math.max(imageBytes, uniqueBytes, 1);
  const bar = (label: string, value: number, kind: string): Html =>
    html`<p class="small soft label">${label}: ${bytes(value)}</p>
      <svg
        class="share"
        viewBox="0 0 1000 18"
        preserveAspectRatio="none"
        role="img"
        aria-label="${label}: ${bytes(value)}"
      >
        <rect class="${kind}" width="${round((value / all) * 1000)}" height="18" />
      </svg>`;
  const saved = imageBytes <= uniqueBytes ? 0 : 1 - uniqueBytes / imageBytes;
  return html`<section>
    <h2>Shared content: storing each layer once saves ${percent(saved)}</h2>
    ${bar('Every image for itself', imageBytes, 'bar2')}
    ${bar('Each layer once, as a store has it', uniqueBytes, 'bar')}
  </section>`;
}

function failures({ failures: some }: BackupReport): Html {
  if (some.length === 0)
    return html`<section>
      <h2>Failures</h2>
      <p class="soft">The newest backups had none.</p>
    </section>`;
  const shown = some.slice(0, MAX_ROWS);
  const rows = shown.map(
    ({ image, reason }) =>
      html`<tr>
        <td class="reason">${image}</td>
        <td class="reason">${reason}</td>
      </tr> `,
  );
  const left = some.length - shown.length;
  return html`<section>
    <h2>Failures of the newest backups</h2>
    <div class="wide">
      <table>
        <tbody>
          ${rows}
        </tbody>
      </table>
    </div>
    ${left === 0 ? '' : html`<p class="soft small">and ${left} more</p>`}
  </section>`;
}

function list(title: string, sentences: readonly string[]): Html {
  return html`<section>
    <h2>${title}</h2>
    <ul>
      ${sentences.map((one) => html`<li>${one}</li>`)}
    </ul>
  </section>`;
}

function ageOf(goodAt: string | undefined, madeAt: string): string {
  if (goodAt === undefined) return 'never';
  const hours = Math.max(0, (Date.parse(madeAt) - Date.parse(goodAt)) / 3_600_000);
  if (hours < 48) return count(Math.floor(hours), 'hour');
  return count(Math.floor(hours / 24), 'day');
}

function count(number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString('en')} ${number === 1 ? one : many}`;
}

function percent(share: number): string {
  // never 100 % of what is not all
  return `${share === 1 ? 100 : Math.min(99.9, Math.round(share * 1000) / 10)} %`;
}

function bytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  const unit = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  const shown = value / 1024 ** unit;
  return `${unit === 0 ? Math.round(shown) : shown.toFixed(shown < 10 ? 2 : 1)} ${units[unit]}`;
}

function timeOf(iso: string): string {
  return `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC`;
}

function round(value: number): string {
  return String(Math.round(value * 100) / 100);
}
