// Bundles what an installed package runs: Node does not read TypeScript below node_modules. Dependencies stay outside the bundle.
import { rmSync } from 'node:fs';
import { build } from 'esbuild';

rmSync('dist', { recursive: true, force: true });
await build({
  entryPoints: { cli: 'worker/cli.ts' },
  outdir: 'dist',
  bundle: true,
  packages: 'external',
  platform: 'node',
  format: 'esm',
  target: 'node24',
  splitting: true,
  legalComments: 'none',
});
