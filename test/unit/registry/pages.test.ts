import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseNextLink } from '../../../worker/registry/pages.ts';
import { openRegistry, type RegistryClient } from '../../../worker/registry/registry.ts';
import { fakeClock } from '../../support/clock.ts';
import { scriptedServer, type Reply, type Script, type ScriptedServer } from '../../support/scripted-server.ts';

describe('parseNextLink', () => {
  test.each<[string | undefined, string | undefined]>([
    [undefined, undefined],
    ['', undefined],
    ['</v2/a/tags/list?n=2&last=b>; rel="next"', '/v2/a/tags/list?n=2&last=b'],
    ['</x>;rel=next', '/x'],
    ['</x>; REL="Next"', '/x'],
    ['</first>; rel="first", </x>; rel="next"', '/x'],
    ['</x>; rel="prev next"', '/x'],
    ['</x>; title="a"; rel="next"', '/x'],
    ['<https://r.example/x?a=<b>; rel="next"', undefined],
    ['</x>; rel="nextish"', undefined],
    ['</x>; rel=nextish', undefined],
    ['</x>', undefined],
    ['/x; rel="next"', undefined],
  ])('%s leads to %s', (header, expected) => expect(parseNextLink(header)).toBe(expected));
});

async function serving(script: Script): Promise<{ server: ScriptedServer; client: RegistryClient }> {
  const server = await scriptedServer(script);
  onTestFinished(async () => server[Symbol.asyncDispose]());
  const client = openRegistry(server.host, {
    side: 'source',
    credentials: async () => undefined,
    version: 'test',
    clock: fakeClock(),
  });
  onTestFinished(async () => client.close());
  return { server, client };
}

const page = (body: object, link?: string): Reply => ({
  status: 200,
  body: JSON.stringify(body),
  ...(link === undefined ? {} : { headers: { link: `<${link}>; rel="next"` } }),
});

describe('lists', () => {
  test('go on where the registry says, with what it says', async () => {
    const opaque = '/v2/app/tags/list?n=1000&last=%2Bopaque~cursor%3D%3D&x=a+b';
    const { server, client } = await serving({
      'GET /v2/app/tags/list?n=1000': [page({ name: 'app', tags: ['a', 'b'] }, opaque)],
      [`GET ${opaque}`]: [page({ tags: null }, '/v2/app/tags/list?last=z')],
      'GET /v2/app/tags/list?last=z': [page({ tags: ['c'] })],
    });
    expect(await Array.fromAsync(client.repository('app').tags())).toEqual(['a', 'b', 'c']);
    expect(server.requests).toHaveLength(3);
  });

  test('that go round in a circle end', async () => {
    const { client } = await serving({
      'GET /v2/app/tags/list?n=1000': [page({ tags: ['a'] }, '/v2/app/tags/list?last=a')],
      'GET /v2/app/tags/list?last=a': [page({ tags: ['a'] }, '/v2/app/tags/list?last=a')],
    });
    await expect(Array.fromAsync(client.repository('app').tags())).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  test('that never end are given up', async () => {
    let last = 0;
    const server = createServer((_, response) => {
      response.writeHead(200, { link: `</v2/app/tags/list?last=${++last}>; rel="next"` }).end('{"tags":[]}');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const client = openRegistry(`127.0.0.1:${port}`, {
      side: 'source',
      credentials: async () => undefined,
      version: 'test',
      clock: fakeClock(),
    });
    onTestFinished(async () => client.close());
    await expect(Array.fromAsync(client.repository('app').tags())).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('10000 pages'),
    });
  }, 30_000);

  test('a page that breaks is asked for again', async () => {
    const whole = page({ tags: ['a', 'b', 'c'] });
    const { client } = await serving({
      'GET /v2/app/tags/list?n=1000': [{ ...whole, cutAfter: 9 }, { status: 503 }, whole],
    });
    expect(await Array.fromAsync(client.repository('app').tags())).toEqual(['a', 'b', 'c']);
  });

  test.each(['<html>', '[]', '"a"', 'null', '{"tags":"a"}', '{"tags":{"a":1}}'])('%s is no list', async (body) => {
    const { client } = await serving({ 'GET /v2/app/tags/list?n=1000': [{ status: 200, body }] });
    await expect(Array.fromAsync(client.repository('app').tags())).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  test('leave out what stands in for the referrers API, and keep the tags of cosign', async () => {
    const fallback = `sha256-${'a'.repeat(64)}`;
    const { client } = await serving({
      'GET /v2/app/tags/list?n=1000': [page({ tags: ['v1', fallback, `${fallback}.sig`] })],
    });
    expect(await Array.fromAsync(client.repository('app').tags())).toEqual(['v1', `${fallback}.sig`]);
  });

  test('of repositories can be narrowed by a prefix', async () => {
    const { client } = await serving({
      'GET /v2/_catalog?n=1000': [page({ repositories: ['a/x', 'b/x'] }, '/v2/_catalog?n=1000&last=b')],
      'GET /v2/_catalog?n=1000&last=b': [page({ repositories: ['a/y'] })],
    });
    expect(await Array.fromAsync(client.repositories('a/'))).toEqual(['a/x', 'a/y']);
  });

  test('of repositories that a registry does not keep are UNSUPPORTED', async () => {
    const { client } = await serving({ 'GET /v2/_catalog?n=1000': [{ status: 404 }] });
    await expect(Array.fromAsync(client.repositories())).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('name the repositories'),
    });
  });
});
