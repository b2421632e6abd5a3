import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ServedRepository } from '../../../worker/images/served-images.ts';
import { splitApiPath } from '../../../worker/oci/api-path.ts';
import { compareListed } from '../../../worker/oci/list-order.ts';
import { Authorization, parseTokens } from '../../../worker/serve/authorization.ts';
import { parseHtpasswd } from '../../../worker/serve/htpasswd.ts';
import { pageOf, type ListPage } from '../../../worker/serve/list-page.ts';
import { isLoopback, isLoopbackHost, parseListenAddress } from '../../../worker/serve/listen-address.ts';
import { parsePullRoute } from '../../../worker/serve/pull-route.ts';
import { ServedNames } from '../../../worker/serve/served-names.ts';
import { parseRange } from '../../../worker/util/byte-range.ts';
import { isFailure } from '../../../worker/util/failure.ts';

/** The user `ann` with the password `secret`, as `htpasswd -nbB -C 5` writes it. */
const ANN = 'ann:$2y$05$grYerRSAoAiSd3pxtLctVeFVu5woOwajU.enttfW9Biaxd2QgPHgm';

describe('routes', () => {
  test('are found from the end of a path, whose names may contain any of their words', () => {
    expect(parsePullRoute('GET', '/v2/blobs/manifests/manifests/v1')).toEqual({
      kind: 'manifest',
      repository: 'blobs/manifests',
      reference: 'v1',
    });
    expect(parsePullRoute('HEAD', '/v2/a/tags/list')).toEqual({ kind: 'tags', repository: 'a' });
    expect(parsePullRoute('GET', '/v2/a/blobs/sha256%3Aabc')).toEqual({
      kind: 'blob',
      repository: 'a',
      digest: 'sha256:abc',
    });
    expect(parsePullRoute('GET', '/v2/a/blobs/uploads/1')).toEqual({ kind: 'write' });
    expect(parsePullRoute('PUT', '/v2/a/manifests/v1')).toEqual({ kind: 'write' });
    expect(parsePullRoute('PUT', '/elsewhere')).toEqual({ kind: 'unknown' });
  });

  test('of any path are of one of the kinds', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (a, b) => {
        for (const path of [a, `/v2/${a}/manifests/${b}`, `/v2/${a}/blobs/uploads/${b}`, `/v2/${a}/tags/list`])
          expect(() => splitApiPath(path)).not.toThrow();
      }),
    );
  });
});

describe('pages', () => {
  test('of any size list every item once, in order', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.stringMatching(/^[A-Za-z0-9_.-]{1,5}$/)),
        fc.integer({ min: 1, max: 5 }),
        (tags, n) => {
          const sorted = tags.toSorted(compareListed);
          const seen: string[] = [];
          let query: URLSearchParams | undefined = new URLSearchParams({ n: String(n) });
          while (query !== undefined) {
            const { page, headers }: ListPage<string> = pageOf(sorted, (tag) => tag, { path: '/list', query });
            expect(page.length).toBeLessThanOrEqual(n);
            seen.push(...page);
            const link: string | undefined = headers['link'];
            query =
              link === undefined ? undefined : new URL(link.slice(1, link.indexOf('>')), 'http://host').searchParams;
          }
          expect(seen).toEqual(sorted);
        },
      ),
    );
  });
});

describe('ranges', () => {
  test('lie within the bytes, whatever the header contains', () => {
    const number = fc.oneof(fc.constant(''), fc.nat({ max: 20 }).map(String));
    fc.assert(
      fc.property(number, number, fc.nat({ max: 20 }), (first, last, size) => {
        const range = parseRange(`bytes=${first}-${last}`, size);
        if (range === undefined || range === 'none') return;
        expect(range.from).toBeGreaterThanOrEqual(0);
        expect(range.to).toBeGreaterThan(range.from);
        expect(range.to).toBeLessThanOrEqual(size);
      }),
    );
  });
});

