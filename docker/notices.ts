// The licences of the packages in a bundle, as these ask for: each with its own text.
import { readdirSync, readFileSync } from 'node:fs';
import { bundledPackages, type BundledPackage } from './bundled-packages.ts';

const RULE = '-'.repeat(80);

/** Packages with the same text, such as those of the AWS SDK, are listed over it together. `modules` are paths of files. */
export function noticesOf(modules: readonly string[]): string {
  const byText = new Map<string, string[]>();
  for (const one of bundledPackages(modules)) {
    const text = textOf(one);
    byText.set(text, [...(byText.get(text) ?? []), `${one.name} ${one.version} (${one.license ?? 'see below'})`]);
  }
  const chapters = [...byText].map(([text, names]) => `${[...new Set(names)].join('\n')}\n\n${text}\n`);
  return ['Transship contains these packages.\n', ...chapters].join(`\n${RULE}\n\n`);
}

/** The files with its licence and its notices. Some packages have none and name a licence alone. */
function textOf({ folder, license }: BundledPackage): string {
  const files = readdirSync(folder).filter((name) => /^(?:licen[cs]e|notice|copying)/i.test(name));
  if (files.length > 0) return files.map((name) => readFileSync(`${folder}${name}`, 'utf8').trim()).join('\n\n');
  if (license === undefined) throw new Error(`${folder} has neither a licence nor its name`);
  return `The package has no text of its licence, ${license}.`;
}
