// `node build.ts`: what an installed package runs, in dist/, since Node does not read TypeScript below node_modules; and in dist/infra/ the
// constructs of infra/index.ts, with the code of their functions.
// `node build.ts image`: what the image of the worker runs, in bundle/.
// Both hold everything that they depend on, with its licences and an SBOM: docs/decisions/0023-one-bundle.md
import { rmSync, writeFileSync } from 'node:fs';
import { rolldown, type OutputOptions, type Plugin, type RolldownOptions } from 'rolldown';
import { noticesOf } from './docker/notices.ts';
import { sbomOf } from './docker/sbom.ts';

const FOLDERS = {
  package: { folder: 'dist', input: { cli: 'worker/main/cli.ts' } },
  image: {
    folder: 'bundle',
    input: { worker: 'worker/main/container.ts', 'health-check': 'worker/main/health-check.ts' },
  },
} as const satisfies Record<string, { readonly folder: string; readonly input: RolldownOptions['input'] }>;

/**
 * Files that hold these modules and everything that they import. A file costs a millisecond to load, so what every command needs is in a few:
 * what runs first, what reads the command line, and what copies from registry to registry.
 */
const GROUPS = [
  ['start', /\/worker\/main\/(?:compile-cache|signals)\.ts$/],
  ['program', /\/worker\/main\/program\.ts$/],
  ['core', /\/worker\/(?:main\/command-(?:context|help)|commands\/copy)\.ts$/],
] as const;

/**
 * undici loads Node's HTTP modules for a limit and for a class that it compares with; HTTP/2 is never used (`wire.ts`). Loading them takes a
 * fifth of the time in which a small image is copied.
 */
const UNDICI_NEEDS: Readonly<Record<string, string>> = {
  'node:http': 'export const maxHeaderSize = 16384; export class IncomingMessage {}',
  'node:http2': 'export const constants = {};',
};

const withoutHttpModules: Plugin = {
  name: 'undici without http modules',
  resolveId: (id, importer) =>
    id in UNDICI_NEEDS && importer?.includes('/node_modules/undici/') === true ? `\0undici:${id}` : undefined,
  load: (id) => (id.startsWith('\0undici:') ? UNDICI_NEEDS[id.slice('\0undici:'.length)] : undefined),
};

/** What is not looked into is small. Names of classes and functions are in messages. */
const SMALL: OutputOptions = { minify: true, keepNames: true };

const what = process.argv[2] === 'image' ? 'image' : 'package';
const { folder } = FOLDERS[what];
rmSync(folder, { recursive: true, force: true });
const modules = await bundle(folder, FOLDERS[what].input, {
  plugins: [withoutHttpModules],
  output: {
    codeSplitting: {
      groups: GROUPS.map(([name, pattern], index) => ({
        name,
        priority: GROUPS.length - index,
        test: (id: string) => pattern.test(id),
      })),
    },
  },
});
if (what === 'package') modules.push(...(await buildConstructs(`${folder}/infra`)));
writeFileSync(`${folder}/sbom.spdx.json`, `${JSON.stringify(sbomOf(modules), null, 2)}\n`);
writeFileSync(`${folder}/THIRD-PARTY-NOTICES.txt`, noticesOf(modules));

/** Constructs for apps of CDK, which have CDK themselves, and the functions that they deploy: only Node is beside them. */
async function buildConstructs(to: string): Promise<string[]> {
  const external = [/^aws-cdk-lib(?:\/|$)/, 'constructs'];
  const constructs = await bundle(to, { index: 'infra/index.ts' }, { external, output: SMALL });
  const input = {
    planner: 'worker/main/planner.lambda.ts',
    cleaner: 'worker/main/cleaner.lambda.ts',
    'restore-test': 'worker/main/restore-test.lambda.ts',
  };
  const functions = await bundle(`${to}/functions`, input, { plugins: [withoutHttpModules], output: SMALL });
  // a function does not have a package.json above it that states this
  writeFileSync(`${to}/functions/package.json`, '{ "type": "module" }\n');
  // not from the beginning: the image is built without infra/
  const { declaration } = await import('./infra/settings/declaration.ts');
  writeFileSync(`${to}/index.d.ts`, declaration());
  return [...constructs, ...functions];
}

/** Writes what the entries import into the folder; the modules that it is made of. */
async function bundle(
  to: string,
  input: NonNullable<RolldownOptions['input']>,
  { output, ...options }: { readonly output?: OutputOptions } & Pick<RolldownOptions, 'external' | 'plugins'>,
): Promise<string[]> {
  const made = await rolldown({
    input,
    platform: 'node',
    // modules rather than CommonJS: they can be taken in part
    resolve: { mainFields: ['module', 'main'] },
    ...options,
  });
  const written = await made.write({
    dir: to,
    // names that stay the same, so that the compiled code of older versions does not pile up
    chunkFileNames: '[name].js',
    comments: false,
    ...output,
  });
  return written.output.flatMap((file) => (file.type === 'chunk' ? file.moduleIds : []));
}
