import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { copy } from '../../../../worker/copy/copy.ts';
import { blobsOf, walk } from '../../../../worker/content/graph.ts';
import { digestOf } from '../../../../worker/oci/digest.ts';
import { MEDIA_TYPE, type Descriptor } from '../../../../worker/oci/manifest.ts';
import { EcrClient } from '../../../../worker/registry/ecr/client.ts';
import { parseRepositorySettings } from '../../../../worker/registry/ecr/repository-settings.ts';
import { openRegistry, type RegistryClient, type RegistryOptions } from '../../../../worker/registry/registry.ts';
import type { EcrServerOptions } from '../../../../local/registry/registry.ts';
import type { Event } from '../../../../worker/util/events.ts';
import { chunked, collect } from '../../../support/chunks.ts';
import { fakeClock } from '../../../support/clock.ts';
import { makeImage, seededBytes } from '../../../support/images.ts';
import { startProxy } from '../../../support/proxy.ts';
import { registryUnderTest, type RegistryUnderTest } from '../../../support/registries.ts';
import { scriptedServer, type Script, type ScriptedServer, type Reply } from '../../../support/scripted-server.ts';

const HOME = { mode: 'ecr', account: '111111111111', region: 'eu-west-1' } as const;

async function ecr(o: Partial<EcrServerOptions> = {}): Promise<RegistryUnderTest> {
  const made = await registryUnderTest({ ...HOME, ...o });
  onTestFinished(async () => made[Symbol.asyncDispose]());
  return made;
}

/** The calls of ECR's own API. */
function calls(made: RegistryUnderTest): readonly (string | undefined)[] {
  return made.local.requests.filter(({ kind }) => kind === 'api').map(({ operation }) => operation);
}

const BYTES = seededBytes('layer', 3000);
const LAYER = { mediaType: MEDIA_TYPE.ociLayer, digest: digestOf(BYTES), size: BYTES.byteLength };
const body = (): ReturnType<typeof chunked> => chunked(BYTES, 1000);

async function filled(made: RegistryUnderTest, name = 'team/app', tag = 'v1'): Promise<ReturnType<typeof makeImage>> {
  const image = await makeImage({ tag });
  await copy(image.content, made.client({ create: {} }).repository(name), [image.root]);
  return image;
}

