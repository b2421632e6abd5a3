// Reports words that a person should not have to read, in comments, strings, titles and Markdown, and lines of Markdown that are too long.
//   node test/language/check-language.ts [--count] [FILE OR FOLDER…]
import { findFaults } from './find-faults.ts';

const paths = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
const counting = process.argv.includes('--count');
const { read, faults, stale } = findFaults(process.cwd(), paths);

if (counting) {
  const counts = new Map<string, number>();
  for (const { file } of faults) {
    const folder = file.split('/').slice(0, -1).slice(0, 2).join('/') || file;
    counts.set(folder, (counts.get(folder) ?? 0) + 1);
  }
  const rows = [...counts].toSorted(([, a], [, b]) => b - a);
  process.stdout.write(rows.map(([folder, count]) => `${String(count).padStart(5)}  ${folder}\n`).join(''));
} else {
  for (const { file, line, found, write } of faults)
    process.stdout.write(`${file}:${line}: ${found}: write ${write}\n`);
  for (const message of stale) process.stdout.write(`${message}\n`);
}
process.stdout.write(`${read} files: ${faults.length} faults\n`);
// a name that stands for no file is a mistake, and not a clean folder
if (faults.length > 0 || stale.length > 0 || read === 0) process.exitCode = 1;
