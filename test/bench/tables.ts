/** A table of the page on performance: Markdown whose first cell is the name of its case. */
export type Table = readonly string[];

/**
 * The tables of the page after another run. A table of the run replaces the one with its name, or comes after the others. The tables of cases that
 * were not run stay, below the line of their own run: each line describes the tables up to the next one.
 */
export function mergeTables(text: string, run: { readonly line: string; readonly tables: readonly Table[] }): string {
  const merged = new Map<string, { readonly line: string; readonly table: Table }>();
  let line = '';
  for (const block of text.split(/\n\s*\n/).map((one) => one.trim())) {
    const table = block.split('\n');
    if (block.startsWith('|')) merged.set(nameOf(table), { line, table });
    else if (block !== '') line = block;
  }
  for (const table of run.tables) merged.set(nameOf(table), { line: run.line, table });
  const blocks: string[] = [];
  let last = '';
  for (const { line: own, table } of merged.values()) {
    if (own !== last) blocks.push(own);
    blocks.push(table.join('\n'));
    last = own;
  }
  return blocks.join('\n\n');
}

function nameOf([head = '']: Table): string {
  return head.split('|')[1]?.trim() ?? '';
}
