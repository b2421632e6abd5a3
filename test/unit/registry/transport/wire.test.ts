import { gzipSync } from 'node:zlib';
import { expect, onTestFinished, test } from 'vitest';
import { Origin } from '../../../../worker/registry/transport/origin.ts';
import { Wire } from '../../../../worker/registry/transport/wire.ts';
import { READ } from '../../../support/fake-layer.ts';
import { scriptedServer, type Script, type ScriptedServer } from '../../../support/scripted-server.ts';

async function serve(script: Script): Promise<ScriptedServer> {
  const server = await scriptedServer(script);
  onTestFinished(() => server[Symbol.asyncDispose]());
  return server;
}

function wireTo(server: ScriptedServer): Wire {
  const wire = new Wire(new Origin('registry.example', new URL(server.url)), {
    connections: 2,
    userAgent: 'transship/test',
  });
  onTestFinished(() => wire.close());
  return wire;
}

test('sends the authorization to the registry, and to no other origin', async () => {
  const storage = await serve({ 'GET /layer': [{ status: 200 }] });
  const server = await serve({ 'GET /v2/it': [{ status: 200 }] });
  const wire = wireTo(server);
  const request = { ...READ, authorization: 'Basic secret' };
  await (await wire.send(request, {})).text();
  await (await wire.send({ ...request, url: new URL(`${storage.url}/layer`) }, {})).text();
  expect(server.requests[0]?.headers).toMatchObject({ authorization: 'Basic secret', 'user-agent': 'transship/test' });
  expect(storage.requests[0]?.headers).not.toHaveProperty('authorization');
});

test('answers with every status, and follows no redirect', async () => {
  const server = await serve({
    'GET /v2/it': [{ status: 503 }, { status: 307, headers: { location: '/v2/there' } }],
  });
  const wire = wireTo(server);
  for (const status of [503, 307]) {
    const answer = await wire.send(READ, {});
    expect(answer.status).toBe(status);
    answer.discard();
  }
});

test('reads the start of a body once, for every caller', async () => {
  const server = await serve({ 'GET /v2/it': [{ status: 403, body: 'x'.repeat(100_000) }] });
  const answer = await wireTo(server).send(READ, {});
  const text = await answer.text();
  expect(text).toHaveLength(64 * 1024);
  expect(await answer.text()).toBe(text);
  await answer.ended;
});

test('asks for uncompressed bodies, and reads a refusal that is compressed nevertheless', async () => {
  const body = gzipSync('{"errors":[{"code":"DENIED"}]}');
  const server = await serve({ 'GET /v2/it': [{ status: 403, body, headers: { 'content-encoding': 'gzip' } }] });
  const answer = await wireTo(server).send(READ, {});
  expect(await answer.text()).toBe('{"errors":[{"code":"DENIED"}]}');
  expect(server.requests[0]?.headers['accept-encoding']).toBe('identity');
});

test('opens a streamed body anew for each request', async () => {
  const server = await serve({ 'PUT /v2/it': [{ status: 503 }, { status: 201 }] });
  const wire = wireTo(server);
  let opened = 0;
  const open = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
    yield Buffer.from(`body ${++opened}`);
  };
  for (let i = 0; i < 2; i++) (await wire.send({ ...READ, method: 'PUT', body: { size: 6, open } }, {})).discard();
  expect(server.requests.map(({ body }) => body.toString())).toEqual(['body 1', 'body 2']);
});

test('sends nothing once the signal is aborted', async () => {
  const server = await serve({});
  await expect(wireTo(server).send(READ, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
  expect(server.connections).toBe(0);
});
