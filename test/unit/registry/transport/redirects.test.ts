import { expect, test } from 'vitest';
import type { Layer } from '../../../../worker/registry/transport/layer.ts';
import { Origin } from '../../../../worker/registry/transport/origin.ts';
import { Redirects } from '../../../../worker/registry/transport/redirects.ts';
import { fakeClock, type FakeClock } from '../../../support/clock.ts';
import { BASE, fakeLayer, READ, type FakeLayer } from '../../../support/fake-layer.ts';

const STORAGE = 'https://storage.example';
const link = (path: string): { status: number; headers: { location: string } } => ({
  status: 307,
  headers: { location: `${STORAGE}${path}` },
});

function following(inner: Layer, clock: FakeClock = fakeClock()): Redirects {
  return new Redirects(inner, new Origin('registry.example', new URL(BASE)), clock);
}

function urls(inner: FakeLayer): readonly string[] {
  return inner.requests.map(({ url }) => String(url));
}

test('sends the same request to the new location, and discards the body of the redirect', async () => {
  const inner = fakeLayer(link('/a'), { body: 'layer' });
  const answer = await following(inner).send({ ...READ, headers: { range: 'bytes=1-' } }, {});
  expect(answer.url.href).toBe(`${STORAGE}/a`);
  expect(urls(inner)).toEqual(['/v2/it', `${STORAGE}/a`]);
  expect(inner.requests[1]?.headers).toEqual({ range: 'bytes=1-' });
  expect(inner.discarded).toBe(1);
});

test('refuses an address that the registry must not redirect to, without a request to it', async () => {
  const inner = fakeLayer({ status: 302, headers: { location: 'http://169.254.169.254/latest/' } });
  await expect(following(inner).send(READ, {})).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  expect(inner.requests).toHaveLength(1);
});

test.each([
  ['a redirect without a location', 'GET', {}],
  ['a redirect of a write', 'PUT', { location: '/v2/there' }],
] as const)('passes %s on', async (_, method, headers) => {
  const answer = await following(fakeLayer({ status: 307, headers })).send({ ...READ, method }, {});
  expect(answer.status).toBe(307);
});

test('goes straight to a remembered link, until a minute has passed', async () => {
  const clock = fakeClock();
  const inner = fakeLayer(link('/a'), {}, {}, link('/b'), {});
  const layer = following(inner, clock);
  const request = { ...READ, reuseRedirect: true };
  await layer.send(request, {});
  await clock.sleep(59_999);
  await layer.send(request, {});
  await clock.sleep(1);
  await layer.send(request, {});
  expect(urls(inner)).toEqual(['/v2/it', `${STORAGE}/a`, `${STORAGE}/a`, '/v2/it', `${STORAGE}/b`]);
});

test('does not remember a link for requests that do not allow it', async () => {
  const inner = fakeLayer(link('/a'), {}, link('/b'), {});
  const layer = following(inner);
  await layer.send(READ, {});
  await layer.send(READ, {});
  expect(urls(inner)).toEqual(['/v2/it', `${STORAGE}/a`, '/v2/it', `${STORAGE}/b`]);
});

test.each([400, 401, 403])(
  'drops a remembered link that storage answers with %i, and asks for a new one',
  async (status) => {
    const inner = fakeLayer(link('/a'), {}, { status }, link('/b'), {}, {});
    const layer = following(inner);
    const request = { ...READ, reuseRedirect: true };
    for (let i = 0; i < 3; i++) expect((await layer.send(request, {})).status).toBe(200);
    expect(urls(inner)).toEqual(['/v2/it', `${STORAGE}/a`, `${STORAGE}/a`, '/v2/it', `${STORAGE}/b`, `${STORAGE}/b`]);
  },
);

test('asks for a new link once: the second refusal is the answer', async () => {
  const inner = fakeLayer(link('/a'), { status: 403 }, link('/b'), { status: 403, body: 'no' });
  const answer = await following(inner).send(READ, {});
  expect([answer.status, await answer.text()]).toEqual([403, 'no']);
});

test('leaves refusals of the registry itself to other layers, and statuses that the request accepts', async () => {
  expect((await following(fakeLayer({ status: 401 })).send(READ, {})).status).toBe(401);
  const accepting = { ...READ, accept: [200, 403] };
  expect((await following(fakeLayer(link('/a'), { status: 403 })).send(accepting, {})).status).toBe(403);
});
