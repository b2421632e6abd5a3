import { expect, test } from 'vitest';
import { parseChallenges } from '../../../../worker/registry/auth/challenges.ts';
import { fetchToken, type Token } from '../../../../worker/registry/auth/token-service.ts';
import type { Credentials } from '../../../../worker/registry/credentials.ts';
import type { PlainFetch } from '../../../../worker/registry/transport/authorization.ts';
import { fakeClock } from '../../../support/clock.ts';

const BASE = new URL('https://registry.example');
const [CHALLENGE] = parseChallenges('Bearer realm="https://auth.example/token",service="registry.example"');
const OLD = { username: 'ann', password: 'old' };
const NEW = { username: 'ann', password: 'new' };

/** Fetches a token from a service that answers with `answers` in turn. */
async function fetched(
  answers: readonly { readonly status: number; readonly text?: string }[],
  credentials: Credentials | undefined,
  newer?: Credentials,
): Promise<{ readonly token: Token; readonly used: readonly (string | undefined)[] }> {
  const used: (string | undefined)[] = [];
  const fetch: PlainFetch = async ({ headers }) => {
    const { status, text = '' } = answers[used.length] ?? { status: 599 };
    used.push(headers?.['authorization']);
    return { status, text, header: () => undefined, url: new URL('https://auth.example/token') };
  };
  const token = await fetchToken(
    { challenge: CHALLENGE, scopes: ['repository:app:pull'], credentials, newerThan: async () => newer },
    { host: 'registry.example', baseUrl: BASE, fetch, clock: fakeClock(), hint: () => 'sign in' },
  );
  return { token, used };
}

const basic = ({ username, password }: typeof OLD): string =>
  `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;

test('tries newer credentials once, where the service refuses the first ones', async () => {
  const { token, used } = await fetched([{ status: 401 }, { status: 200, text: '{"token":"t"}' }], OLD, NEW);
  expect(token.header).toBe('Bearer t');
  expect(used).toEqual([basic(OLD), basic(NEW)]);
});

test('fails when the newer credentials are refused too, with the host and advice', async () => {
  await expect(fetched([{ status: 401 }, { status: 401 }], OLD, NEW)).rejects.toMatchObject({
    code: 'UNAUTHENTICATED',
    message: 'get a token for registry.example: auth.example, where the registry sent us, answered 401; sign in',
  });
});

test.each([
  ['{"token":"","access_token":"abc","expires_in":300}', 'abc'],
  ['{"token":null,"access_token":"abc"}', 'abc'],
  ['{"token":"abc","access_token":""}', 'abc'],
  ['{"token":"abc","access_token":"def"}', 'abc'],
])('uses the member of %s that has a token', async (text, expected) => {
  expect((await fetched([{ status: 200, text }], OLD)).token.header).toBe(`Bearer ${expected}`);
});

test.each(['{"token":"","access_token":""}', '{}', '{"token":"a b"}'])('%s has no token', async (text) => {
  await expect(fetched([{ status: 200, text }], OLD)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});

test('asks a service at an http address without credentials, and never with them', async () => {
  const [challenge] = parseChallenges('Bearer realm="http://auth.example/token"');
  const asked: (string | undefined)[] = [];
  const fetch: PlainFetch = async ({ url, headers }) => {
    asked.push(headers?.['authorization']);
    return { status: 200, text: '{"token":"t"}', header: () => undefined, url: new URL(url, BASE) };
  };
  const ask = async (credentials: Credentials | undefined): Promise<Token> =>
    fetchToken(
      { challenge, scopes: [], credentials, newerThan: async () => undefined },
      { host: 'registry.example', baseUrl: BASE, fetch, clock: fakeClock(), hint: () => 'sign in' },
    );
  expect((await ask(undefined)).header).toBe('Bearer t');
  await expect(ask(OLD)).rejects.toMatchObject({
    code: 'UNAUTHENTICATED',
    message: expect.stringContaining('refused'),
  });
  expect(asked).toEqual([undefined]);
});

test('asks once without newer credentials, or without any', async () => {
  await expect(fetched([{ status: 401 }], OLD)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
  await expect(fetched([{ status: 401 }], undefined, NEW)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
});
