import { describe, expect, onTestFinished, test, vi } from 'vitest';
import type { ConnectOptions } from '../../../worker/commands/context.ts';
import { readSettings } from '../../../worker/main/settings.ts';
import { connect, connectService } from '../../../worker/main/wire.ts';
import { fakeClock } from '../../support/clock.ts';
import { BUCKET, openS3 } from '../../support/local-s3.ts';
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

  /** Who a registry that asks for basic sees, when `access` names a secret for it. */
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

  test('is what the rules say of its host', async () => {
    expect(await seen({}, 1)).toBe(basic('rob', 'robs'));
  });

  test('is first of all what the command itself says', async () => {
    expect(await seen({ source: { credentials: 'ann:anns' } }, 0)).toBe(basic('ann', 'anns'));
  });

  test('is not what they say of another side’s flags', async () => {
    expect(await seen({ target: { credentials: 'ann:anns' } }, 1)).toBe(basic('rob', 'robs'));
  });
});

test('a bucket is reached as the command says, or else as the environment says', async () => {
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
