// The npm packages in a bundle, found by the modules that it was made of.
import { readFileSync } from 'node:fs';

export interface Package {
  readonly name: string;
  readonly version: string;
  readonly license: string | undefined;
}

export interface BundledPackage extends Package {
  /** Where it is, with a slash at its end. */
  readonly folder: string;
}

/** Each package once, by folder. `modules` are paths of files. */
export function bundledPackages(modules: readonly string[]): readonly BundledPackage[] {
  const folders = modules.flatMap((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+\//.exec(file)?.[0] ?? []);
  return [...new Set(folders)].sort().map(packageIn);
}

/** The `package.json` in this folder. */
export function packageIn(folder: string): BundledPackage {
  const { name, version, license } = JSON.parse(readFileSync(`${folder}package.json`, 'utf8')) as Package;
  return { name, version, license, folder };
}
