// The image of the worker: built by its Dockerfile, run as a deployment runs it, over the embedded stack.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { env as own } from 'node:process';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { startHealth } from '../../worker/main/health.ts';
import { startStack, type Stack } from '../../local/stack.ts';
import { enqueueImage } from '../../worker/service/admin/enqueue.ts';
import { openRegistry } from '../../worker/registry/registry.ts';
import { copy } from '../../worker/copy/copy.ts';
import { readSettings } from '../../worker/main/settings.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { connectService } from '../../worker/main/wire.ts';
import { makeImage } from '../support/images.ts';
import { attempt, CHECKOUT, createWorkspace, run, start, type Environment } from '../support/interop-process.ts';
import { expectSameImage } from '../support/same-image.ts';

const IMAGE = 'localhost/transship:built';
/** Cached for later runs: building a stand-in for the base takes a minute. `npm ci` removes it. */
const STORE = join(CHECKOUT, 'node_modules', '.cache', 'image');
/** As docs/worker.md shows it. */
const HARDENED = ['--read-only', '--cap-drop=ALL', '--security-opt=no-new-privileges'];
const MAX_BYTES = 230_000_000;

let stack: Stack;
const running = new AsyncDisposableStack();
beforeAll(async () => {
  // npm needs the user's settings: a proxy, a mirror, a certificate
  const settings = Object.entries(own).filter((entry): entry is [string, string] => entry[1] !== undefined);
  await run(join(CHECKOUT, 'docker', 'build-with-buildah.sh'), [STORE], { env: Object.fromEntries(settings) });
  const workspace = running.use(await createWorkspace());
  stack = running.use(await startStack({ folder: workspace.folder }));
  Object.assign(own, stack.environment);
}, 900_000);
afterAll(async () => running.disposeAsync());

const podmanEnvironment: Environment = {
  PATH: own['PATH'] ?? '',
  HOME: STORE,
  CONTAINERS_CONF: join(STORE, 'containers.conf'),
  CONTAINERS_STORAGE_CONF: join(STORE, 'storage.conf'),
};
const podman = async (...args: readonly string[]): Promise<string> =>
  (await run('podman', args, { env: podmanEnvironment })).toString().trim();

async function freePort(): Promise<number> {
  await using health = await startHealth({ port: 0, clock: systemClock });
  return health.port;
}

test('is small, and has labels, a user and a health check', async () => {
  const inspected = async (what: string): Promise<unknown> =>
    JSON.parse(await podman('image', 'inspect', '--format', `{{json ${what}}}`, IMAGE));
  const size = Number(await inspected('.Size'));
  process.stdout.write(`the image is ${(size / 1e6).toFixed(0)} MB\n`);
  expect(size).toBeLessThan(MAX_BYTES);
  expect(await inspected('.Config.User')).toBe('1000:1000');
  expect(await inspected('.Config.Entrypoint')).toEqual(['node', '/app/bundle/worker.js']);
  expect(await inspected('.Config.Volumes')).toEqual({ '/tmp': {} });
  expect(await inspected('.HealthCheck.Test')).toEqual(['CMD', 'node', '/app/bundle/health-check.js']);
  expect(await inspected('.Config.Labels')).toMatchObject({
    'org.opencontainers.image.title': 'transship',
    'org.opencontainers.image.licenses': 'Apache-2.0',
    'org.opencontainers.image.version': expect.stringMatching(/^\d+\.\d+\.\d+/),
  });
});

test('has one Node and the bundle: no package manager, nothing of the embedded stack', async () => {
  const shell = async (script: string): Promise<string> =>
    podman('run', '--rm', '--network=none', '--no-healthcheck', '--entrypoint=/bin/sh', IMAGE, '-c', script);
  expect(await shell('ls /usr/local/bin /app')).toBe(
    ['/app:', 'LICENSE', 'bundle', 'package.json', '', '/usr/local/bin:', 'node'].join('\n'),
  );
  expect(await shell('grep -rliE "fauxqs|dynalite|startStack" /app/bundle || echo none')).toBe('none');
  // modules that are loaded lazily would have no names
  expect(await shell('grep -rl "export default require_" /app/bundle || echo none')).toBe('none');
});

