import { describe, expect, test } from 'vitest';
import { ChallengeAuthorizer, type ChallengeOptions } from '../../../../worker/registry/auth/challenge-authorizer.ts';
import type { Credentials } from '../../../../worker/registry/credentials.ts';
import type { Authorizer, PlainFetch } from '../../../../worker/registry/transport/authorization.ts';
import { fakeClock, type FakeClock } from '../../../support/clock.ts';

const BASE = 'https://registry.example';
const PULL = ['repository:team/app:pull'];
const BEARER = `Bearer realm="${BASE}/token",service="registry.example"`;

type Answer = { readonly status: number; readonly headers?: Readonly<Record<string, string>>; readonly text?: string };
type Asked = Parameters<PlainFetch>[0];

interface Setting {
  readonly authorizer: Authorizer;
  readonly asked: Asked[];
  readonly clock: FakeClock;
}

/** An authorizer whose requests are answered by `answer`, in turn. */
function authorizing(
  answer: (asked: Asked, n: number) => Answer,
  o: {
    readonly credentials?: Credentials;
    readonly lookup?: ChallengeOptions['credentials'];
    readonly base?: string;
  } = {},
): Setting {
  const asked: Asked[] = [];
  const clock = fakeClock();
  const fetch: PlainFetch = async (request) => {
    asked.push(request);
    const { status, headers = {}, text = '' } = answer(request, asked.length);
    return { status, header: (name) => headers[name], text, url: new URL(BASE) };
  };
  const authorizer = new ChallengeAuthorizer({
    host: 'registry.example',
    baseUrl: () => new URL(o.base ?? BASE),
    fetch,
    credentials: o.lookup ?? (async () => o.credentials),
    clock,
  });
  return { authorizer, asked, clock };
}

const USER = { username: 'ann', password: 'se:cret' };
const BASIC = `Basic ${Buffer.from('ann:se:cret').toString('base64')}`;
const token = (value: string, seconds?: number): Answer => ({
  status: 200,
  text: JSON.stringify({ token: value, ...(seconds === undefined ? {} : { expires_in: seconds }) }),
});

const refusal = (used: string | undefined, challenge = BEARER, status = 401) => ({
  status,
  header: (name: string) => (name === 'www-authenticate' ? challenge : undefined),
  text: '',
  url: new URL(BASE),
  scopes: PULL,
  used,
});

