import { CreateRepositoryCommand, ECRClient, GetAuthorizationTokenCommand } from '@aws-sdk/client-ecr';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { startRegistry } from '../../local/registry/registry.ts';
import { digestOf } from '../../worker/oci/digest.ts';
import type { Descriptor } from '../../worker/oci/manifest.ts';
import { pushImage, rawManifest } from '../support/interop-image.ts';
import { APP, openLab } from '../support/interop-lab.ts';
import { attempt, run, skopeo, transship, transshipJson } from '../support/interop-process.ts';

interface CopyDocument {
  readonly outcome: string;
  readonly digest: string;
  readonly bytesSent: number;
  readonly tallies: { readonly copied: { readonly count: number } };
  readonly partial: boolean;
}

const lab = await openLab();
afterAll(() => lab[Symbol.asyncDispose]());
const { o, image, registry } = lab;
const source = `${registry.host}/${APP}`;

/** Every manifest of the image at `repository`, as skopeo reads it from the registry. */
async function manifestsOf(repository: string, flags: readonly string[] = []): Promise<readonly string[]> {
  const references = [
    ':v1',
    ...image.images.map(({ digest }) => `@${digest}`),
    `:${image.signatureTag}`,
    `@${image.sbom.digest}`,
  ];
  return Promise.all(
    references.map(async (r) => (await rawManifest(`docker://${repository}${r}`, o, flags)).toString('latin1')),
  );
}

/** The entries of the referrers tag of the image at `repository`. */
async function referrersOf(repository: string, flags: readonly string[] = []): Promise<readonly string[]> {
  const raw = await rawManifest(`docker://${repository}:${image.referrersTag}`, o, flags);
  const { manifests } = JSON.parse(raw.toString()) as { readonly manifests: readonly Descriptor[] };
  return manifests.map(({ digest }) => digest);
}

describe('a mirror from docker-registry to docker-registry', async () => {
  const target = await lab.startRegistry('mirror');
  const mirrored = `${target.host}/mirror/of/app`;
  const first = await transshipJson<CopyDocument>(['copy', `${source}:v1`, `docker://${mirrored}:v1`], o);

  test('reports the digest and that nothing was left out', () => {
    expect(first).toMatchObject({ outcome: 'copied', digest: image.root.digest, partial: false });
  });

  test('has every manifest as skopeo pushed it, byte for byte, and the signature under its tag', async () => {
    expect(await manifestsOf(mirrored)).toEqual(await manifestsOf(source));
  });

  test('lists the referrers under the tag for registries without the referrers API', async () => {
    expect(await referrersOf(mirrored)).toEqual([image.sbom.digest]);
  });

  test('is copied out by skopeo with every blob', async () => {
    await skopeo(['copy', '--all', `docker://${mirrored}:v1`, `dir:${join(lab.folder, 'mirrored')}`], o);
  });

  test('sends nothing when everything is there already', async () => {
    const again = await transshipJson<CopyDocument>(['copy', `${source}:v1`, `docker://${mirrored}:v1`], o);
    expect(again).toMatchObject({ outcome: 'unchanged', bytesSent: 0, tallies: { copied: { count: 0 } } });
  });

  test('within one registry reads no layer: blobs are mounted', async () => {
    const sibling = await transshipJson<CopyDocument>(['copy', `${source}:v1`, `${registry.host}/sibling:v1`], o);
    expect(sibling).toMatchObject({ digest: image.root.digest, tallies: { mounted: { count: expect.any(Number) } } });
    // only manifests were sent
    expect(sibling.bytesSent).toBeLessThan(10_000);
  });
});

