import { describe, expect, onTestFinished, test, vi } from 'vitest';
import type { ConnectOptions } from '../../../worker/commands/context.ts';
import { readSettings } from '../../../worker/main/settings.ts';
import { connect, connectService } from '../../../worker/main/wire.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../../worker/oci/manifest.ts';
import { fakeClock } from '../../support/clock.ts';
import { BUCKET, openS3 } from '../../support/local-s3.ts';
import { startProxy } from '../../support/proxy.ts';
import { scriptedServer } from '../../support/scripted-server.ts';

test('a command that needs the deployed system names every variable that is missing', () => {
  const url = 'http://127.0.0.1:1/000000000000/jobs';
  expect(() => connectService(readSettings({}))).toThrow(
    /needs TRANSSHIP_QUEUE_URL and TRANSSHIP_DEAD_LETTER_QUEUE_URL and TRANSSHIP_TABLE: set them to/,
  );
  expect(() =>
    connectService(readSettings({ TRANSSHIP_QUEUE_URL: url, TRANSSHIP_DEAD_LETTER_QUEUE_URL: url })),
  ).toThrow(/needs TRANSSHIP_TABLE: set it to/);
});

describe('how a registry is reached', () => {
  const ARN = 'arn:aws:secretsmanager:eu-west-1:111111111111:secret:hub-AbCdEf';
  const basic = (user: string, password: string): string =>
    `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

  /** The credentials that a registry with basic authentication receives, when `access` names a secret for it. */
  async function seen(o: Partial<ConnectOptions>, secretsRead: number): Promise<string | undefined> {
    const secrets = await scriptedServer({
      'POST /': Array.from({ length: secretsRead }, () => ({
        status: 200,
        body: JSON.stringify({ SecretString: '{"username":"rob","accessToken":"robs"}' }),
      })),
    });
    onTestFinished(async () => secrets[Symbol.asyncDispose]());
    vi.stubEnv('AWS_ENDPOINT_URL_SECRETS_MANAGER', secrets.url);
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'key');
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'secret');
    onTestFinished(() => void vi.unstubAllEnvs());
    const registry = await scriptedServer({
      'GET /v2/': [{ status: 401, headers: { 'www-authenticate': 'Basic realm="r"' } }],
      'GET /v2/app/tags/list?n=1000': [{ status: 200, body: '{"tags":[]}' }],
    });
    onTestFinished(async () => registry[Symbol.asyncDispose]());
    await using backends = connect(
      readSettings({}),
      'test',
      { report: () => undefined, access: { [registry.host]: { secret: ARN } }, ...o },
      fakeClock(),
    );
    await Array.fromAsync(backends.registry(registry.host, 'source').repository('app').tags());
    return registry.requests.at(-1)?.headers.authorization;
  }

  test('is at the FIPS host of ECR where the AWS SDK uses FIPS endpoints', async () => {
    const proxy = await startProxy({ to: '127.0.0.1:1', status: 403 });
    onTestFinished(async () => proxy[Symbol.asyncDispose]());
    const settings = readSettings({ AWS_USE_FIPS_ENDPOINT: 'true', HTTPS_PROXY: proxy.url.href });
    const source = { credentials: 'AWS:token' };
    await using backends = connect(settings, 'test', { report: () => undefined, source }, fakeClock());
    const registry = backends.registry('111111111111.dkr.ecr.us-east-1.amazonaws.com', 'source');
    await expect(registry.repository('app').resolve('v1')).rejects.toThrow('did not connect');
    expect(proxy.lines[0]).toBe('CONNECT 111111111111.dkr.ecr-fips.us-east-1.amazonaws.com:443');
  });

  test('uses the secret that the rules name for its host', async () => {
    expect(await seen({}, 1)).toBe(basic('rob', 'robs'));
  });

  test('prefers the credentials of the command', async () => {
    expect(await seen({ source: { credentials: 'ann:anns' } }, 0)).toBe(basic('ann', 'anns'));
  });

  test('ignores the credentials of the other side’s flags', async () => {
    expect(await seen({ target: { credentials: 'ann:anns' } }, 1)).toBe(basic('rob', 'robs'));
  });
});

test.each([
  ['a flag', { credentials: 'AWS:of-mine' }, 'AWS:of-mine'],
  ['a file of a flag without any for it', { authFile: '/dev/null' }, 'AWS:of-aws'],
])('credentials that are named for a private ECR registry come before those of AWS: %s', async (_, source, used) => {
  const host = '111111111111.dkr.ecr.eu-west-1.amazonaws.com';
  const headers = {
    'content-type': MEDIA_TYPE.ociManifest,
    'docker-content-digest': digestOf(Buffer.from('{}')),
    'content-length': '2',
  };
  await using registry = await scriptedServer({ 'HEAD /v2/app/manifests/v1': [{ status: 200, headers }] });
  const authorizationToken = Buffer.from('AWS:of-aws').toString('base64');
  const body = JSON.stringify({ authorizationData: [{ authorizationToken, expiresAt: 4e9 }] });
  await using api = await scriptedServer({ 'POST /': used === 'AWS:of-aws' ? [{ status: 200, body }] : [] });
  vi.stubEnv('AWS_ENDPOINT_URL_ECR', api.url);
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'key');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'secret');
  onTestFinished(() => void vi.unstubAllEnvs());
  const settings = readSettings({ TRANSSHIP_REGISTRY_ENDPOINTS: `${host}=${registry.url}` });
  await using backends = connect(settings, 'test', { report: () => undefined, source }, fakeClock());
  await backends.registry(host, 'source').repository('app').resolve('v1');
  expect(registry.requests[0]?.headers.authorization).toBe(`Basic ${Buffer.from(used).toString('base64')}`);
});

test('a bucket is reached with the options of the command, or else with those of the environment', async () => {
  await using server = await openS3({ quirks: ['requester-pays'] });
  const { endpoint, credentials } = server.s3;
  vi.stubEnv('AWS_ENDPOINT_URL_S3', endpoint);
  vi.stubEnv('AWS_REGION', 'us-east-1');
  vi.stubEnv('AWS_ACCESS_KEY_ID', credentials.accessKeyId);
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', credentials.secretAccessKey);
  onTestFinished(() => void vi.unstubAllEnvs());
  const stat = async (env: Readonly<Record<string, string>>, s3: ConnectOptions['s3']): Promise<unknown> => {
    await using backends = connect(readSettings(env), 'test', { report: () => undefined, s3 }, fakeClock());
    return await backends.bucket(BUCKET).stat('k');
  };
  const paid = { TRANSSHIP_S3_REQUESTER_PAYS: 'true' };
  await expect(stat({}, {})).rejects.toMatchObject({ code: 'DENIED' });
  await expect(stat(paid, {})).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(stat({}, { requesterPays: true })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(stat(paid, { requesterPays: false })).rejects.toMatchObject({ code: 'DENIED' });
});
