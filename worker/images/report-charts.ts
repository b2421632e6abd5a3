import { html, type Html } from '../util/html.ts';
import { highest } from '../util/lists.ts';
import type { BackupReport, DayOfBackups } from './report.ts';
import { bytes, count, percent, round } from './report-words.ts';

const CHART = { width: 1000, height: 220, left: 70, right: 930, top: 30, bottom: 24 } as const;

/** The height of the part of the chart that has bars. */
const BARS_HEIGHT = CHART.height - CHART.top - CHART.bottom;

/** How far from the top of the chart `share` of its highest value is. */
function levelOf(share: number): number {
  return CHART.top + BARS_HEIGHT * (1 - share);
}

/** What backups sent, by day, with the sum of all as a line. The sum is many times a day's bytes, so each has its own axis. */
export function growthChart(growth: readonly DayOfBackups[]): Html {
  const { width, height, left, right } = CHART;
  const step = (right - left) / Math.max(1, growth.length);
  const most = highest(
    growth.map(({ newBytes }) => newBytes),
    1,
  );
  const all = highest(
    growth.map(({ sentBytes }) => sentBytes),
    1,
  );
  const bars = growth.map((day, index) => growthBar(day, { x: left + index * step, step, share: day.newBytes / most }));
  const marks = [0, 0.5, 1].map(
    (share) =>
      html`<line
          class="axis"
          x1="${left}"
          x2="${right}"
          y1="${round(levelOf(share))}"
          y2="${round(levelOf(share))}"
        /><text x="${left - 6}" y="${round(levelOf(share) + 4)}" text-anchor="end">${bytes(most * share)}</text
        ><text class="total" x="${right + 6}" y="${round(levelOf(share) + 4)}">${bytes(all * share)}</text>`,
  );
  return html`<section>
    <h2>New bytes by day</h2>
    <div class="wide">
      <svg class="chart" viewBox="0 0 ${width} ${height}" role="img" aria-label="Bytes that backups sent, by day">
        <text x="0" y="12">bars: sent that day</text>
        <text class="total" x="${width}" y="12" text-anchor="end">line: sent in all</text>
        ${marks}${bars}
        <polyline class="line" points="${growthLine(growth, step, all)}" />
        <text x="${left}" y="${height - 6}">${growth[0]?.day ?? ''}</text>
        <text x="${right}" y="${height - 6}" text-anchor="end">${growth.at(-1)?.day ?? ''}</text>
      </svg>
    </div>
    <p class="soft small">
      Bars, on the left axis: what the backups of a day sent. Line, on the right axis: what all backups until then sent,
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
function growthLine(growth: readonly DayOfBackups[], step: number, all: number): string {
  const points = growth.map(({ sentBytes }, index) => {
    const x = CHART.left + (index + 0.5) * step;
    return `${round(x)},${round(levelOf(sentBytes / all))}`;
  });
  return points.join(' ');
}

/** What all images take, each for itself and with each layer once. */
export function deduplication({ totals: { uniqueBytes, imageBytes } }: BackupReport): Html {
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