describe('ChallengeAuthorizer', () => {
  test('without credentials sends the first request anonymously, and asks for a token when it is challenged', async () => {
    const { authorizer, asked } = authorizing(() => token('t1'));
    expect(await authorizer.header(PULL, {})).toBeUndefined();
    expect(asked).toEqual([]);
    expect(await authorizer.refused(refusal(undefined), {})).toBe(true);
    expect(await authorizer.header(PULL, {})).toBe('Bearer t1');
    expect(String(asked[0]?.url)).toBe(`${BASE}/token?service=registry.example&scope=repository%3Ateam%2Fapp%3Apull`);
    expect(asked[0]?.headers).toBeUndefined();
  });

  test('with credentials asks for the challenge, then for a token with them', async () => {
    const { authorizer, asked } = authorizing(
      (_, n) => (n === 1 ? { status: 401, headers: { 'www-authenticate': BEARER } } : token('t1')),
      { credentials: USER },
    );
    expect(await authorizer.header(PULL, {})).toBe('Bearer t1');
    expect(asked.map(({ url }) => String(url).split('?')[0])).toEqual(['/v2/', `${BASE}/token`]);
    expect(asked[1]?.headers).toEqual({ authorization: BASIC });
  });

  test('does not sign in where the registry does not ask for it', async () => {
    const { authorizer, asked } = authorizing(() => ({ status: 200 }), { credentials: USER });
    expect(await authorizer.header(PULL, {})).toBeUndefined();
    expect(await authorizer.header(PULL, {})).toBeUndefined();
    expect(asked).toHaveLength(1);
  });

  test('asks a registry again that was unavailable for the previous caller', async () => {
    const { authorizer } = authorizing((_, n) => (n === 1 ? { status: 503 } : { status: 200 }), { credentials: USER });
    await expect(authorizer.header(PULL, {})).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(await authorizer.header(PULL, {})).toBeUndefined();
  });

  test('sends basic credentials on every request when the registry asks for basic', async () => {
    const challenge = 'Basic realm="r"';
    const { authorizer, asked } = authorizing(() => ({ status: 401, headers: { 'www-authenticate': challenge } }), {
      credentials: USER,
    });
    expect(await authorizer.header(PULL, {})).toBe(BASIC);
    expect(await authorizer.header(['registry:catalog:*'], {})).toBe(BASIC);
    expect(asked).toHaveLength(1);
    expect(await authorizer.refused(refusal(BASIC, challenge), {})).toBe(false);
  });

  test('prefers bearer where both are offered', async () => {
    const { authorizer } = authorizing(() => token('t1'));
    await authorizer.refused(refusal(undefined, `Basic realm="r", ${BEARER}`), {});
    expect(await authorizer.header(PULL, {})).toBe('Bearer t1');
  });

  test.each([
    ['names a lifetime', 300, 270],
    ['names none', undefined, 45],
    ['names a short one', 10, 7.5],
  ])('keeps a token for its scope until shortly before it expires, when the service %s', async (_, lifetime, used) => {
    const { authorizer, asked, clock } = authorizing((__, n) => token(`t${n}`, lifetime));
    await authorizer.refused(refusal(undefined), {});
    expect(await authorizer.header(PULL, {})).toBe('Bearer t1');
    await clock.sleep(used * 1000 - 1);
    expect(await authorizer.header(PULL, {})).toBe('Bearer t1');
    await clock.sleep(1);
    expect(await authorizer.header(PULL, {})).toBe('Bearer t2');
    expect(await authorizer.header(['repository:other:pull'], {})).toBe('Bearer t3');
    expect(asked).toHaveLength(3);
  });

  test('accepts access_token for token', async () => {
    const { authorizer } = authorizing(() => ({ status: 200, text: '{"access_token":"a1"}' }));
    await authorizer.refused(refusal(undefined), {});
    expect(await authorizer.header(PULL, {})).toBe('Bearer a1');
  });

  test('fetches one token for all callers that need it at once, also after it was refused to all of them', async () => {
    const { authorizer, asked } = authorizing((_, n) => token(`t${n}`));
    await authorizer.refused(refusal(undefined), {});
    const many = async (): Promise<unknown> =>
      Promise.all(Array.from({ length: 20 }, async () => authorizer.header(PULL, {})));
    expect(new Set((await many()) as string[])).toEqual(new Set(['Bearer t1']));
    const again = await Promise.all(
      Array.from({ length: 20 }, async () => {
        expect(await authorizer.refused(refusal('Bearer t1'), {})).toBe(true);
        return authorizer.header(PULL, {});
      }),
    );
    expect(new Set(again)).toEqual(new Set(['Bearer t2']));
    expect(asked).toHaveLength(2);
  });

  test('keeps a new token after a late refusal of the old one', async () => {
    const { authorizer, asked } = authorizing((_, n) => token(`t${n}`));
    await authorizer.refused(refusal(undefined), {});
    expect(await authorizer.header(PULL, {})).toBe('Bearer t1');
    for (let i = 0; i < 2; i++) {
      expect(await authorizer.refused(refusal('Bearer t1'), {})).toBe(true);
      expect(await authorizer.header(PULL, {})).toBe('Bearer t2');
    }
    expect(asked).toHaveLength(2);
  });

  test('keeps the token for the other callers when one stops waiting', async () => {
    const gate = Promise.withResolvers<void>();
    const clock = fakeClock();
    const authorizer = new ChallengeAuthorizer({
      host: 'registry.example',
      baseUrl: () => new URL(BASE),
      credentials: async () => undefined,
      clock,
      fetch: async () => {
        await gate.promise;
        return { status: 200, header: () => undefined, text: '{"token":"t1"}', url: new URL(BASE) };
      },
    });
    await authorizer.refused(refusal(undefined), {});
    const stop = new AbortController();
    const first = authorizer.header(PULL, { signal: stop.signal });
    const second = authorizer.header(PULL, {});
    stop.abort();
    await expect(first).rejects.toMatchObject({ code: 'ABORTED' });
    gate.resolve();
    expect(await second).toBe('Bearer t1');
  });

  test('exchanges an identity token by a refresh grant', async () => {
    const { authorizer, asked } = authorizing(
      (_, n) => (n === 1 ? { status: 401, headers: { 'www-authenticate': BEARER } } : token('t1')),
      { credentials: { identityToken: 'refresh-me' } },
    );
    expect(await authorizer.header(PULL, {})).toBe('Bearer t1');
    expect(asked[1]).toMatchObject({ method: 'POST' });
    expect(String(asked[1]?.url)).toBe(`${BASE}/token`);
    const form = new URLSearchParams(Buffer.from(asked[1]?.body as Uint8Array).toString());
    expect(Object.fromEntries(form)).toEqual({
      grant_type: 'refresh_token',
      client_id: 'transship',
      service: 'registry.example',
      scope: 'repository:team/app:pull',
      refresh_token: 'refresh-me',
    });
  });

  test('requests the additional scopes of the registry, and not twice what is covered', async () => {
    const { authorizer, asked } = authorizing(() => token('t1'));
    await authorizer.refused(refusal(undefined, `${BEARER},scope="aws repository:team/app:pull"`), {});
    await authorizer.header(PULL, {});
    const url = new URL(String(asked[0]?.url));
    expect(url.searchParams.getAll('scope')).toEqual(['repository:team/app:pull', 'aws']);
  });

  test.each([
    ['wrong credentials', 401, 'UNAUTHENTICATED'],
    ['credentials without permission', 403, 'UNAUTHENTICATED'],
    ['a missing service', 404, 'UNAUTHENTICATED'],
    ['an unavailable service', 503, 'UNAVAILABLE'],
    ['a throttling service', 429, 'THROTTLED'],
  ])('fails for %s', async (_, status, code) => {
    const { authorizer } = authorizing((__, n) => (n === 1 ? { status } : token('t1')));
    await authorizer.refused(refusal(undefined), {});
    await expect(authorizer.header(PULL, {})).rejects.toMatchObject({ code });
    expect(await authorizer.header(PULL, {})).toBe('Bearer t1');
  });

  test.each(['not json', '{}', '{"token":""}', '{"token":"a b"}', '{"token":7}', 'null'])(
    'refuses an answer without a token: %s',
    async (text) => {
      const { authorizer } = authorizing(() => ({ status: 200, text }));
      await authorizer.refused(refusal(undefined), {});
      await expect(authorizer.header(PULL, {})).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    },
  );

  test('never sends credentials in the clear to another host', async () => {
    const elsewhere = 'Bearer realm="http://auth.example/token",service="s"';
    const { authorizer, asked } = authorizing(() => ({ status: 401, headers: { 'www-authenticate': elsewhere } }), {
      credentials: USER,
    });
    await expect(authorizer.header(PULL, {})).rejects.toMatchObject({
      code: 'UNAUTHENTICATED',
      message: expect.stringContaining('http://auth.example, which is not encrypted'),
    });
    expect(asked.map(({ url }) => String(url))).toEqual(['/v2/']);
  });

  test.each([
    ['its own host', 'http://registry.example/token'],
    ['its own host at another port', 'http://registry.example:5000/token'],
    ['this machine', 'http://127.0.0.1:5001/token'],
  ])('never sends the credentials of an https registry in the clear to %s', async (_, realm) => {
    for (const credentials of [USER, { identityToken: 'refresh' }]) {
      const { authorizer, asked } = authorizing(
        () => ({ status: 401, headers: { 'www-authenticate': `Bearer realm="${realm}",service="s"` } }),
        { credentials },
      );
      await expect(authorizer.header(PULL, {})).rejects.toMatchObject({
        code: 'UNAUTHENTICATED',
        message: expect.stringContaining('which is not encrypted; refused: have the registry name an https address'),
      });
      expect(asked.map(({ url }) => String(url))).toEqual(['/v2/']);
    }
  });

  test.each([
    ['https elsewhere', BASE, 'https://auth.example/token'],
    ['the registry itself', 'http://registry.corp:5000', 'http://registry.corp:5000/token'],
    ['this machine', 'http://registry.corp:5000', 'http://127.0.0.1:5001/token'],
    ['a path of the registry', BASE, '/token'],
  ])('sends credentials to %s', async (_, base, realm) => {
    const { authorizer, asked } = authorizing(
      (__, n) => (n === 1 ? { status: 401, headers: { 'www-authenticate': `Bearer realm="${realm}"` } } : token('t')),
      { credentials: USER, base },
    );
    expect(await authorizer.header(PULL, {})).toBe('Bearer t');
    expect(asked[1]?.headers).toEqual({ authorization: BASIC });
  });

  test.each(['', 'realm=""', 'realm="ftp://a/"', 'realm="http://"'])(
    'a challenge without a service: %s',
    async (rest) => {
      const { authorizer } = authorizing(() => token('t'), { base: 'https://registry.example' });
      await authorizer.refused(refusal(undefined, `Bearer ${rest === '' ? 'service="x"' : rest}`), {});
      await expect(authorizer.header(PULL, {})).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    },
  );

  describe('credentials that were refused', () => {
    const NEWER = { username: 'ann', password: 'newer' };
    const NEWER_BASIC = `Basic ${Buffer.from('ann:newer').toString('base64')}`;
    /** The service accepts only the newer credentials, which the lookup finds once the others were refused. */
    const rotating = (challenge: string): Setting & { readonly lookups: unknown[] } => {
      const lookups: unknown[] = [];
      let current: Credentials = USER;
      const setting = authorizing(
        ({ url, headers }) => {
          if (String(url) === '/v2/') return { status: 401, headers: { 'www-authenticate': challenge } };
          return headers?.['authorization'] === NEWER_BASIC ? token('t') : { status: 401 };
        },
        {
          lookup: async (_, { refused }) => {
            lookups.push(refused);
            if (refused !== undefined) current = NEWER;
            return current;
          },
        },
      );
      return { ...setting, lookups };
    };

    test('are looked up again after the answer of the token service, once', async () => {
      const { authorizer, lookups, asked } = rotating(BEARER);
      expect(await authorizer.header(PULL, {})).toBe('Bearer t');
      expect(lookups.filter((refused) => refused !== undefined)).toEqual([USER]);
      expect(asked).toHaveLength(3);
    });

    test('are looked up again for basic, and requests that had the old ones just retry', async () => {
      const basic = 'Basic realm="r"';
      const { authorizer, lookups } = rotating(basic);
      expect(await authorizer.header(PULL, {})).toBe(BASIC);
      expect(await authorizer.refused(refusal(BASIC, basic), {})).toBe(true);
      expect(await authorizer.header(PULL, {})).toBe(NEWER_BASIC);
      expect(await authorizer.refused(refusal(BASIC, basic), {})).toBe(true);
      expect(lookups.filter((refused) => refused !== undefined)).toEqual([USER]);
    });

    test('are wrong when no newer ones exist', async () => {
      const { authorizer, asked } = authorizing(
        (_, n) => (n === 1 ? { status: 401, headers: { 'www-authenticate': BEARER } } : { status: 401 }),
        { credentials: USER },
      );
      await expect(authorizer.header(PULL, {})).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
      expect(asked).toHaveLength(2);
    });
  });

  test('names the schemes that it does not support', async () => {
    const { authorizer } = authorizing(() => token('t'));
    expect(await authorizer.refused(refusal(undefined, 'Negotiate'), {})).toBe(false);
    expect(authorizer.hint('UNAUTHENTICATED', 'read-manifest')).toBe(
      'it asks for negotiate, and only bearer and basic are supported',
    );
  });

  test('does not renew after a 403', async () => {
    const { authorizer } = authorizing(() => token('t'));
    expect(await authorizer.refused(refusal('Bearer t', BEARER, 403), {})).toBe(false);
  });

  test('distinguishes missing credentials from wrong ones', async () => {
    const nobody = authorizing(() => token('t')).authorizer;
    await nobody.header(PULL, {});
    expect(nobody.hint('UNAUTHENTICATED', 'read-manifest')).toContain('transship login registry.example');
    const somebody = authorizing(() => ({ status: 200 }), { credentials: USER }).authorizer;
    await somebody.header(PULL, {});
    expect(somebody.hint('UNAUTHENTICATED', 'read-manifest')).toContain('are wrong, or do not allow this');
  });
});
