// `node build.ts`: what an installed package runs, in dist/, since Node does not read TypeScript below node_modules. Dependencies stay outside.
// `node build.ts image`: what the image of the worker runs, in bundle/, with everything that it depends on, and an SBOM of it.
import { rmSync, writeFileSync } from 'node:fs';
import { build, type BuildOptions } from 'esbuild';
import { sbomOf } from './docker/sbom.ts';

const common = {
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node24',
} as const satisfies BuildOptions;

if (process.argv[2] === 'image') await buildImage();
else await buildPackage();

async function buildPackage(): Promise<void> {
  rmSync('dist', { recursive: true, force: true });
  await build({
    ...common,
    entryPoints: { cli: 'worker/main/cli.ts' },
    outdir: 'dist',
    packages: 'external',
    legalComments: 'none',
    splitting: true,
  });
}

async function buildImage(): Promise<void> {
  rmSync('bundle', { recursive: true, force: true });
  // packages in CommonJS, pino among them, ask for Node's modules by a function that modules do not have
  const banner = { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" };
  const { metafile } = await build({
    ...common,
    banner,
    metafile: true,
    entryPoints: { worker: 'worker/main/container.ts', 'health-check': 'worker/main/health-check.ts' },
    outdir: 'bundle',
    splitting: true,
    // what is loaded when it is needed has to be modules: of packages in CommonJS esbuild would hand out no names then
    mainFields: ['module', 'main'],
    // names stay, for whoever reads where something failed
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'eof',
  });
  writeFileSync('bundle/sbom.spdx.json', `${JSON.stringify(sbomOf(metafile), null, 2)}\n`);
}
