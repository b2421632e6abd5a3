import { describe, expect, test } from 'vitest';
import {
  Authorization,
  plainFetch,
  type Authorizer,
  type AuthRefusal,
} from '../../../../worker/registry/transport/authorization.ts';
import type { Layer, WireRequest } from '../../../../worker/registry/transport/layer.ts';
import { Origin } from '../../../../worker/registry/transport/origin.ts';
import { chunked } from '../../../support/chunks.ts';
import { BASE, fakeLayer, READ } from '../../../support/fake-layer.ts';

const ORIGIN = new Origin('registry.example', new URL(BASE));

/** Returns `tokens` in turn, the next one when the previous was refused. */
function renewing(...tokens: readonly string[]): Authorizer & { readonly refusals: AuthRefusal[] } {
  const refusals: AuthRefusal[] = [];
  return {
    refusals,
    header: async () => tokens[refusals.length],
    refused: async (refusal) => {
      refusals.push(refusal);
      return refusals.length < tokens.length;
    },
    hint: () => undefined,
  };
}

describe('Authorization', () => {
  test.each([401, 403])('renews the credentials after a %i, and sends the request again', async (status) => {
    const inner = fakeLayer({ status, headers: { 'www-authenticate': 'Bearer' }, body: 'expired' }, {});
    const authorizer = renewing('old', 'new');
    expect((await new Authorization(inner, authorizer, ORIGIN).send(READ, {})).status).toBe(200);
    expect(inner.requests.map(({ authorization }) => authorization)).toEqual(['old', 'new']);
    const [refusal] = authorizer.refusals;
    expect(refusal).toMatchObject({ status, used: 'old', text: 'expired', scopes: READ.scopes });
    expect(refusal?.header('www-authenticate')).toBe('Bearer');
  });

  test('renews them once: the second refusal is the answer, with its body', async () => {
    const inner = fakeLayer({ status: 401 }, { status: 401, body: 'still not' });
    const authorizer = renewing('a', 'b', 'c');
    const answer = await new Authorization(inner, authorizer, ORIGIN).send(READ, {});
    expect([answer.status, await answer.text()]).toEqual([401, 'still not']);
    expect(authorizer.refusals).toHaveLength(1);
  });

  test('renews a token that expires again before it is used', async () => {
    const expired = { status: 401, headers: { 'www-authenticate': 'Bearer realm="r",error="invalid_token"' } };
    const authorizer = renewing('a', 'b', 'c', 'd', 'e');
    const inner = fakeLayer(expired, expired, {});
    expect((await new Authorization(inner, authorizer, ORIGIN).send(READ, {})).status).toBe(200);
    const refusing = fakeLayer(expired, expired, expired, expired);
    const other = renewing('a', 'b', 'c', 'd', 'e');
    expect((await new Authorization(refusing, other, ORIGIN).send(READ, {})).status).toBe(401);
    expect(refusing.requests.map(({ authorization }) => authorization)).toEqual(['a', 'b', 'c', 'd']);
  });

  test('passes a refusal on when nothing newer exists, with its body', async () => {
    const answer = await new Authorization(fakeLayer({ status: 401, body: 'no' }), renewing('a'), ORIGIN).send(
      READ,
      {},
    );
    expect([answer.status, await answer.text(), answer.renewed]).toEqual([401, 'no', undefined]);
  });

  test('marks the refusal of a streamed body as renewed, and does not send it again', async () => {
    const inner = fakeLayer({ status: 401, body: 'expired' });
    const body = { size: 4, open: () => chunked(Buffer.from('body'), 2) };
    const answer = await new Authorization(inner, renewing('a', 'b'), ORIGIN).send(
      { ...READ, method: 'PUT', body },
      {},
    );
    expect([answer.status, await answer.text(), answer.renewed]).toEqual([401, 'expired', true]);
  });

  test('does not ask for newer ones when storage refuses, nor for a status that the request accepts', async () => {
    const authorizer = renewing('a', 'b');
    const storage = fakeLayer({ status: 403, url: 'https://storage.example/layer' });
    expect((await new Authorization(storage, authorizer, ORIGIN).send(READ, {})).status).toBe(403);
    const accepting = { ...READ, accept: [401] };
    expect((await new Authorization(fakeLayer({ status: 401 }), authorizer, ORIGIN).send(accepting, {})).status).toBe(
      401,
    );
    expect(authorizer.refusals).toEqual([]);
  });

  test('learns from a refusal that breaks off before its reason', async () => {
    const authorizer = renewing('old', 'new');
    const inner = fakeLayer({ status: 401, breaks: true }, {});
    expect((await new Authorization(inner, authorizer, ORIGIN).send(READ, {})).status).toBe(200);
    expect(authorizer.refusals[0]?.text).toBe('');
  });

  test('sends nothing once the signal is aborted', async () => {
    const sending = new Authorization(fakeLayer(), renewing('a'), ORIGIN).send(READ, { signal: AbortSignal.abort() });
    await expect(sending).rejects.toMatchObject({ code: 'ABORTED' });
  });
});

describe('plainFetch', () => {
  const wireOf = (requests: WireRequest[]): Layer<WireRequest> => ({
    send: async (request, options) => {
      requests.push(request);
      return fakeLayer({ status: 404, body: 'nothing' }).send({ ...READ, ...request }, options);
    },
  });

  test('answers with any status and the body as a string', async () => {
    const requests: WireRequest[] = [];
    const fetch = plainFetch(wireOf(requests), ORIGIN);
    const answer = await fetch({ what: 'ask', method: 'GET', url: '/v2/' }, {});
    expect([answer.status, answer.text, String(requests[0]?.url)]).toEqual([404, 'nothing', '/v2/']);
    expect(requests[0]?.authorization).toBeUndefined();
  });

  test('refuses an address that the registry must not redirect to', async () => {
    const requests: WireRequest[] = [];
    const url = new URL('http://169.254.169.254/token');
    await expect(
      plainFetch(wireOf(requests), ORIGIN)({ what: 'get a token', method: 'GET', url }, {}),
    ).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    expect(requests).toEqual([]);
  });
});
