// Time and memory beside other tools, in turns on the same image and the same registries. Tools that are not installed are left out.
//   npm run bench -- [--only mirror,file,s3,restore,unchanged,sync,tiny,shaped] [--security plain,tls] [--gib 1] [--runs 5]
//                    [--shape 20MB/s,10ms] [--write]
import { readFile, writeFile } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { CHECKOUT, createWorkspace } from '../support/interop-process.ts';
import { CASES, openCase, type Case, type CaseName, type Entry } from './cases.ts';
import { BenchLab } from './lab.ts';
import { measure, median, type Measured } from './measure.ts';
import { mergeTables, type Table } from './tables.ts';
import type { Security } from './tools.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: CASES.join(',') },
    security: { type: 'string', default: 'plain,tls' },
    gib: { type: 'string', default: '1' },
    runs: { type: 'string', default: '5' },
    shape: { type: 'string', default: '20MB/s,10ms' },
    write: { type: 'boolean', default: false },
  },
});
const runs = Number(values.runs);

/** The measurements of each tool, by run. */
type Results = ReadonlyMap<Entry, readonly Measured[]>;

/** Runs the tools in turn; the first run only warms caches. */
async function measured({ entries }: Case): Promise<Results> {
  const results = new Map<Entry, Measured[]>(entries.map((entry) => [entry, []]));
  for (let run = 0; run <= runs; run++) {
    for (const [entry, list] of results) {
      await using prepared = await entry.prepare();
      const one = await measure(prepared.command);
      if (run > 0) list.push(one);
    }
  }
  return results;
}

/** The median of the ratios of each run, with the minimum and the maximum. */
function ratio(ours: readonly Measured[], theirs: readonly Measured[], key: keyof Measured) {
  const all = ours.map((one, i) => one[key] / (theirs[i]?.[key] ?? Number.NaN)).toSorted((a, b) => a - b);
  return { median: median(all), least: all[0] ?? Number.NaN, most: all.at(-1) ?? Number.NaN };
}

function tableOf({ name, aim }: Case, results: Results): Table {
  const lines = [`| ${name} | wall s | CPU s | peak MiB | wall ratio | CPU ratio |`, '|---|---:|---:|---:|---:|---:|'];
  const ours = Array.from(results).find(([{ tool }]) => tool === 'transship')?.[1] ?? [];
  const best = { wall: Infinity, cpu: Infinity };
  const worst = { wall: 0, cpu: 0 };
  for (const [{ tool, isRival }, list] of results) {
    const of = (key: keyof Measured): number => median(list.map((one) => one[key]));
    const wall = ratio(ours, list, 'wallSeconds');
    const cpu = ratio(ours, list, 'cpuSeconds');
    if (isRival && of('wallSeconds') < best.wall) [best.wall, worst.wall] = [of('wallSeconds'), wall.median];
    if (isRival && of('cpuSeconds') < best.cpu) [best.cpu, worst.cpu] = [of('cpuSeconds'), cpu.median];
    const spread = ({ median: middle, least, most }: typeof wall): string =>
      tool === 'transship' ? '' : `${middle.toFixed(2)} (${least.toFixed(2)} to ${most.toFixed(2)})`;
    const figures = [of('wallSeconds').toFixed(2), of('cpuSeconds').toFixed(2), of('peakMib').toFixed(0)];
    lines.push(`| ${[tool, ...figures, spread(wall), spread(cpu)].join(' | ')} |`);
  }
  const against = (value: number, most: number | undefined): string =>
    most === undefined || !(value > 0) ? '' : `**${value.toFixed(2)}** (aim ${most.toFixed(2)})`;
  const judged = [against(worst.wall, aim.wall), against(worst.cpu, aim.cpu)];
  if (judged.some((one) => one !== '')) lines.push(`| to the best rival | | | | ${judged.join(' | ')} |`);
  return lines;
}

const only = values.only.split(',') as readonly CaseName[];
const unknown = only.filter((name) => !CASES.includes(name));
if (unknown.length > 0) throw new Error(`there is no case ${unknown.join(', ')}: ${CASES.join(', ')}`);
await using work = await createWorkspace();
const lab = await BenchLab.create(work);
const [loadBefore = 0] = loadavg();
const day = new Date().toISOString().slice(0, 10);
const line = `${day}, ${cpus().length} cores, Node ${process.versions.node}, medians of ${runs} runs in turn, a load of ${loadBefore.toFixed(1)} before.`;
for (const name of only) {
  for (const security of values.security.split(',') as readonly Security[]) {
    const options = { gib: Number(values.gib), shape: values.shape };
    await using cases = await openCase(lab, name, security, options);
    for (const one of cases.list) {
      const table = tableOf(one, await measured(one));
      process.stdout.write(`${table.join('\n')}\n\n`);
      // at once: a run that is stopped keeps what it has measured
      if (values.write) await writeTable(table);
    }
  }
}

/** Puts a table of this run into docs/performance.md. The tables of other cases stay. */
async function writeTable(table: Table): Promise<void> {
  const file = join(CHECKOUT, 'docs/performance.md');
  const [begin, end] = ['<!-- begin: npm run bench -->', '<!-- end -->'];
  const document = await readFile(file, 'utf8');
  const [from, to] = [document.indexOf(begin) + begin.length, document.indexOf(end)];
  if (from < begin.length || to < from) throw new Error(`${file} has no place for tables: ${begin} … ${end}`);
  const tables = mergeTables(document.slice(from, to), { line, tables: [table] });
  await writeFile(file, `${document.slice(0, from)}\n\n${tables}\n\n${document.slice(to)}`);
}
