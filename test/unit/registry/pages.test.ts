import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { MEDIA_TYPE } from '../../../worker/oci/manifest.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import { parseNextLink } from '../../../worker/registry/pages.ts';
import { openRegistry, type RegistryClient } from '../../../worker/registry/registry.ts';
import { fakeClock } from '../../support/clock.ts';
import { scriptedServer, type Reply, type Script, type ScriptedServer } from '../../support/scripted-server.ts';

const DIGEST = digestOf(Buffer.from('an image'));

describe('parseNextLink', () => {
  test.each<[string | undefined, string | undefined]>([
    [undefined, undefined],
    ['', undefined],
    [' , ', undefined],
    ['</v2/a/tags/list?n=2&last=b>; rel="next"', '/v2/a/tags/list?n=2&last=b'],
    ['</x>;rel=next', '/x'],
    ['</x>; REL="Next"', '/x'],
    ['</first>; rel="first", </x>; rel="next"', '/x'],
    ['</x>; rel="prev next"', '/x'],
    ['</x>; title="a"; rel="next"', '/x'],
    ['</x>; title="a,b"; rel="next"', '/x'],
    ['</x>; title="a;b, <c>; rel=\\"last\\""; rel="next"', '/x'],
    ['</y>; title="</z>; rel=next"; rel=prev, </x>; rel=next; title=a', '/x'],
    ['</x>; rel = next ; type=application/json', '/x'],
    ["</x>;; rel=next; title*=UTF-8''a%20b;", '/x'],
    ['</x?a,b;c>; rel=next', '/x?a,b;c'],
    ['</x>; crossorigin; rel="next"', '/x'],
    ['</x>; rel="next"; rel="last"', '/x'],
    ['</x>; rel="last"; rel="next"', undefined],
    ['</x>; rel="next", what follows', '/x'],
    ['</x>; rel="nextish"', undefined],
    ['</x>; rel=nextish', undefined],
    ['</x>; title="rel=next"', undefined],
    ['</x>', undefined],
  ])('%s leads to %s', (header, expected) => expect(parseNextLink('list', header)).toBe(expected));

  test.each([
    '<https://r.example/x?a=<b>; rel="next"',
    '/x; rel="next"',
    '</x; rel="next"',
    '</x>; rel="next',
    '</x> rel="next"',
    '</x>; rel="prev" next',
    '</first>; rel="first", /x; rel="next"',
  ])('%s is a failure and not the last page', (header) =>
    expect(() => parseNextLink('list', header)).toThrow("list: the registry's Link header cannot be read"),
  );
});

interface Serving {
  readonly server: ScriptedServer;
  readonly client: RegistryClient;
  readonly warnings: readonly string[];
}

async function serving(script: Script): Promise<Serving> {
  const server = await scriptedServer(script);
  onTestFinished(async () => server[Symbol.asyncDispose]());
  const warnings: string[] = [];
  const client = openRegistry(server.host, {
    side: 'source',
    credentials: async () => undefined,
    version: 'test',
    clock: fakeClock(),
    report: (event) => void (event.type === 'warning' && warnings.push(event.message)),
  });
  onTestFinished(async () => client.close());
  return { server, client, warnings };
}

const page = (body: object, link?: string): Reply => ({
  status: 200,
  body: JSON.stringify(body),
  ...(link === undefined ? {} : { headers: { link: `<${link}>; rel="next"` } }),
});

