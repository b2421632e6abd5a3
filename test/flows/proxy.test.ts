// What a process sends when the environment names a proxy. The hosts do not exist: only the proxy can be reached.
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { readSettings, type Settings } from '../../worker/main/settings.ts';
import { connect, connectService } from '../../worker/main/wire.ts';
import { startProxy, type TestProxy } from '../support/proxy.ts';

beforeEach(() => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'key');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'secret');
  vi.stubEnv('AWS_SESSION_TOKEN', '');
  vi.stubEnv('AWS_REGION', 'us-east-1');
});
afterEach(() => vi.unstubAllEnvs());

const withoutPassword = (error: Error): boolean => !error.message.includes('hunter22');

async function proxied(): Promise<{ readonly proxy: TestProxy; readonly settings: Settings }> {
  const proxy = await startProxy({ to: '127.0.0.1:1', status: 403 });
  onTestFinished(() => proxy[Symbol.asyncDispose]());
  const settings = readSettings({
    HTTPS_PROXY: `http://ann:hunter22@${proxy.url.host}`,
    http_proxy: proxy.url.href,
    NO_PROXY: 'elsewhere.example',
    TRANSSHIP_QUEUE_URL: 'https://sqs.us-east-1.amazonaws.com/111111111111/jobs',
    TRANSSHIP_DEAD_LETTER_QUEUE_URL: 'https://sqs.us-east-1.amazonaws.com/111111111111/dead',
    TRANSSHIP_TABLE: 'table',
  });
  return { proxy, settings };
}

test.each([
  ['https://s3.example', 'CONNECT s3.example:443'],
  ['http://s3.example', 'HEAD http://s3.example/bucket/key'],
])('reaches S3 at %s through the proxy', async (endpoint, line) => {
  vi.stubEnv('AWS_ENDPOINT_URL_S3', endpoint);
  const { proxy, settings } = await proxied();
  const stop = new AbortController();
  await using backends = connect(settings, 'test', { report: () => stop.abort() });
  await expect(backends.bucket('bucket').stat('key', { signal: stop.signal })).rejects.toSatisfy(withoutPassword);
  expect(proxy.lines[0]).toBe(line);
});

test('reaches ECR, and the service that lends roles, through the proxy', async () => {
  const { proxy, settings } = await proxied();
  const host = '111111111111.dkr.ecr.us-east-1.amazonaws.com';
  const assumeRole = 'arn:aws:iam::111111111111:role/reader';
  for (const source of [{}, { assumeRole }]) {
    const stop = new AbortController();
    await using backends = connect(settings, 'test', { source, report: () => stop.abort() });
    const resolved = backends.registry(host, 'source').repository('app').resolve('v1', { signal: stop.signal });
    await expect(resolved).rejects.toSatisfy(withoutPassword);
  }
  expect(new Set(proxy.lines)).toEqual(
    new Set(['CONNECT api.ecr.us-east-1.amazonaws.com:443', 'CONNECT sts.us-east-1.amazonaws.com:443']),
  );
});

test('reaches the queue and the table through the proxy', async () => {
  const { proxy, settings } = await proxied();
  const stop = new AbortController();
  await using service = connectService(settings, { report: () => stop.abort() });
  await expect(service.queue.count({ signal: stop.signal })).rejects.toSatisfy(withoutPassword);
  const other = new AbortController();
  await using again = connectService(settings, { report: () => other.abort() });
  await expect(again.state.rules.access({ signal: other.signal })).rejects.toSatisfy(withoutPassword);
  expect(new Set(proxy.lines)).toEqual(
    new Set(['CONNECT sqs.us-east-1.amazonaws.com:443', 'CONNECT dynamodb.us-east-1.amazonaws.com:443']),
  );
});
