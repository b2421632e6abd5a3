import { createServer, type ServerResponse } from 'node:http';
import { expect, onTestFinished, test } from 'vitest';
import { openRegistry, type RegistryClient } from '../../../worker/registry/registry.ts';
import { fakeClock, type FakeClock } from '../../support/clock.ts';
import { listenForTest } from '../../support/listen-for-test.ts';

interface Lists {
  readonly client: RegistryClient;
  readonly clock: FakeClock;
  readonly paths: readonly string[];
  /** Resolves with the next waiting request. */
  readonly next: () => Promise<(tags: readonly string[]) => void>;
}

/** A registry whose lists of tags are answered by the test. */
async function lists(): Promise<Lists> {
  const paths: string[] = [];
  const waiting: ServerResponse[] = [];
  const comings: (() => void)[] = [];
  const server = createServer((request, response) => {
    paths.push(request.url ?? '');
    waiting.push(response);
    comings.shift()?.();
  });
  const host = await listenForTest(server);
  const clock = fakeClock();
  const client = openRegistry(host, {
    side: 'source',
    credentials: async () => undefined,
    plainHttp: true,
    version: 'test',
    clock,
  });
  onTestFinished(async () => client.close());
  const next = async (): Promise<(tags: readonly string[]) => void> => {
    if (waiting.length === 0) await new Promise<void>((resolve) => comings.push(resolve));
    const response = waiting.shift();
    return (tags) => response?.end(JSON.stringify({ name: 'app', tags }));
  };
  return { client, clock, paths, next };
}

test('callers that ask while a list is read share the next one, which shows what was added meanwhile', async () => {
  const { client, paths, next } = await lists();
  const app = client.repository('app');
  const first = app.listedTags();
  const answerFirst = await next();
  const later = [app.listedTags(), app.listedTags(), app.listedTags()];
  answerFirst(['v1']);
  expect([...((await first) ?? [])]).toEqual(['v1']);
  (await next())(['v1', 'v2']);
  for (const list of await Promise.all(later)) expect([...(list ?? [])]).toEqual(['v1', 'v2']);
  expect(paths).toHaveLength(2);
  // nothing is remembered
  const last = app.listedTags();
  (await next())(['v3']);
  expect([...((await last) ?? [])]).toEqual(['v3']);
});

test('one that began after the moment that a caller names serves it too', async () => {
  const { client, clock, paths, next } = await lists();
  const app = client.repository('app');
  const answersSinceMs = clock.now();
  const [first, second] = [app.listedTags({ answersSinceMs }), app.listedTags({ answersSinceMs })];
  (await next())(['v1']);
  await clock.sleep(1000);
  for (const list of [first, second, app.listedTags({ answersSinceMs })])
    expect([...((await list) ?? [])]).toEqual(['v1']);
  expect(paths).toHaveLength(1);
  const later = app.listedTags({ answersSinceMs: clock.now() });
  (await next())(['v2']);
  expect([...((await later) ?? [])]).toEqual(['v2']);
});

test('a caller that is aborted while it waits leaves the list to the others', async () => {
  const { client, next } = await lists();
  const app = client.repository('app');
  const stop = new AbortController();
  const [stopped, other] = [app.listedTags(stop), app.listedTags()];
  const answer = await next();
  stop.abort();
  await expect(stopped).rejects.toMatchObject({ code: 'ABORTED' });
  answer(['v1']);
  expect([...((await other) ?? [])]).toEqual(['v1']);
});

test('a list of more than two pages is left unread', async () => {
  const { client, paths, next } = await lists();
  const list = client.repository('app').listedTags();
  for (const page of ['a', 'b', 'c']) (await next())(Array.from({ length: 1000 }, (_, at) => `${page}${at}`));
  expect(await list).toBeUndefined();
  expect(paths).toEqual([
    '/v2/app/tags/list?n=1000',
    ...['a999', 'b999'].map((tag) => `/v2/app/tags/list?n=1000&last=${tag}`),
  ]);
});