describe('signing in', () => {
  test('is one call for all requests, in the region of the host', async () => {
    const made = await ecr();
    const image = await filled(made);
    const client = made.client({ side: 'source' });
    const before = calls(made).length;
    await Promise.all(Array.from({ length: 10 }, async () => client.repository('team/app').resolve('v1')));
    expect((await client.repository('team/app').resolve('v1')).digest).toBe(image.root.descriptor.digest);
    expect(calls(made).slice(before)).toEqual(['GetAuthorizationToken']);
  });

  test('is repeated before the token expires', async () => {
    const clock = fakeClock();
    const made = await ecr({ clock, tokenLifetimeSeconds: 1000 });
    await filled(made);
    const app = made.client({ clock }).repository('team/app');
    await app.resolve('v1');
    const before = calls(made).length;
    await clock.sleep(899_000);
    await app.resolve('v1');
    expect(calls(made).slice(before)).toEqual([]);
    await clock.sleep(1000);
    await Promise.all([app.resolve('v1'), app.resolve('v1')]);
    expect(calls(made).slice(before)).toEqual(['GetAuthorizationToken']);
  });

  test('is repeated, once for all, when the token has expired in transit', async () => {
    const made = await ecr();
    await filled(made);
    const app = made.client().repository('team/app');
    await app.resolve('v1');
    const before = calls(made).length;
    made.local.expireTokens();
    await Promise.all(Array.from({ length: 8 }, async () => Array.fromAsync(app.tags())));
    expect(calls(made).slice(before)).toEqual(['GetAuthorizationToken']);
  });

  test('is repeated in the middle of an upload, which begins anew', async () => {
    const made = await ecr();
    const app = made.client({ create: {} }).repository('team/app');
    made.local.faults.add({ operation: 'upload-put' }, { kind: 'expire-token' });
    await app.put(LAYER, body);
    expect(await app.has(LAYER)).toBe(true);
    expect(made.local.requests.filter(({ kind }) => kind === 'upload-post').length).toBeGreaterThanOrEqual(2);
  });

  test('is not repeated for every missing permission', async () => {
    const made = await ecr({ deny: ['ecr:BatchGetImage'] });
    const app = made.client({ create: {} }).repository('team/app');
    await made.client().applySettings('team/app', {});
    for (let i = 0; i < 3; i++) await expect(app.resolve('v1')).rejects.toMatchObject({ code: 'DENIED' });
    expect(calls(made).filter((call) => call === 'GetAuthorizationToken')).toHaveLength(1);
  });

  test("without AWS credentials, docker's are used", async () => {
    const made = await ecr();
    await filled(made);
    const { password } = await signedIn(made);
    await withoutAws(async () => {
      const client = made.client({ credentials: async () => ({ username: 'AWS', password }) });
      expect((await client.repository('team/app').resolve('v1')).mediaType).toBe(MEDIA_TYPE.ociIndex);
    });
  });

  test('uses the credentials that the caller names for it, even if AWS has some too', async () => {
    const made = await ecr();
    await filled(made);
    let { password } = await signedIn(made);
    let next: string | undefined;
    const app = made
      .client({
        credentials: async (_host, _name, { refused }) => {
          // a secret is read again
          if (refused !== undefined) password = next ?? password;
          return { username: 'AWS', password };
        },
        prefersCredentials: true,
      })
      .repository('team/app');
    const before = calls(made).length;
    expect((await app.resolve('v1')).mediaType).toBe(MEDIA_TYPE.ociIndex);
    made.local.expireTokens();
    await expect(app.resolve('v1')).rejects.toMatchObject({
      code: 'DENIED',
      message: expect.stringContaining('`aws ecr get-login-password`'),
    });
    expect(calls(made).slice(before)).toEqual([]);
    next = (await signedIn(made)).password;
    expect((await app.resolve('v1')).mediaType).toBe(MEDIA_TYPE.ociIndex);
  });

  test('fails without any credentials, and reports that', async () => {
    const made = await ecr();
    await withoutAws(async () => {
      await expect(made.client().repository('team/app').resolve('v1')).rejects.toMatchObject({
        code: 'UNAUTHENTICATED',
        message: expect.stringMatching(
          /^sign in to .*: no AWS credentials were found: log in, or set a profile \(.*\); nor are there any of `docker login`$/,
        ),
      });
    });
  });

  test('names the permission when that is missing', async () => {
    const made = await ecr({ deny: ['ecr:GetAuthorizationToken'] });
    await expect(made.client().repository('team/app').resolve('v1')).rejects.toMatchObject({
      code: 'DENIED',
      message: expect.stringContaining('the caller needs ecr:GetAuthorizationToken'),
    });
  });
});

describe('a role', () => {
  test('is assumed with its external id, and used for every call', async () => {
    const made = await ecr();
    await filled(made);
    const sts = await serving({
      'POST /': [
        {
          status: 200,
          headers: { 'content-type': 'text/xml' },
          body: `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
            <AccessKeyId>AKIAROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>
            <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser><Arn>arn</Arn><AssumedRoleId>id</AssumedRoleId>
            </AssumedRoleUser></AssumeRoleResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleResponse>`,
        },
      ],
    });
    setEnvironment('AWS_ENDPOINT_URL_STS', sts.url);
    const aws = { assumeRole: 'arn:aws:iam::111111111111:role/reader', externalId: 'their id' };
    await made.client({ aws }).repository('team/app').resolve('v1');
    const form = new URLSearchParams(sts.requests[0]?.body.toString());
    expect(Object.fromEntries(form)).toMatchObject({
      Action: 'AssumeRole',
      RoleArn: aws.assumeRole,
      ExternalId: 'their id',
    });
  });

  test('names the missing permission when it may not be assumed', async () => {
    const made = await ecr();
    const message =
      'User: arn:aws:iam::1:user/a is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::2:role/b';
    const sts = await serving({
      'POST /': [
        {
          status: 403,
          headers: { 'content-type': 'text/xml' },
          body: `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>${message}</Message></Error></ErrorResponse>`,
        },
      ],
    });
    setEnvironment('AWS_ENDPOINT_URL_STS', sts.url);
    const client = made.client({ aws: { assumeRole: 'arn:aws:iam::222222222222:role/b' } });
    await expect(client.repository('team/app').resolve('v1')).rejects.toMatchObject({
      code: 'DENIED',
      message: expect.stringContaining('the caller needs sts:AssumeRole'),
    });
  });
});

