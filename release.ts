// `npm run release`: what a release publishes beside the image, in dist/release/, with its checksums. It publishes nothing itself:
// .github/workflows/release.yml does. `npm run release -- v1.2.3` refuses a tag that is not of the version.
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const TARGET = 'dist/release';
/** The same files make the same archive. */
const REPRODUCIBLE = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--mtime=@0'];

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { readonly version: string };
const [tag] = process.argv.slice(2);
const fault = faultOf(tag);
if (fault === undefined) release();
else {
  process.stderr.write(`release ${tag ?? version}: ${fault}\n`);
  process.exitCode = 1;
}

function release(): void {
  const made = mkdtempSync(join(tmpdir(), 'transship-release-'));
  try {
    run('npm', 'run', '--silent', 'template:portable');
    cpSync('dist/portable', join(made, 'templates'), { recursive: true });
    cpSync('infra/terraform', join(made, 'terraform'), { recursive: true });
    // the module looks for them beside itself first
    cpSync('dist/portable', join(made, 'terraform', 'templates'), { recursive: true });
    // it builds dist/ anew
    run('npm', 'pack', '--silent', '--pack-destination', made);
    rmSync(TARGET, { recursive: true, force: true });
    mkdirSync(TARGET, { recursive: true });
    const packed = `transship-${version}.tgz`;
    cpSync(join(made, packed), join(TARGET, packed));
    for (const part of ['templates', 'terraform'])
      run('tar', ...REPRODUCIBLE, '-czf', join(TARGET, `transship-${part}-${version}.tgz`), '-C', made, part);
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
  const sums = globSync('*.tgz', { cwd: TARGET })
    .toSorted()
    .map(
      (name) =>
        `${createHash('sha256')
          .update(readFileSync(join(TARGET, name)))
          .digest('hex')}  ${name}\n`,
    );
  writeFileSync(join(TARGET, 'SHA256SUMS'), sums.join(''));
  process.stdout.write(sums.join(''));
}

/** Why this is no release; undefined: it is one, or a try without a tag. */
function faultOf(named: string | undefined): string | undefined {
  const changes = readFileSync('CHANGELOG.md', 'utf8');
  if (!changes.includes(`\n## ${version}`)) return `CHANGELOG.md has no chapter ${version}`;
  if (named === undefined) return undefined;
  if (named !== `v${version}`) return `package.json has version ${version}`;
  return changes.includes(`\n## ${version} (unreleased)`) ? `CHANGELOG.md calls ${version} unreleased` : undefined;
}

function run(command: string, ...args: readonly string[]): void {
  // what they print is for people: the checksums are what this prints
  execFileSync(command, args, { stdio: ['ignore', 2, 2] });
}
