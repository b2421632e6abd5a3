import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'vitest';
import { readSettings, type Settings } from '../../../worker/main/settings.ts';

test('looks for credentials where podman, skopeo and docker store them, in the order of containers-auth.json(5)', () => {
  const settings = readSettings({ HOME: '/home/me' }, 1000);
  assert.deepEqual(settings.authFiles, [
    '/run/containers/1000/auth.json',
    '/home/me/.config/containers/auth.json',
    '/home/me/.docker/config.json',
    '/home/me/.dockercfg',
  ]);
  assert.equal(settings.requiredAuthFile, undefined);
  assert.equal(settings.concurrency, undefined);
  assert.equal(settings.endpoints.size, 0);
});

test('takes the folders of credentials from XDG_RUNTIME_DIR, XDG_CONFIG_HOME and DOCKER_CONFIG', () => {
  const settings = readSettings(
    { HOME: '/home/me', XDG_RUNTIME_DIR: '/run/user/1', XDG_CONFIG_HOME: '/cfg', DOCKER_CONFIG: '/etc/docker' },
    1,
  );
  assert.deepEqual(settings.authFiles, [
    '/run/user/1/containers/auth.json',
    '/cfg/containers/auth.json',
    '/etc/docker/config.json',
    '/home/me/.dockercfg',
  ]);
});

test('REGISTRY_AUTH_FILE is the only file, and must exist', () => {
  const settings = readSettings({ HOME: '/home/me', REGISTRY_AUTH_FILE: '/tmp/auth.json' });
  assert.deepEqual([settings.authFiles, settings.requiredAuthFile], [['/tmp/auth.json'], '/tmp/auth.json']);
});

test('without a home no file of the working folder counts as docker’s', () => {
  assert.deepEqual(readSettings({}, 1000).authFiles, ['/run/containers/1000/auth.json']);
});

test('reads the proxies and their exceptions; lower case wins', () => {
  const { proxies } = readSettings({
    HTTPS_PROXY: 'http://ann:secret@upper.example:3128',
    https_proxy: 'lower.example:3128',
    HTTP_PROXY: 'http://plain.example',
    NO_PROXY: 'localhost, .corp 10.0.0.0/8',
  });
  assert.equal(proxies.https?.href, 'http://lower.example:3128/');
  assert.equal(proxies.http?.href, 'http://plain.example/');
  assert.deepEqual(proxies.except, ['localhost', '.corp', '10.0.0.0/8']);
});

test('refuses a malformed proxy, naming the variable and not the password', () => {
  for (const value of ['socks5://ann:hunter22@p.example', 'http://ann:hunter22@', 'ann:hunter22@p.example:port'])
    assert.throws(
      () => readSettings({ HTTPS_PROXY: value }),
      (error: Error) =>
        error.message.startsWith('HTTPS_PROXY is not the address') && !error.message.includes('hunter22'),
    );
});

test('endpoints are read by host', () => {
  const host = '111111111111.dkr.ecr.us-east-1.amazonaws.com';
  const value = `${host}=http://127.0.0.1:5000, other.example=https://10.0.0.1/`;
  const { endpoints } = readSettings({ TRANSSHIP_REGISTRY_ENDPOINTS: value });
  assert.deepEqual(
    [...endpoints],
    [
      [host, 'http://127.0.0.1:5000'],
      ['other.example', 'https://10.0.0.1'],
    ],
  );
});

test('invalid values are refused by the name of their variable', () => {
  assert.throws(
    () => readSettings({ TRANSSHIP_REGISTRY_ENDPOINTS: 'host' }),
    /TRANSSHIP_REGISTRY_ENDPOINTS: "host" is not host=http/,
  );
  assert.throws(
    () => readSettings({ TRANSSHIP_CONCURRENCY: '0' }),
    /TRANSSHIP_CONCURRENCY is not a whole number from 1 to 64/,
  );
  assert.throws(
    () => readSettings({ TRANSSHIP_CONCURRENCY: 'many' }),
    (error: Error) => /TRANSSHIP_CONCURRENCY is not/.test(error.message) && !error.message.includes('many'),
  );
});

test('a password in an invalid endpoint is not shown', () => {
  const settings = { TRANSSHIP_REGISTRY_ENDPOINTS: 'host=ftp://ann:correct-horse@address' };
  assert.throws(
    () => readSettings(settings),
    (error: Error) => /TRANSSHIP_REGISTRY_ENDPOINTS/.test(error.message) && !error.message.includes('horse'),
  );
});