test('has an SBOM and a provenance, which a copy keeps', async () => {
  const transship = async (...args: readonly string[]): Promise<unknown> => {
    const env = { ...stack.environment, PATH: own['PATH'] ?? '', HOME: STORE };
    const output = await run(join(CHECKOUT, 'bin', 'transship.js'), [...args, '--json'], { env });
    return JSON.parse(output.toString());
  };
  const built = `docker://${stack.registry.host}/transship:built`;
  await transship('copy', `oci:${join(STORE, 'image')}:built`, built);
  const copied = (await transship('inspect', built)) as { readonly digest: string };
  expect(copied).toMatchObject({
    referrers: expect.arrayContaining([
      expect.objectContaining({ artifactType: 'application/spdx+json' }),
      expect.objectContaining({ artifactType: 'application/vnd.in-toto+json' }),
    ]),
  });

  const sbom = JSON.parse(readFileSync(join(STORE, 'sbom.spdx.json'), 'utf8')) as {
    readonly packages: readonly { readonly name: string; readonly versionInfo: string }[];
  };
  const { devDependencies } = JSON.parse(readFileSync(join(CHECKOUT, 'package.json'), 'utf8')) as {
    readonly devDependencies: Readonly<Record<string, string>>;
  };
  // the function that verifies restored buckets is not in the image
  const files = globSync('worker/**/*.ts', { cwd: CHECKOUT, exclude: ['worker/vault/**'] });
  const imported = files.flatMap((file) =>
    [...readFileSync(join(CHECKOUT, file), 'utf8').matchAll(/^import \S.* from '((?:@[^/']+\/)?[^./'][^/']*)/gm)].map(
      ([, name = '']) => name,
    ),
  );
  const bundled = [...new Set(imported)].filter((name) => name in devDependencies);
  expect(bundled).toEqual(expect.arrayContaining(['@aws-sdk/client-s3', 'undici', 'zod']));
  const listed = sbom.packages.map(({ name, versionInfo }) => `${name}@${versionInfo}`);
  expect(listed).toEqual(expect.arrayContaining(bundled.map((name) => `${name}@${devDependencies[name]}`)));
  const provenance = JSON.parse(readFileSync(join(STORE, 'provenance.json'), 'utf8')) as unknown;
  expect(provenance).toMatchObject({ subject: [{ digest: { sha256: copied.digest.slice('sha256:'.length) } }] });
});

test('does a job, is healthy meanwhile, and exits with 0 on SIGTERM: read-only, as an unprivileged user, without capabilities', async () => {
  await using service = connectService(readSettings(stack.environment));
  const { registry, ecr, environment } = stack;
  const view = (side: typeof registry): ReturnType<ReturnType<typeof openRegistry>['repository']> => {
    const client = openRegistry(side.registryHost, {
      side: 'target',
      credentials: async () => undefined,
      endpoints: new Map([[side.registryHost, side.url]]),
      version: 'test',
    });
    onTestFinished(async () => client.close());
    return client.repository('app');
  };
  const image = await makeImage({ layers: [3_000_000], signed: true });
  await copy(image.content, view(registry), [image.root]);

  const name = `transship-${process.pid}`;
  const variables = Object.entries({ ...environment, TRANSSHIP_HEALTH_PORT: String(await freePort()) });
  // a process in it is not a child of podman
  onTestFinished(async () => void (await attempt('podman', ['rm', '-f', '-t', '0', name], { env: podmanEnvironment })));
  await using container = start(
    'podman',
    [
      'run',
      '--rm',
      '--pull=never',
      '--network=host',
      '--no-healthcheck',
      `--name=${name}`,
      ...HARDENED,
      ...variables.flatMap(([key, value]) => ['--env', `${key}=${value}`]),
      IMAGE,
    ],
    { env: podmanEnvironment },
  );
  const asked = await enqueueImage(
    { from: `docker://${registry.host}/app:v1`, to: `docker://${ecr.registryHost}/app:v1` },
    service,
    { clock: systemClock },
  );
  await container.until(
    vi.waitFor(
      async () => expect((await service.state.runs.get(asked.id))?.jobs).toMatchObject({ done: 1, waiting: 0 }),
      { timeout: 60_000, interval: 200 },
    ),
  );
  await expectSameImage(image.content, view(ecr), image.root);

  expect(await podman('exec', name, 'node', '/app/bundle/health-check.js')).toMatch(/^\{"well":true/);
  expect(await podman('exec', name, 'id', '-u')).toBe('1000');
  expect(await podman('exec', name, 'grep', '^Cap[PEB]', '/proc/1/status')).toMatch(
    /^CapPrm:\s+0+\nCapEff:\s+0+\nCapBnd:\s+0+$/,
  );
  const writing = await attempt('podman', ['exec', name, 'sh', '-c', 'echo > /app/x'], { env: podmanEnvironment });
  expect(writing.code).not.toBe(0);
  expect(writing.stderr).toMatch(/Read-only file system/);
  await podman('exec', name, 'sh', '-c', 'echo > /tmp/x');

  await podman('kill', '--signal=TERM', name);
  const finished = await container.finished;
  expect(finished.code, finished.stderr).toBe(0);
  const lines = finished.stdout
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);
  expect(lines.at(-1)).toMatchObject({ event: 'note', message: 'worker stopped' });
});
