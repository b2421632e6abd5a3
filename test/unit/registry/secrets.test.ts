import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { openRegistry } from '../../../worker/registry/registry.ts';
import { secretCredentials } from '../../../worker/registry/secrets.ts';
import type { Event } from '../../../worker/util/events.ts';
import { redacted } from '../../../worker/util/text.ts';
import { fakeClock } from '../../support/clock.ts';
import { failureOf } from '../../support/lab.ts';
import { scriptedServer, type Reply } from '../../support/scripted-server.ts';

const ARN = 'arn:aws:secretsmanager:eu-west-1:111111111111:secret:ecr-pullthroughcache/hub-AbCdEf';
const USER = { username: 'ann', password: 'hush-hush' };

beforeAll(() => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'key');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'secret');
});
afterAll(() => {
  vi.unstubAllEnvs();
});

/** A Secrets Manager with these answers, in turn. */
async function manager(...replies: readonly Reply[]): ReturnType<typeof scriptedServer> {
  const server = await scriptedServer({ 'POST /': replies });
  vi.stubEnv('AWS_ENDPOINT_URL_SECRETS_MANAGER', server.url);
  onTestFinished(async () => server[Symbol.asyncDispose]());
  return server;
}

const secret = (value: unknown): Reply => ({
  status: 200,
  body: JSON.stringify({ ARN, SecretString: typeof value === 'string' ? value : JSON.stringify(value) }),
});
const refusing = (type: string, message = 'no', status = 400): Reply => ({
  status,
  body: JSON.stringify({ __type: type, message }),
});