test('FIPS endpoints are used where the variable of the AWS SDK is true, and refused where it is neither true nor false', () => {
  assert.equal(readSettings({}).fips, false);
  assert.equal(readSettings({ AWS_USE_FIPS_ENDPOINT: 'false' }).fips, false);
  assert.equal(readSettings({ AWS_USE_FIPS_ENDPOINT: 'true' }).fips, true);
  assert.throws(() => readSettings({ AWS_USE_FIPS_ENDPOINT: '1' }), /AWS_USE_FIPS_ENDPOINT: "1" is neither true nor/);
});

test('the deployed system is taken from the environment, and absent without its variables', () => {
  assert.deepEqual(pick(readSettings({})), {
    queueUrl: undefined,
    deadLetterQueueUrl: undefined,
    table: undefined,
    slots: 2,
    logLevel: 'info',
    healthPort: undefined,
  });
  const environment = {
    TRANSSHIP_QUEUE_URL: 'https://sqs.us-east-1.amazonaws.com/111111111111/jobs',
    TRANSSHIP_DEAD_LETTER_QUEUE_URL: 'https://sqs.us-east-1.amazonaws.com/111111111111/dead',
    TRANSSHIP_TABLE: 'transship',
    TRANSSHIP_SLOTS: '4',
    TRANSSHIP_LOG_LEVEL: 'debug',
    TRANSSHIP_HEALTH_PORT: '9000',
  };
  assert.deepEqual(pick(readSettings(environment)), {
    queueUrl: 'https://sqs.us-east-1.amazonaws.com/111111111111/jobs',
    deadLetterQueueUrl: 'https://sqs.us-east-1.amazonaws.com/111111111111/dead',
    table: 'transship',
    slots: 4,
    logLevel: 'debug',
    healthPort: 9000,
  });
});

test('the access to buckets is taken from the environment, and undefined without its variables', () => {
  assert.deepEqual(readSettings({}).s3, {
    pathStyle: undefined,
    noConditions: undefined,
    kmsKeyId: undefined,
    requesterPays: undefined,
  });
  const environment = {
    TRANSSHIP_S3_PATH_STYLE: 'false',
    TRANSSHIP_S3_NO_CONDITIONS: 'true',
    TRANSSHIP_S3_KMS_KEY: 'alias/backup',
    TRANSSHIP_S3_REQUESTER_PAYS: 'true',
  };
  assert.deepEqual(readSettings(environment).s3, {
    pathStyle: false,
    noConditions: true,
    kmsKeyId: 'alias/backup',
    requesterPays: true,
  });
});

test.each([
  [{ TRANSSHIP_S3_PATH_STYLE: 'yes' }, /TRANSSHIP_S3_PATH_STYLE: "yes" is neither true nor false/],
  [{ TRANSSHIP_QUEUE_URL: 'jobs' }, /TRANSSHIP_QUEUE_URL: "jobs" is not the URL of a queue/],
  [
    { TRANSSHIP_ALLOW: '111111111111,s3://abc/d' },
    /^Failure: TRANSSHIP_ALLOW: "s3:\/\/abc\/d" names more than a bucket: expected "s3:\/\/abc"$/,
  ],
  [{ TRANSSHIP_SLOTS: '0' }, /TRANSSHIP_SLOTS is not a whole number from 1 to 64/],
  [{ TRANSSHIP_HEALTH_PORT: '70000' }, /TRANSSHIP_HEALTH_PORT/],
  [{ TRANSSHIP_VISIBILITY_SECONDS: '9' }, /TRANSSHIP_VISIBILITY_SECONDS is not a whole number from 10 to 600/],
  [{ TRANSSHIP_LOOK_EVERY_HOURS: '721' }, /TRANSSHIP_LOOK_EVERY_HOURS is not a whole number from 0 to 720/],
  [{ TRANSSHIP_CLOCK_SKEW_SECONDS: '-1' }, /TRANSSHIP_CLOCK_SKEW_SECONDS is not a whole number from 0 to 600/],
  [{ TRANSSHIP_LOG_LEVEL: 'loud' }, /TRANSSHIP_LOG_LEVEL: "loud" is not one of debug, info, warn, error/],
])('%o is refused by name', (environment, message) => {
  assert.throws(() => readSettings(environment), message);
});

test('docs/worker.md has every variable that is read, and no other', () => {
  const names = (path: string): readonly string[] =>
    [...new Set(readFileSync(path, 'utf8').match(/\bTRANSSHIP_[A-Z0-9_]+/g))].sort();
  assert.deepEqual(names('docs/worker.md'), names('worker/main/settings.ts'));
});

function pick(settings: Settings): Partial<Settings> {
  const { queueUrl, deadLetterQueueUrl, table, slots, logLevel, healthPort } = settings;
  return { queueUrl, deadLetterQueueUrl, table, slots, logLevel, healthPort };
}