describe('names', () => {
  const named = (...all: readonly (readonly [string | undefined, string])[]): ServedNames =>
    new ServedNames(all.map(([registry, name]) => ({ registry, name }) as ServedRepository));

  test('are those of the registry where there is one, and are also found with its host', () => {
    const names = named(['one.example.com', 'team/app'], ['one.example.com', 'b']);
    expect(names.all).toEqual(['b', 'team/app']);
    for (const name of ['team/app', 'one.example.com/team/app']) expect(names.find(name)?.name).toBe('team/app');
    expect(names.find('team/app', 'one.example.com')?.name).toBe('team/app');
    // a mirror of everything: only the path decides
    expect(names.find('team/app', 'other.example.com')?.name).toBe('team/app');
    expect(names.find('other')).toBeUndefined();
  });

  test('begin with the host where there are several, with `_` for characters that no name may have', () => {
    const names = named(['docker.io', 'library/nginx'], ['localhost:5000', 'app'], ['[::1]:5000', 'app']);
    expect(names.all).toEqual(['1_5000/app', 'docker.io/library/nginx', 'localhost_5000/app']);
    expect(names.find('library/nginx', 'registry-1.docker.io')?.registry).toBe('docker.io');
    expect(names.find('library/nginx')?.registry).toBe('docker.io');
    expect(names.find('app')).toBeUndefined();
    expect(names.find('app', 'localhost:5000')?.registry).toBe('localhost:5000');
  });

  test('are refused when two registries would share them', () => {
    expect(() => named(['a.example:5', 'app'], ['a.example_5', 'app'])).toThrow(/two registries/);
  });
});

describe('access', () => {
  const login = (user: string, password: string): string =>
    `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
  const status = async (authorization: Authorization, header: string | undefined): Promise<unknown> =>
    authorization.check(header, {}).catch((error: { answer: { status: number } }) => error.answer.status);

  test('is granted to a user with a password, or with a token', async () => {
    const users = parseHtpasswd(`# people\n${ANN}\n`, 'users');
    const tokens = parseTokens('0123456789abcdef\nfedcba9876543210\n', 'tokens');
    const authorization = new Authorization({ users, tokens });
    expect(await status(authorization, login('ann', 'secret'))).toBe('ann');
    expect(await status(authorization, login('ann', 'secret'))).toBe('ann');
    expect(await status(authorization, login('ann', 'wrong'))).toBe(401);
    expect(await status(authorization, login('bob', 'secret'))).toBe(401);
    expect(await status(authorization, login('x', 'fedcba9876543210'))).toBe('token');
    expect(await status(authorization, 'Bearer 0123456789abcdef')).toBe('token');
    for (const header of [undefined, 'Bearer 0123456789abcdeF', 'Basic !', 'Digest x', login('', '')])
      expect(await status(authorization, header)).toBe(401);
  });

  test('is refused with 429 where too many logins wait for their check', async () => {
    const authorization = new Authorization({ users: parseHtpasswd(ANN, 'users') });
    const all = Array.from({ length: 40 }, async (_, i) => status(authorization, login('ann', `wrong ${i}`)));
    expect((await Promise.all(all)).filter((one) => one === 429)).toHaveLength(8);
  });

  test.each([
    ['bob:$apr1$abc$defghijklmnopqrstuvwx/', /line 1 does not have a bcrypt hash/],
    ['bob:secret', /line 1 does not have a bcrypt hash/],
    ['bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=', /bcrypt/],
    [`${ANN}\n${ANN}`, /line 2 has a user that a line before it has/],
    [ANN.replace('$05$', '$31$'), /cost of 31/],
    ['nobody', /line 1 is not user:hash/],
    ['# none', /does not have a user/],
  ])('is not read from %j', (text, message) => {
    expect(() => parseHtpasswd(text, 'users')).toThrow(message);
  });

  test('is not read from short tokens, nor from an empty file', () => {
    expect(() => parseTokens('short', 'tokens')).toThrow(/line 1 is not a token of 16/);
    expect(() => parseTokens('\n', 'tokens')).toThrow(/does not have a token/);
  });
});

describe('addresses', () => {
  test('are read with their port, and loopback is recognized', () => {
    expect(parseListenAddress('127.0.0.1:5000')).toEqual({ host: '127.0.0.1', port: 5000 });
    expect(parseListenAddress('[::1]:0')).toEqual({ host: '::1', port: 0 });
    expect(parseListenAddress(':443')).toEqual({ host: '::', port: 443 });
    for (const text of ['5000', 'host', 'host:70000', '[host]:1', 'a b:1', ''])
      expect(() => parseListenAddress(text)).toThrow(/expected HOST:PORT/);
    expect(['127.0.0.1', '127.9.9.9', '::1', 'localhost'].map(isLoopback)).toEqual([true, true, true, true]);
    expect(['0.0.0.0', '::', '127.example.com', '10.0.0.1'].map(isLoopback)).toEqual([false, false, false, false]);
    expect(['localhost:5000', '[::1]:5000', '127.0.0.1'].map(isLoopbackHost)).toEqual([true, true, true]);
    expect(['evil.example:5000', undefined, ''].map(isLoopbackHost)).toEqual([false, false, false]);
  });
});

test('bad files are failures of the caller', () => {
  try {
    parseHtpasswd('', 'users');
  } catch (error) {
    expect(isFailure(error, 'INVALID')).toBe(true);
  }
});