describe('a secret', () => {
  test.each([
    ['user name and password', USER],
    ['an access token, as ECR’s pull-through cache has it', { username: 'ann', accessToken: 'hush-hush' }],
    ['other members too', { ...USER, note: 'of the team' }],
  ])('with %s', async (_, value) => {
    const server = await manager(secret(value));
    const found = await secretCredentials({ arn: ARN, clock: fakeClock() })('docker.io', 'library/alpine', {});
    expect(found).toEqual(USER);
    const [asked] = server.requests;
    expect(asked?.headers['x-amz-target']).toBe('secretsmanager.GetSecretValue');
    expect(asked?.headers.authorization).toContain('/eu-west-1/secretsmanager/');
    expect(JSON.parse(String(asked?.body))).toEqual({ SecretId: ARN });
  });

  test('is read with new credentials of AWS when the first ones have expired', async () => {
    const server = await manager(refusing('ExpiredTokenException'), secret(USER));
    expect(await secretCredentials({ arn: ARN, clock: fakeClock() })('docker.io', 'library/alpine', {})).toEqual(USER);
    expect(server.requests).toHaveLength(2);
  });

  test('is left out of every message once it was read', async () => {
    await manager(secret({ username: 'ann', accessToken: 'planted-in-a-secret' }));
    await secretCredentials({ arn: ARN, clock: fakeClock() })('docker.io', 'library/alpine', {});
    expect(redacted('the registry said: planted-in-a-secret is old')).toBe('the registry said: … is old');
  });

  test('is read once for all callers, and again after five minutes', async () => {
    const server = await manager(secret(USER), secret({ ...USER, password: 'rotated' }));
    const clock = fakeClock();
    const find = secretCredentials({ arn: ARN, clock });
    await Promise.all([find('h', 'a', {}), find('h', 'b', {})]);
    await clock.sleep(299_000);
    expect(await find('h', 'a', {})).toEqual(USER);
    expect(server.requests).toHaveLength(1);
    await clock.sleep(1000);
    expect(await find('h', 'a', {})).toEqual({ ...USER, password: 'rotated' });
  });

  test('is read again when it was refused, but not for each refused request', async () => {
    const server = await manager(secret(USER), secret({ ...USER, password: 'rotated' }));
    const clock = fakeClock();
    const find = secretCredentials({ arn: ARN, clock });
    await find('h', 'a', {});
    await clock.sleep(60_000);
    const again = await Promise.all([find('h', 'a', { refused: USER }), find('h', 'b', { refused: USER })]);
    expect(again).toEqual([
      { ...USER, password: 'rotated' },
      { ...USER, password: 'rotated' },
    ]);
    expect(server.requests).toHaveLength(2);
  });

  test('stays valid while Secrets Manager is unavailable', async () => {
    await manager(secret(USER), ...Array.from({ length: 4 }, () => refusing('InternalServiceError', 'away', 500)));
    const clock = fakeClock();
    const events: Event[] = [];
    const find = secretCredentials({ arn: ARN, clock, report: (event) => void events.push(event) });
    await find('h', 'a', {});
    await clock.sleep(300_000);
    expect(await find('h', 'a', {})).toEqual(USER);
    expect(events).toMatchObject([{ type: 'warning', message: expect.stringContaining(ARN) }]);
  });

  test('is requested again by the next caller after a failure', async () => {
    await manager(refusing('ResourceNotFoundException'), secret(USER));
    const find = secretCredentials({ arn: ARN, clock: fakeClock() });
    await failureOf(find('h', 'a', {}), 'UNAUTHENTICATED');
    expect(await find('h', 'a', {})).toEqual(USER);
  });

  test.each([
    [
      'does not exist',
      refusing('ResourceNotFoundException', "Secrets Manager can't find the specified secret."),
      /find/,
    ],
    ['may not be read', refusing('AccessDeniedException', 'not authorized'), /secretsmanager:GetSecretValue/],
    [
      'has a key that may not be used',
      refusing('AccessDeniedException', 'Access to KMS is not allowed'),
      /kms:Decrypt/,
    ],
    ['cannot be decrypted', refusing('DecryptionFailure', 'the key is disabled'), /the key is disabled/],
    ['is bytes', { status: 200, body: JSON.stringify({ ARN, SecretBinary: 'aHVzaA==' }) }, /not JSON text/],
    ['is not JSON', secret('ann:hush-hush'), /it is not JSON text; expected JSON/],
    ['is a list', secret(['ann', 'hush-hush']), /is missing/],
    ['has no password', secret({ username: 'ann', secret: 'hush-hush' }), /is missing/],
    ['has a number for it', secret({ username: 'ann', password: 7 }), /is missing/],
  ])('is named, and never its content, when it %s', async (_, reply, message) => {
    await manager(reply);
    const failure = await failureOf(
      Promise.resolve(secretCredentials({ arn: ARN, clock: fakeClock() })('h', 'a', {})),
      'UNAUTHENTICATED',
    );
    expect(failure.message).toContain(ARN);
    expect(failure.message).toMatch(message);
    expect(JSON.stringify([failure.message, failure.context, String(failure.cause)])).not.toContain('hush');
  });
});

test('causes a new sign-in when it was rotated', async () => {
  await manager(secret(USER), secret({ ...USER, password: 'rotated' }));
  const basic = (password: string): string => `Basic ${Buffer.from(`ann:${password}`).toString('base64')}`;
  const wanting = (password: string, reply: Reply) => (request: { headers: { authorization?: string | undefined } }) =>
    request.headers.authorization === basic(password)
      ? reply
      : { status: 401, headers: { 'www-authenticate': 'Basic realm="r"' } };
  const tags = { status: 200, body: JSON.stringify({ name: 'app', tags: ['1.0'] }) };
  await using server = await scriptedServer({
    'GET /v2/': [{ status: 401, headers: { 'www-authenticate': 'Basic realm="r"' } }],
    'GET /v2/app/tags/list?n=1000': [wanting('hush-hush', tags), wanting('rotated', tags), wanting('rotated', tags)],
  });
  const clock = fakeClock();
  await using registry = openRegistry(server.host, {
    side: 'source',
    credentials: secretCredentials({ arn: ARN, clock }),
    version: 'test',
    clock,
  });
  const repository = registry.repository('app');
  expect(await Array.fromAsync(repository.tags())).toEqual(['1.0']);
  await clock.sleep(60_000);
  expect(await Array.fromAsync(repository.tags())).toEqual(['1.0']);
});
