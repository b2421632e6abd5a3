#!/usr/bin/env node
// Starts the program: the sources in a checkout, the built file in an installed package. Plain JavaScript that an old Node can read too,
// so that an old Node hands over to the one installed beside it, or says what is missing in a sentence.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
const sources = new URL('../worker/cli.ts', import.meta.url);
const program = existsSync(sources) ? sources : new URL('../dist/cli.js', import.meta.url);

if (major > 24 || (major === 24 && minor >= 12)) {
  await import(program.href);
} else {
  let node;
  try {
    node = createRequire(import.meta.url).resolve('node/bin/node');
  } catch {
    process.stderr.write(
      `transship: needs Node 24.12 or newer, this is ${process.version}: install it, or run "npm install node@24" here\n`,
    );
    process.exit(2);
  }
  const child = spawn(node, [fileURLToPath(program), ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => process.exit(signal === 'SIGINT' ? 130 : (code ?? 1)));
}
