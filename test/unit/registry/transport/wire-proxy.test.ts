import { expect, onTestFinished, test } from 'vitest';
import { connectionFailure } from '../../../../worker/registry/transport/connection-failure.ts';
import { Origin } from '../../../../worker/registry/transport/origin.ts';
import { Wire } from '../../../../worker/registry/transport/wire.ts';
import { READ } from '../../../support/fake-layer.ts';
import { startProxy, type TestProxy } from '../../../support/proxy.ts';
import { scriptedServer, type Script, type ScriptedServer } from '../../../support/scripted-server.ts';

async function serve(script: Script): Promise<ScriptedServer> {
  const server = await scriptedServer(script);
  onTestFinished(() => server[Symbol.asyncDispose]());
  return server;
}

async function proxyTo(to: string, status?: number): Promise<TestProxy> {
  const proxy = await startProxy({ to, ...(status === undefined ? {} : { status }) });
  onTestFinished(() => proxy[Symbol.asyncDispose]());
  return proxy;
}

function wireBy(proxy: URL, baseUrl: string, except: readonly string[] = []): Wire {
  const proxies = { http: proxy, https: proxy, except };
  const origin = new Origin('registry.example', new URL(baseUrl));
  const wire = new Wire(origin, { connections: 2, userAgent: 'transship/test', proxies });
  onTestFinished(() => wire.close());
  return wire;
}

test('sends plain requests whole to the proxy, with its credentials and those of the registry apart', async () => {
  const server = await serve({ 'GET /v2/it': [{ status: 200, body: 'found' }], 'PUT /v2/it': [{ status: 201 }] });
  const proxy = await proxyTo(server.host);
  const wire = wireBy(new URL(`http://ann:se%40cret@${proxy.url.host}`), 'http://registry.example');
  const answer = await wire.send({ ...READ, authorization: 'Basic own' }, {});
  expect(await answer.text()).toBe('found');
  const open = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
    yield Buffer.from('a body');
  };
  (await wire.send({ ...READ, method: 'PUT', body: { size: 6, open } }, {})).discard();
  expect(proxy.lines).toEqual(['GET http://registry.example/v2/it', 'PUT http://registry.example/v2/it']);
  expect(proxy.credentials).toEqual(['ann:se@cret', 'ann:se@cret']);
  expect(server.requests[0]?.headers).toMatchObject({ authorization: 'Basic own', host: 'registry.example' });
  expect(server.requests[1]?.body.toString()).toBe('a body');
});

test('reaches a registry without the proxy where NO_PROXY names it, and on this machine', async () => {
  const server = await serve({ 'GET /v2/it': [{ status: 200 }] });
  const proxy = await proxyTo(server.host);
  (await wireBy(proxy.url, server.url).send(READ, {})).discard();
  const direct = wireBy(proxy.url, 'http://registry.invalid', ['registry.invalid']).send(READ, {});
  await expect(direct).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(proxy.lines).toEqual([]);
});

test.each([
  ['https://registry.example', 407, 'UNAUTHENTICATED', /the proxy 127\.0\.0\.1:\d+ asks for other credentials/],
  ['http://registry.example', 407, 'UNAUTHENTICATED', /the proxy 127\.0\.0\.1:\d+ asks for other credentials/],
  ['https://registry.example', 403, 'DENIED', /did not connect to registry\.example \(403\); allow the host/],
  ['https://registry.example', 502, 'UNAVAILABLE', /did not connect to registry\.example \(502\)/],
] as const)('names the proxy and no password when it answers %s with %i', async (url, status, code, why) => {
  const proxy = await proxyTo('127.0.0.1:1', status);
  const wire = wireBy(new URL(`http://ann:hunter22@${proxy.url.host}`), url);
  await expect(wire.send(READ, {})).rejects.toSatisfy((error: Error) => {
    expect(error).toMatchObject({ code });
    expect(error.message).toMatch(why);
    expect(error.message).not.toContain('hunter22');
    return true;
  });
});

test('names a proxy that cannot be reached', async () => {
  const proxy = await startProxy({ to: '127.0.0.1:1' });
  await proxy[Symbol.asyncDispose]();
  for (const url of ['http://registry.example', 'https://registry.example'])
    await expect(wireBy(proxy.url, url).send(READ, {})).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/: the proxy \S+ \(to \S+\) refused the connection/),
    });
});

test.each([
  ['ENOTFOUND', 'there is no host proxy.example:3128 (the proxy to registry.example)'],
  ['EAI_AGAIN', 'the name of the proxy proxy.example:3128 (to registry.example) could not be looked up'],
  ['EHOSTUNREACH', 'there is no route to the proxy proxy.example:3128 (to registry.example)'],
  ['UND_ERR_SOCKET', 'registry.example (through the proxy proxy.example:3128) closed the connection'],
])('names the proxy as what failed only where its code %s shows it', (code, sentence) => {
  const to = { host: 'registry.example', proxy: 'proxy.example:3128' };
  const { message } = connectionFailure('read it', to, Object.assign(new Error('failed'), { code }));
  expect(message).toBe(`read it: ${sentence}`);
});
