// The licences of the packages in a bundle, each with its own text, as the licences require.
import { readdirSync, readFileSync } from 'node:fs';
import { bundledPackages, type BundledPackage } from './bundled-packages.ts';

const RULE = '-'.repeat(80);

/** The notices, as text. Packages with the same licence text, such as those of the AWS SDK, share one chapter. `modules` are paths of files. */
export function noticesOf(modules: readonly string[]): string {
  const byText = new Map<string, string[]>();
  for (const one of bundledPackages(modules)) {
    const text = textOf(one);
    byText.set(text, [...(byText.get(text) ?? []), `${one.name} ${one.version} (${one.license ?? 'see below'})`]);
  }
  const chapters = [...byText].map(([text, names]) => `${[...new Set(names)].join('\n')}\n\n${text}\n`);
  return ['Transship contains these packages.\n', ...chapters].join(`\n${RULE}\n\n`);
}

/** The text of the files with its licence and notices, or a sentence where a package only names its licence. Throws without either. */
function textOf({ folder, license }: BundledPackage): string {
  const files = readdirSync(folder).filter((name) => /^(?:licen[cs]e|notice|copying)/i.test(name));
  if (files.length > 0) return files.map((name) => readFileSync(`${folder}${name}`, 'utf8').trim()).join('\n\n');
  if (license === undefined) throw new Error(`${folder} has neither a licence nor its name`);
  return `The package has no text of its licence, ${license}.`;
}
