import { html, type Html } from '../util/html.ts';

/** A table in a section of its own. */
export interface ReportTable {
  readonly title: string;
  readonly columns: readonly ReportColumn[];
  /** Each has a cell for each column. */
  readonly rows: readonly (readonly ReportCell[])[];
  /** What stands between the title and the table. */
  readonly above?: Html;
  /** What the table leaves out, a sentence each. */
  readonly notes?: readonly string[];
  /** How a phone shows it: `stacked` has a line for each cell. */
  readonly kind?: 'heat-map' | 'stacked';
}

interface ReportColumn {
  readonly label: string | readonly Html[];
  /** Classes of REPORT_STYLE: `n` for numbers, `optional` for what a phone leaves out. */
  readonly kind?: string;
}

/** `title` is shown where a mouse rests. */
type ReportCell = string | number | Html | { readonly shown: Html; readonly title: string };

export function reportTable({ title, columns, rows, above, notes = [], kind: shape }: ReportTable): Html {
  const cell = (value: ReportCell, { kind = '', label }: ReportColumn): Html => {
    const [shown, tip] =
      typeof value === 'object' && 'shown' in value ? [value.shown, html` title="${value.title}"`] : [value, ''];
    const named = shape === 'stacked' && typeof label === 'string' ? html` data-label="${label}"` : '';
    return html`<td class="${kind}" ${tip}${named}>${shown}</td>`;
  };
  const head = columns.map(({ label, kind = '' }) => html`<th class="${kind}">${label}</th>`);
  const body = rows.map(
    (row) =>
      html`<tr>
        ${columns.map((column, index) => cell(row[index] ?? '', column))}
      </tr> `,
  );
  return html`<section>
    <h2>${title}</h2>
    ${above ?? ''}
    <table class="${shape ?? ''}">
      <thead>
        <tr>
          ${head}
        </tr>
      </thead>
      <tbody>
        ${body}
      </tbody>
    </table>
    ${notes.map((note) => html`<p class="soft small">${note}</p>`)}
  </section>`;
}
