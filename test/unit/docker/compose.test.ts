// Tests cannot run compose.yaml here: these check what reading it can show.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { readSettings } from '../../../worker/main/settings.ts';
import { connectService } from '../../../worker/main/wire.ts';

interface Service {
  readonly image?: string;
  readonly build?: { readonly context: string };
  readonly command?: readonly string[];
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly depends_on?: readonly string[] | Readonly<Record<string, unknown>>;
  readonly volumes?: readonly string[];
}

const { services, volumes } = parse(readFileSync('docker/compose.yaml', 'utf8'), { merge: true }) as {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
};
const dockerfile = readFileSync('Dockerfile', 'utf8');

test('it has what the system needs, and every image at one version', () => {
  expect(Object.keys(services)).toEqual(['worker', 'planner', 'prepare', 's3', 'sqs', 'dynamodb', 'registry']);
  for (const { image } of Object.values(services)) if (image !== undefined) expect(image).toMatch(/:[\w.-]*\d[\w.-]*$/);
});

test('everything that a service names exists', () => {
  for (const { depends_on: needs = [], volumes: mounted = [] } of Object.values(services)) {
    for (const name of Array.isArray(needs) ? needs : Object.keys(needs)) expect(services).toHaveProperty(name);
    for (const mount of mounted) {
      const [from = ''] = mount.split(':');
      if (from.startsWith('./')) expect(readFileSync(`docker/${from}`, 'utf8')).not.toBe('');
      else expect(volumes).toHaveProperty([from]);
    }
  }
});

describe.each(['worker', 'planner'])('%s', (name) => {
  const service = services[name] ?? {};
  const { environment = {} } = service;

  test('is the image of the Dockerfile, hardened', () => {
    expect(service).toMatchObject({ build: { context: '..' }, read_only: true, cap_drop: ['ALL'] });
    expect(service.image).toBeUndefined();
  });

  test('has an environment that the program accepts, with servers that exist', async () => {
    await using opened = connectService(readSettings(environment));
    expect(opened.queue.name).toBe('transship');
    for (const [variable, value] of Object.entries(environment)) {
      const host = /https?:\/\/([\w-]+):/.exec(value)?.[1];
      if (host !== undefined) expect(services, variable).toHaveProperty(host);
    }
  });
});

test('the queues that it names are created', () => {
  const made = readFileSync('docker/elasticmq.conf', 'utf8');
  const environment = services['worker']?.environment ?? {};
  const urls = ['QUEUE', 'REQUEST_QUEUE', 'DEAD_LETTER_QUEUE'].map(
    (name) => environment[`TRANSSHIP_${name}_URL`] ?? '',
  );
  for (const url of urls) expect(made).toMatch(new RegExp(`^  ${url.split('/').at(-1)} \\{`, 'm'));
});

test('the Dockerfile has one base by its digest, ends as an ordinary user, and uses only what buildah 1.28 reads', () => {
  const bases = [...dockerfile.matchAll(/^FROM (?:--platform=\S+ )?(\S+)/gm)].map(([, base]) => base);
  expect(new Set(bases)).toEqual(new Set(['$BASE', 'scratch']));
  const [, node] =
    /^ARG BASE=docker\.io\/library\/node:([\d.]+)-bookworm-slim@sha256:[0-9a-f]{64}$/m.exec(dockerfile) ?? [];
  const { devDependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as {
    readonly devDependencies: Readonly<Record<string, string>>;
  };
  expect(node, 'the image runs the Node that everything is tested with').toBe(devDependencies['node']);
  expect(dockerfile).toMatch(/^USER 1000:1000$/m);
  expect(dockerfile).not.toMatch(/<<|COPY --(?:link|exclude|parents)|ADD --checksum|RUN --mount/);
});

test('package-lock.json has the digest of every package that is fetched', () => {
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
    readonly packages: Readonly<
      Record<string, { readonly integrity?: string; readonly link?: true; readonly inBundle?: true }>
    >;
  };
  const fetched = Object.entries(packages).filter(
    ([folder, { link, inBundle }]) => folder.includes('node_modules/') && !link && !inBundle,
  );
  expect(fetched.length).toBeGreaterThan(100);
  for (const [folder, { integrity }] of fetched) expect(integrity, folder).toMatch(/^sha512-/);
});