describe('missing permissions', () => {
  test.each([
    ['ecr:BatchGetImage', async (c: RegistryClient) => c.repository('team/app').resolve('v1')],
    ['ecr:BatchCheckLayerAvailability', async (c: RegistryClient) => c.repository('team/app').has(LAYER)],
    ['ecr:InitiateLayerUpload', async (c: RegistryClient) => c.repository('team/app').put(LAYER, body)],
    ['ecr:UploadLayerPart', async (c: RegistryClient) => c.repository('team/app').put(LAYER, body)],
    ['ecr:PutImage', async (c: RegistryClient) => retag(c)],
    ['ecr:ListImages', async (c: RegistryClient) => Array.fromAsync(c.repository('team/app').tags())],
    ['ecr:DescribeRepositories', async (c: RegistryClient) => Array.fromAsync(c.repositories())],
    ['ecr:DescribeImages', async (c: RegistryClient) => Array.fromAsync(c.ecr?.images('team/app') ?? [])],
    ['ecr:CreateRepository', async (c: RegistryClient) => c.repository('new').put(LAYER, body)],
  ] as const)('%s is named', async (action, work) => {
    const made = await ecr({ deny: [action] });
    const client = made.client({ create: {} });
    if (action !== 'ecr:DescribeRepositories') await client.ecr?.create('team/app', {}, {}).catch(() => undefined);
    await expect(work(client)).rejects.toMatchObject({ code: 'DENIED', message: expect.stringContaining(action) });
  });
});

describe('repositories', () => {
  test('are created when they are missing, with the given settings, once for everything that is pushed', async () => {
    const made = await ecr();
    const create = {
      tagMutability: 'IMMUTABLE_WITH_EXCLUSION',
      tagMutabilityExclusions: ['latest*'],
      scanOnPush: true,
      encryption: { type: 'KMS', key: 'arn:aws:kms:eu-west-1:111111111111:key/1' },
      tags: { team: 'a', cost: 'b' },
      lifecyclePolicy: '{"rules":[]}',
      repositoryPolicy: '{"Version":"2012-10-17","Statement":[]}',
    } as const;
    const client = made.client({ create });
    const image = await makeImage();
    await copy(image.content, client.repository('team/new'), [image.root]);
    expect(calls(made).filter((call) => call === 'CreateRepository')).toHaveLength(1);
    expect(await client.settings('team/new')).toEqual(create);
  });

  test('can be created by another process at the same time', async () => {
    const made = await ecr();
    const clients = Array.from({ length: 4 }, () => made.client({ create: {} }));
    await Promise.all(clients.map(async (client) => client.repository('team/new').put(LAYER, body)));
  });

  test('are not created when that is turned off, nor by a source', async () => {
    const made = await ecr();
    const hint = expect.stringContaining('create it first, or let it be created');
    for (const o of [{}, { side: 'source', create: {} }] as const) {
      await expect(made.client(o).repository('team/new').put(LAYER, body)).rejects.toMatchObject({
        code: 'NOT_FOUND',
        message: hint,
      });
    }
    expect(calls(made)).not.toContain('CreateRepository');
  });

  test('are listed, more than a page of them', async () => {
    const made = await ecr();
    const client = made.client({ create: {} });
    for (let i = 0; i < 3; i++) await client.applySettings(`team/${i}`, {});
    await client.applySettings('other', {});
    expect((await Array.fromAsync(client.repositories('team/'))).sort()).toEqual(['team/0', 'team/1', 'team/2']);
  });

  test('have settings that can be kept and applied elsewhere, without keys of another place', async () => {
    const made = await ecr();
    const settings = {
      tagMutability: 'IMMUTABLE',
      scanOnPush: true,
      encryption: { type: 'KMS', key: 'arn:aws:kms:us-east-1:999999999999:key/1' },
      tags: { a: 'b' },
      lifecyclePolicy: '{"rules":[]}',
    } as const;
    const warnings: string[] = [];
    const report = (event: Event): void => void (event.type === 'warning' && warnings.push(event.message));
    const client = made.client({ report });
    await client.applySettings('restored', JSON.parse(JSON.stringify(settings)) as typeof settings);
    expect(await client.settings('restored')).toEqual({
      ...settings,
      encryption: { type: 'KMS' },
    });
    expect(warnings).toEqual([expect.stringContaining('its key is in 999999999999, us-east-1')]);
  });

  test('are changed to the settings when they exist, and members that these lack stay', async () => {
    const made = await ecr();
    const client = made.client();
    await client.applySettings('app', { scanOnPush: true, tags: { a: '1' }, lifecyclePolicy: '{"rules":[]}' });
    await client.applySettings('app', { tagMutability: 'IMMUTABLE', tags: { b: '2' } });
    expect(await client.settings('app')).toMatchObject({
      tagMutability: 'IMMUTABLE',
      scanOnPush: true,
      tags: { a: '1', b: '2' },
      lifecyclePolicy: '{"rules":[]}',
    });
  });

  test('are DENIED with the missing action when their settings may not be read', async () => {
    const made = await ecr({ deny: ['ecr:GetLifecyclePolicy'] });
    const client = made.client();
    await client.applySettings('app', { scanOnPush: true });
    const message = expect.stringContaining('ecr:GetLifecyclePolicy');
    await expect(client.settings('app')).rejects.toMatchObject({ code: 'DENIED', message });
  });

  test('of other registries have no settings', async () => {
    await using made = await registryUnderTest({ mode: 'oci' });
    expect(await made.client().settings('app')).toBeUndefined();
    await made.client().applySettings('app', { anything: 1 });
  });
});