describe('the embedded registry', async () => {
  const servers = new AsyncDisposableStack();
  afterAll(() => servers.disposeAsync());

  test.each([{ referrersApi: true }, { referrersApi: false }])(
    'accepts an image from skopeo and serves it, %o',
    async ({ referrersApi }) => {
      const embedded = servers.use(
        await startRegistry({ mode: 'oci', folder: join(lab.folder, `oci-${String(referrersApi)}`), referrersApi }),
      );
      const name = `${embedded.host}/${APP}`;
      await pushImage(image, name, o);
      expect(await manifestsOf(name)).toEqual(await manifestsOf(source));
      const back = `docker://${registry.host}/back-${String(referrersApi)}:v1`;
      await skopeo(['copy', '--all', '--preserve-digests', `docker://${name}:v1`, back], o);
      expect(digestOf(await rawManifest(back, o))).toBe(image.root.digest);
    },
  );

  test('asks skopeo for a bearer token', async () => {
    const users = { robot: 'pass:word' };
    const embedded = servers.use(
      await startRegistry({ mode: 'oci', folder: join(lab.folder, 'bearer'), auth: 'bearer', users }),
    );
    const to = `docker://${embedded.host}/${APP}:v1`;
    await skopeo(['copy', '--all', '--dest-creds=robot:pass:word', `docker://${source}:v1`, to], o);
    expect(digestOf(await rawManifest(to, o, ['--creds=robot:pass:word']))).toBe(image.root.digest);
  });

  test('as ECR accepts an image from skopeo with a token of ECR, and serves it through redirects', async () => {
    const ecr = servers.use(
      await startRegistry({
        mode: 'ecr',
        folder: join(lab.folder, 'ecr'),
        account: '111111111111',
        region: 'us-east-1',
      }),
    );
    const client = new ECRClient({
      endpoint: ecr.url,
      region: 'us-east-1',
      credentials: { accessKeyId: 'local', secretAccessKey: 'local-secret' },
    });
    servers.defer(() => client.destroy());
    await client.send(new CreateRepositoryCommand({ repositoryName: APP }));
    const { authorizationData } = await client.send(new GetAuthorizationTokenCommand({}));
    const credentials = Buffer.from(authorizationData?.[0]?.authorizationToken ?? '', 'base64').toString();
    expect(credentials).toMatch(/^AWS:/);
    const name = `docker://${ecr.host}/${APP}:v1`;
    await skopeo(
      ['copy', '--all', '--preserve-digests', `--dest-creds=${credentials}`, `docker://${source}:v1`, name],
      o,
    );
    const back = `docker://${registry.host}/back-from-ecr:v1`;
    await skopeo(['copy', '--all', '--preserve-digests', `--src-creds=${credentials}`, name, back], o);
    expect(digestOf(await rawManifest(back, o))).toBe(image.root.digest);
    expect(ecr.requests.some(({ kind, status }) => kind === 'layer-get' && status === 200)).toBe(true);
  });
});

describe('docker-registry with passwords', async () => {
  // bcrypt with the lowest cost: `htpasswd -nbBC 4 NAME PASSWORD`
  const READER = 'reader:$2b$04$7/RZQCQAP2yY3K.LynGT/O0EN6pGrcDIrc.0fwMfozvYogAHkQ8ZW\n';
  const WRITER = 'writer:$2b$04$H1mq.WgusQ2W.f7pFpBwoeKf2jnTbO/aOuk4NAFqbcmXNuylvaB9m\n';
  const [reader, writer] = ['reader:reader-secret', 'writer:writer-secret'];
  const from = await lab.startRegistry('from', READER);
  const to = await lab.startRegistry('to', WRITER);
  await pushImage(image, `${from.host}/${APP}`, { ...o, credentials: reader });
  const expectMirror = async (name: string): Promise<void> => {
    const flags = [`--creds=${writer}`];
    expect(await manifestsOf(`${to.host}/${name}`, flags)).toEqual(await manifestsOf(source));
    expect(await referrersOf(`${to.host}/${name}`, flags)).toEqual([image.sbom.digest]);
  };
  const entry = (credentials: string): object => ({ auth: Buffer.from(credentials).toString('base64') });

  test('is reached with --src-creds and --dest-creds, different ones for each side', async () => {
    const flags = ['--src-creds', reader, '--dest-creds', writer];
    await run(...transship(['copy', `${from.host}/${APP}:v1`, `${to.host}/by-flags:v1`, ...flags]), o);
    await expectMirror('by-flags');
  });

  test("is reached with docker's config.json", async () => {
    const config = join(lab.folder, 'docker');
    await mkdir(config);
    const auths = { [from.host]: entry(reader), [to.host]: entry(writer) };
    await writeFile(join(config, 'config.json'), JSON.stringify({ auths }));
    const env = { ...o.env, DOCKER_CONFIG: config };
    await run(...transship(['copy', `${from.host}/${APP}:v1`, `${to.host}/by-config:v1`]), { ...o, env });
    await expectMirror('by-config');
  });

  test('is reached after skopeo login', async () => {
    const authFile = join(lab.folder, 'auth.json');
    for (const [host, credentials] of [[from.host, reader] as const, [to.host, writer] as const]) {
      const [user = '', password = ''] = credentials.split(':');
      const flags = ['--tls-verify=false', '--authfile', authFile, '--username', user, '--password', password];
      await run('skopeo', ['login', ...flags, host], o);
    }
    const env = { ...o.env, REGISTRY_AUTH_FILE: authFile };
    await run(...transship(['copy', `${from.host}/${APP}:v1`, `${to.host}/after-login:v1`]), { ...o, env });
    await expectMirror('after-login');
  });

  test.each([
    ['a wrong password', ['--src-creds', 'reader:wrong-secret'], 'source'],
    ['no password', [], 'source'],
    ["the other side's password", ['--src-creds', reader, '--dest-creds', reader], 'target'],
  ])('refuses %s, and the program names the side', async (_, flags, side) => {
    const args = ['copy', `${from.host}/${APP}:v1`, `${to.host}/refused:v1`, '--quiet', ...flags];
    const { code, stdout, stderr } = await attempt(...transship(args), o);
    expect(code).toBe(1);
    expect(stdout.toString()).toBe('');
    expect(stderr).toMatch(
      new RegExp(`^transship: ${side}: [^\\n]*${side === 'source' ? from.host : to.host}[^\\n]*\\n$`),
    );
    expect(stderr).not.toContain('secret');
  });
});
