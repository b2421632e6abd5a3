#!/usr/bin/env node
// Starts the program: the sources in a checkout, the built file in an installed package. Plain JavaScript that an old Node can read too,
// so that an old Node hands over to the one installed beside it, or prints in a sentence what is missing.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

// a checkout also has the commands of the embedded stack, which the package does not contain
const sources = new URL('../local/cli.ts', import.meta.url);
const program = existsSync(sources) ? sources : new URL('../dist/cli.js', import.meta.url);

if (isRecent(process.versions.node)) {
  await import(program.href);
} else {
  const node = nodeBeside();
  if (node === undefined) {
    fail(`needs Node 24.12 or newer, this is ${process.version}: install it, or run "npm install node@24.21.0" here`);
  } else {
    const child = spawn(node, [fileURLToPath(program), ...process.argv.slice(2)], { stdio: 'inherit' });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
    child.on('error', (error) => fail(`${node} does not start here (${error.message}): install Node 24.12 or newer`));
    child.on('exit', (code, signal) => process.exit(signal === 'SIGINT' ? 130 : (code ?? 1)));
  }
}

/** A Node from npm: the package for this platform, an optional dependency of this one, or the package `node`. */
function nodeBeside() {
  const require = createRequire(import.meta.url);
  for (const name of [`node-${process.platform}-${process.arch}`, 'node']) {
    try {
      if (isRecent(require(`${name}/package.json`).version)) return require.resolve(`${name}/bin/node`);
    } catch {
      // not installed
    }
  }
  return undefined;
}

function isRecent(version) {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 24 || (major === 24 && minor >= 12);
}

function fail(why) {
  process.stderr.write(`transship: ${why}\n`);
  process.exitCode = 2;
}