describe('parseRepositorySettings', () => {
  test.each([
    { tagMutability: 'SOMETIMES' },
    { tagMutability: 1 },
    { scanOnPush: 'yes' },
    { tags: { a: 1 } },
    { tags: 'a' },
    { encryption: { type: 'ROT13' } },
    { encryption: 'KMS' },
    { encryption: { type: 'KMS', key: 1 } },
    { lifecyclePolicy: {} },
    { repositoryPolicy: 1 },
    { tagMutabilityExclusions: 'latest' },
    { tagMutabilityExclusions: [1] },
  ])('%j are refused', (value) => {
    expect(() => parseRepositorySettings(value)).toThrow(/^the settings of a repository: /);
  });
});

describe('images', () => {
  test('are listed with everything that ECR knows, including children and referrers', async () => {
    const made = await ecr();
    const image = await makeImage({ signed: true });
    const client = made.client({ create: {} });
    await copy(image.content, client.repository('team/app'), [image.root]);
    const images = await Array.fromAsync(client.ecr?.images('team/app') ?? []);
    const root = images.find(({ digest }) => digest === image.root.descriptor.digest);
    expect(root).toMatchObject({ tags: ['v1'], mediaType: MEDIA_TYPE.ociIndex, status: 'ACTIVE', subject: undefined });
    expect(root?.pushedAt).toBeInstanceOf(Date);
    expect(images.filter(({ subject }) => subject === image.root.descriptor.digest)).toHaveLength(2);
    expect(images.find(({ subject }) => subject !== undefined)).toMatchObject({
      artifactMediaType: expect.any(String),
    });
  });

  test('are listed as archived when they are, and pulling one names the cause', async () => {
    const made = await ecr();
    const image = await filled(made);
    const client = made.client({ side: 'source' });
    const { digest } = image.root.descriptor;
    const { ECR } = await import('@aws-sdk/client-ecr');
    const api = new ECR({ region: HOME.region, endpoint: made.local.url });
    await api.updateImageStorageClass({
      repositoryName: 'team/app',
      imageId: { imageDigest: digest },
      targetStorageClass: 'ARCHIVE',
    });
    api.destroy();
    const images = await Array.fromAsync(client.ecr?.images('team/app') ?? []);
    expect(images.find((found) => found.digest === digest)).toMatchObject({ status: 'ARCHIVED' });
    const app = client.repository('team/app');
    for (const pull of [
      async () => app.resolve('v1'),
      async () => app.resolve(digest),
      async () => app.open(image.root.descriptor),
    ]) {
      await expect(pull()).rejects.toMatchObject({
        code: 'NOT_FOUND',
        message: expect.stringContaining('it is archived and cannot be pulled; restore it'),
      });
    }
    await expect(app.resolve('v2')).rejects.toMatchObject({ message: expect.not.stringContaining('archived') });
  });

  test('cost no call when they are looked up in vain under the names of signatures', async () => {
    const made = await ecr();
    const image = await filled(made);
    const app = made.client({ side: 'source' }).repository('team/app');
    const before = calls(made).length;
    const tag = `${image.root.descriptor.digest.replace(':', '-')}.sig`;
    await expect(app.resolve(tag)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(calls(made).slice(before)).toEqual(['GetAuthorizationToken']);
  });
});

describe('the peculiarities of ECR', () => {
  test('refuses an empty blob before anything is sent', async () => {
    const made = await ecr();
    const empty = { mediaType: MEDIA_TYPE.ociLayer, digest: digestOf(Buffer.of()), size: 0 };
    await expect(
      made
        .client({ create: {} })
        .repository('app')
        .put(empty, () => chunked(Buffer.of(), 1)),
    ).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('ECR takes no empty blobs'),
    });
    expect(made.local.requests).toEqual([]);
  });

  test('reads layers from its bucket, without our credentials, and the second range without asking ECR', async () => {
    const made = await ecr();
    const image = await filled(made);
    const app = made.client({ side: 'source' }).repository('team/app');
    const layer = (await layersOf(image))[0];
    if (layer === undefined) throw new Error('the image has no layer');
    const before = made.local.requests.length;
    const [first, second] = [
      await collect(await app.open(layer, { to: 10 })),
      await collect(await app.open(layer, { from: 10 })),
    ];
    expect(digestOf(Buffer.concat([first, second]))).toBe(layer.digest);
    const asked = made.local.requests.slice(before).filter(({ kind }) => kind !== 'api');
    expect(asked.map(({ kind, authorized }) => ({ kind, authorized }))).toEqual([
      { kind: 'blob-get', authorized: true },
      { kind: 'layer-get', authorized: false },
      { kind: 'layer-get', authorized: false },
    ]);
  });

  test('accepts an immutable tag that stands for the image already; for another image it is a CONFLICT', async () => {
    const made = await ecr();
    const create = { tagMutability: 'IMMUTABLE' } as const;
    const app = made.client({ create }).repository('app');
    const one = await makeImage({ seed: 1 });
    await copy(one.content, app, [one.root]);
    await copy(one.content, made.client({ create }).repository('app'), [one.root]);
    const two = await makeImage({ seed: 2 });
    await expect(copy(two.content, app, [two.root])).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  test('pushes manifests at the rate of its quota, and waits after a refusal for going too fast', async () => {
    const clock = fakeClock();
    const made = await ecr({ clock, putImagesPerSecond: 10 });
    const image = await makeImage({
      platforms: Array.from({ length: 30 }, (_, i) => `linux/arch${i}`),
      layers: [10],
      sharedLayerBytes: 0,
    });
    await copy(image.content, made.client({ create: {}, clock }).repository('app'), [image.root], { clock });
    const puts = made.local.requests.filter(({ kind }) => kind === 'manifest-put');
    expect(puts).toHaveLength(31);
    expect(puts.filter(({ status }) => status === 429)).toEqual([]);
    made.local.faults.add({ operation: 'manifest-put' }, { kind: 'answer', status: 429 });
    const other = await makeImage({ seed: 2, platforms: ['linux/amd64'] });
    await copy(other.content, made.client({ create: {}, clock }).repository('app'), [other.root], { clock });
  });

  test('refuses mounts unless they are turned on, and uses their upload for the bytes', async () => {
    const made = await ecr();
    const image = await filled(made, 'from');
    const layer = (await layersOf(image))[0];
    if (layer === undefined) throw new Error('the image has no layer');
    const client = made.client({ create: {} });
    await client.applySettings('to', {});
    const to = client.repository('to');
    expect(await to.mount(layer, 'from')).toBe(false);
    const bytes = await collect(await image.content.open(layer));
    const before = made.local.requests.length;
    await to.put(layer, () => chunked(bytes, 4096));
    expect(made.local.requests.slice(before).map(({ kind }) => kind)).toEqual(['upload-put']);
  });
});

describe('FIPS endpoints', () => {
  const hostOf = (name: string): string => `111111111111.dkr.${name}.us-east-1.amazonaws.com`;

  test.each([
    ['ecr', undefined, false],
    ['ecr', true, true],
    ['ecr-fips', undefined, true],
    ['ecr-fips', true, true],
  ])('of the API are used for a registry named dkr.%s with fips %s: %s', async (name, fips, used) => {
    const client = new EcrClient({ host: hostOf(name), ecr: { account: '111111111111', region: 'us-east-1' }, fips });
    onTestFinished(async () => client.close());
    expect(await client.call('look', 'ecr:None', {}, async ({ config }) => config.useFipsEndpoint())).toBe(used);
  });

  test.each([
    ['ecr', undefined, 'ecr'],
    ['ecr', true, 'ecr-fips'],
    ['ecr-fips', undefined, 'ecr-fips'],
  ])('of images are used for a registry named dkr.%s with fips %s: dkr.%s', async (name, fips, used) => {
    const proxy = await startProxy({ to: '127.0.0.1:1', status: 403 });
    onTestFinished(async () => proxy[Symbol.asyncDispose]());
    const client = openRegistry(hostOf(name), {
      side: 'source',
      credentials: async () => ({ username: 'AWS', password: 'token' }),
      prefersCredentials: true,
      aws: { fips },
      proxies: { http: undefined, https: proxy.url, except: [] },
      version: 'test',
      clock: fakeClock(),
    });
    onTestFinished(async () => client.close());
    const resolving = client.repository('team/app').resolve('v1');
    // messages name the registry as it was named
    await expect(resolving).rejects.toThrow(`${hostOf(name)}/team/app:v1`);
    expect(proxy.lines[0]).toBe(`CONNECT ${hostOf(used)}:443`);
  });
});

describe('ECR Public', () => {
  const challenge = (url: string) => ({
    status: 401,
    headers: { 'www-authenticate': `Bearer realm="${url}/token/",service="public.ecr.aws",scope="aws"` },
  });
  const TOKEN = `GET /token/?service=public.ecr.aws&scope=${encodeURIComponent('repository:alias/app:pull')}&scope=aws`;
  const manifest = Buffer.from('{"schemaVersion":2,"config":{},"layers":[]}');
  const found = {
    status: 200,
    headers: {
      'content-type': MEDIA_TYPE.ociManifest,
      'docker-content-digest': digestOf(manifest),
      'content-length': '43',
    },
  };
  const open = (server: ScriptedServer, o: Partial<RegistryOptions> = {}): RegistryClient => {
    const client = openRegistry('public.ecr.aws', {
      side: 'source',
      credentials: async () => undefined,
      endpoints: new Map([['public.ecr.aws', server.url]]),
      version: 'test',
      clock: fakeClock(),
      ...o,
    });
    onTestFinished(async () => client.close());
    return client;
  };

  const password = 'public-secret';
  const json = (status: number, value: object): Reply => ({
    status,
    headers: { 'content-type': 'application/x-amz-json-1.1' },
    body: JSON.stringify(value),
  });
  const authorizationToken = Buffer.from(`AWS:${password}`).toString('base64');
  const publicToken = json(200, { authorizationData: { authorizationToken, expiresAt: 4e9 } });

  test.each([
    ['', [publicToken]],
    [
      ' with new credentials of AWS once they have expired',
      [json(400, { __type: 'ExpiredTokenException', message: 'expired' }), publicToken],
    ],
  ])('is signed in to by its own API, and then as docker does%s', async (_, answers) => {
    const api = await serving({ 'POST /': answers });
    setEnvironment('AWS_ENDPOINT_URL_ECR_PUBLIC', api.url);
    setEnvironment('AWS_ACCESS_KEY_ID', 'test');
    setEnvironment('AWS_SECRET_ACCESS_KEY', 'test');
    const server = await serving();
    server.expect({
      'GET /v2/': [challenge(server.url)],
      [`${TOKEN}&account=AWS`]: [{ status: 200, body: '{"token":"t"}' }],
      'HEAD /v2/alias/app/manifests/v1': [found],
    });
    await open(server).repository('alias/app').resolve('v1');
    expect(server.requests[1]?.headers.authorization).toBe(
      `Basic ${Buffer.from(`AWS:${password}`).toString('base64')}`,
    );
    expect(api.requests[0]?.headers['x-amz-target']).toBe('SpencerFrontendService.GetAuthorizationToken');
  });

  test('is read anonymously with FIPS endpoints, since none of its API is documented', async () => {
    const api = await serving();
    setEnvironment('AWS_ENDPOINT_URL_ECR_PUBLIC', api.url);
    setEnvironment('AWS_ACCESS_KEY_ID', 'test');
    setEnvironment('AWS_SECRET_ACCESS_KEY', 'test');
    const server = await serving();
    server.expect({
      'HEAD /v2/alias/app/manifests/v1': [challenge(server.url), found],
      [TOKEN]: [{ status: 200, body: '{"token":"t"}' }],
    });
    await open(server, { aws: { fips: true } })
      .repository('alias/app')
      .resolve('v1');
    expect(server.requests.at(-1)?.headers.authorization).toBe('Bearer t');
    expect(api.requests).toEqual([]);
  });

  test('is read anonymously without AWS credentials', async () => {
    await withoutAws(async () => {
      const server = await serving();
      server.expect({
        'HEAD /v2/alias/app/manifests/v1': [challenge(server.url), found],
        [TOKEN]: [{ status: 200, body: '{"token":"t"}' }],
      });
      await open(server).repository('alias/app').resolve('v1');
      expect(server.requests.at(-1)?.headers.authorization).toBe('Bearer t');
    });
  });
});

const ENVIRONMENT = { ...process.env };
beforeEach(() => {
  // the chain of the SDK must not leave this machine
  process.env['AWS_EC2_METADATA_DISABLED'] = 'true';
  process.env['AWS_CONFIG_FILE'] = '/nonexistent';
  process.env['AWS_SHARED_CREDENTIALS_FILE'] = '/nonexistent';
});
afterEach(() => {
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
  Object.assign(process.env, ENVIRONMENT);
});

function setEnvironment(name: string, value: string): void {
  process.env[name] = value;
}

async function withoutAws(work: () => Promise<void>): Promise<void> {
  const { AWS_ACCESS_KEY_ID: key, AWS_SECRET_ACCESS_KEY: secret } = process.env;
  delete process.env['AWS_ACCESS_KEY_ID'];
  delete process.env['AWS_SECRET_ACCESS_KEY'];
  try {
    await work();
  } finally {
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: key, AWS_SECRET_ACCESS_KEY: secret });
  }
}

async function serving(script: Script = {}): Promise<ScriptedServer> {
  const server = await scriptedServer(script);
  onTestFinished(async () => server[Symbol.asyncDispose]());
  return server;
}

async function signedIn(made: RegistryUnderTest): Promise<{ readonly password: string }> {
  const { ECR } = await import('@aws-sdk/client-ecr');
  const api = new ECR({ region: HOME.region, endpoint: made.local.url });
  const { authorizationData } = await api.getAuthorizationToken({});
  api.destroy();
  const text = Buffer.from(authorizationData?.[0]?.authorizationToken ?? '', 'base64').toString();
  return { password: text.slice('AWS:'.length) };
}

async function layersOf({ content, root }: Awaited<ReturnType<typeof makeImage>>): Promise<readonly Descriptor[]> {
  return blobsOf(await walk(content, [root])).filter(({ mediaType }) => mediaType === MEDIA_TYPE.ociLayerGzip);
}

async function retag(client: RegistryClient): Promise<void> {
  const image = await makeImage();
  const { descriptor } = image.root;
  const bytes = await collect(await image.content.open(descriptor));
  await client.repository('team/app').tag('v2', descriptor, () => chunked(bytes, 512));
}