describe('lists', () => {
  test('continue at the Link of the registry, with its query', async () => {
    const opaque = '/v2/app/tags/list?n=1000&last=%2Bopaque~cursor%3D%3D&x=a+b';
    const { server, client } = await serving({
      'GET /v2/app/tags/list?n=1000': [page({ name: 'app', tags: ['a', 'b'] }, opaque)],
      [`GET ${opaque}`]: [page({ tags: null }, '/v2/app/tags/list?last=z')],
      'GET /v2/app/tags/list?last=z': [page({ tags: ['c'] })],
    });
    expect(await Array.fromAsync(client.repository('app').tags())).toEqual(['a', 'b', 'c']);
    expect(server.requests).toHaveLength(3);
  });

  test('continue after a Link whose title has a comma', async () => {
    const link = '</v2/app/tags/list?last=a>; title="a,b"; rel="next"';
    const { client } = await serving({
      'GET /v2/app/tags/list?n=1000': [{ ...page({ tags: ['a'] }), headers: { link } }],
      'GET /v2/app/tags/list?last=a': [page({ tags: ['b'] })],
    });
    expect(await Array.fromAsync(client.repository('app').tags())).toEqual(['a', 'b']);
  });

  test('fail where a Link cannot be read, instead of ending there', async () => {
    const { client } = await serving({
      'GET /v2/app/tags/list?n=1000': [
        { ...page({ tags: ['a'] }), headers: { link: '/v2/app/tags/list?last=a; rel="next"' } },
      ],
    });
    await expect(Array.fromAsync(client.repository('app').tags())).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('Link header cannot be read'),
    });
  });

  test.each(['/v2/app/tags/list?n=1000', `/v2/app/referrers/${DIGEST}`, '/v2/_catalog?n=1000'])(
    'with a page of more than 4 MiB are refused: %s',
    async (path) => {
      const { client } = await serving({ [`GET ${path}`]: [{ status: 200, body: ' '.repeat(4 * 1024 * 1024 + 1) }] });
      const app = client.repository('app');
      const list = path.includes('tags')
        ? app.tags()
        : path.includes('catalog')
          ? client.repositories('')
          : app.referrers({ mediaType: MEDIA_TYPE.ociManifest, digest: DIGEST, size: 1 });
      const refused = { code: 'UNSUPPORTED', message: expect.stringContaining('longer than 4194304 bytes') };
      await expect(Array.fromAsync<unknown>(list)).rejects.toMatchObject(refused);
    },
  );

  test('return each tag once, though pages overlap', async () => {
    const { client } = await serving({
      'GET /v2/app/tags/list?n=1000': [page({ tags: ['a', 'b', 'b'] }, '/v2/app/tags/list?last=b')],
      'GET /v2/app/tags/list?last=b': [page({ tags: ['b', 'c'] })],
    });
    expect(await Array.fromAsync(client.repository('app').tags())).toEqual(['a', 'b', 'c']);
  });

  test('return each repository once, though pages overlap', async () => {
    const { client } = await serving({
      'GET /v2/_catalog?n=1000': [page({ repositories: ['a', 'b', 'b'] })],
    });
    expect(await Array.fromAsync(client.repositories())).toEqual(['a', 'b']);
  });

  test('end when their pages go round in a circle', async () => {
    const { client } = await serving({
      'GET /v2/app/tags/list?n=1000': [page({ tags: ['a'] }, '/v2/app/tags/list?last=a')],
      'GET /v2/app/tags/list?last=a': [page({ tags: ['a'] }, '/v2/app/tags/list?last=a')],
    });
    await expect(Array.fromAsync(client.repository('app').tags())).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  test.each<[string, (page: number) => readonly string[], string]>([
    ['by new names', (number) => Array.from({ length: 200_000 }, (_, i) => `${number}-${i}`), '1000000 names'],
    ['by long names', (number) => [`${number}-${'x'.repeat(4_000_000)}`], '256000000 characters'],
    ['by empty pages', () => [], '100 pages in a row without a new name'],
    ['by the same names', () => ['v1'], '100 pages in a row without a new name'],
    ['by one name a page', (number) => [`v${number}`], '10000 pages'],
  ])('are given up when they never end %s', async (_, tagsOf, why) => {
    let last = 0;
    const server = createServer((__, response) => {
      const tags = JSON.stringify({ tags: tagsOf(++last) });
      response.writeHead(200, { link: `</v2/app/tags/list?last=${last}>; rel="next"` }).end(tags);
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
      message: expect.stringContaining(why),
    });
  });

  test('request a broken page again', async () => {
    const whole = page({ tags: ['a', 'b', 'c'] });
    const { client } = await serving({
      'GET /v2/app/tags/list?n=1000': [{ ...whole, cutAfter: 9 }, { status: 503 }, whole],
    });
    expect(await Array.fromAsync(client.repository('app').tags())).toEqual(['a', 'b', 'c']);
  });

  test.each(['<html>', '[]', '"a"', 'null', '{"tags":"a"}', '{"tags":{"a":1}}'])('%s is not a list', async (body) => {
    const { client } = await serving({ 'GET /v2/app/tags/list?n=1000': [{ status: 200, body }] });
    await expect(Array.fromAsync(client.repository('app').tags())).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  test('leave out tags that stand in for the referrers API, and keep cosign tags', async () => {
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

  test('of repositories are UNSUPPORTED by a registry without a catalog', async () => {
    const { client } = await serving({ 'GET /v2/_catalog?n=1000': [{ status: 404 }] });
    await expect(Array.fromAsync(client.repositories())).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('name the repositories'),
    });
  });
});

describe('a full page without a Link', () => {
  const tags = (from: number, to: number): readonly string[] =>
    Array.from({ length: to - from }, (_, i) => `t${String(from + i).padStart(4, '0')}`);

  test('is not assumed to be the last: what follows its last tag is requested', async () => {
    const { client } = await serving({
      'GET /v2/app/tags/list?n=1000': [page({ tags: tags(0, 1000) })],
      'GET /v2/app/tags/list?n=1000&last=t0999': [page({ tags: tags(1000, 2000) })],
      'GET /v2/app/tags/list?n=1000&last=t1999': [page({ tags: tags(2000, 2003) })],
    });
    expect(await Array.fromAsync(client.repository('app').tags())).toEqual(tags(0, 2003));
  });

  test('is the last where a registry sends the same page again', async () => {
    const { client } = await serving({
      'GET /v2/app/tags/list?n=1000': [page({ tags: tags(0, 1000) })],
      'GET /v2/app/tags/list?n=1000&last=t0999': [page({ tags: tags(0, 1000) })],
    });
    expect(await Array.fromAsync(client.repository('app').tags())).toEqual(tags(0, 1000));
  });

  test('is the last, with a warning, where a registry refuses to list more', async () => {
    const { client, warnings } = await serving({
      'GET /v2/app/tags/list?n=1000': [page({ tags: tags(0, 1000) })],
      'GET /v2/app/tags/list?n=1000&last=t0999': [{ status: 400 }],
    });
    expect(await Array.fromAsync(client.repository('app').tags())).toEqual(tags(0, 1000));
    expect(warnings).toEqual([expect.stringContaining('400; the list is taken to end with its 1000 names')]);
  });

  test('fails where what follows could not be read', async () => {
    const { client } = await serving({
      'GET /v2/app/tags/list?n=1000': [page({ tags: tags(0, 1000) })],
      'GET /v2/app/tags/list?n=1000&last=t0999': [{ status: 403 }],
    });
    await expect(Array.fromAsync(client.repository('app').tags())).rejects.toMatchObject({ code: 'DENIED' });
  });

  test('of repositories continues too', async () => {
    const { client } = await serving({
      'GET /v2/_catalog?n=1000': [page({ repositories: tags(0, 1000) })],
      'GET /v2/_catalog?n=1000&last=t0999': [page({ repositories: ['u/v'] })],
    });
    expect(await Array.fromAsync(client.repositories('u/'))).toEqual(['u/v']);
  });
});
