import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'vitest';
import { startRegistry, type LocalRegistry, type OciServerOptions } from '../../registry/registry.ts';
import { fakeClock, type FakeClock } from '../../../test/support/clock.ts';
import { errorOf, RawRegistry, type RawAnswer } from '../../../test/support/raw-registry.ts';

let folder: string;
let clock: FakeClock;
let registry: LocalRegistry;
let raw: RawRegistry;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'registry-'));
  clock = fakeClock();
});

afterEach(async () => {
  await registry.close();
  await rm(folder, { recursive: true });
});

test('basic: accepts the right password, and challenges anything else', async () => {
  await start({ auth: 'basic' });
  for (const authorization of [undefined, basic('ann', 'wrong'), basic('bob', 'secret'), 'Bearer x', 'Basic !']) {
    const answer = await get('/v2/', authorization);
    assert.deepEqual(errorOf(answer), [401, 'UNAUTHORIZED']);
    assert.match(String(answer.headers['www-authenticate']), /^Basic realm="/);
  }
  assert.equal((await get('/v2/', basic('ann', 'secret'))).status, 200);
});

test('bearer: the challenge names the realm, the service and the scope of a token', async () => {
  await start({ auth: 'bearer' });
  const challenge = async (method: 'GET' | 'POST', path: string): Promise<string> => {
    const answer = await raw.call(method, path);
    assert.deepEqual(errorOf(answer), [401, 'UNAUTHORIZED']);
    return String(answer.headers['www-authenticate']);
  };
  const prefix = `Bearer realm="${registry.url}/token",service="transship-local"`;
  assert.equal(await challenge('GET', '/v2/'), prefix);
  assert.equal(await challenge('GET', '/v2/a/b/manifests/v1'), `${prefix},scope="repository:a/b:pull"`);
  assert.equal(await challenge('POST', '/v2/a/blobs/uploads/'), `${prefix},scope="repository:a:pull,push"`);
  const mount = `/v2/a/blobs/uploads/?mount=sha256:${'0'.repeat(64)}&from=b`;
  assert.equal(await challenge('POST', mount), `${prefix},scope="repository:a:pull,push repository:b:pull"`);
  assert.equal(await challenge('GET', '/v2/_catalog'), `${prefix},scope="registry:catalog:*"`);
});

test('bearer: a token allows what it was requested for, and nothing else', async () => {
  await start({ auth: 'bearer' });
  const pull = await tokenFor('repository:a:pull');
  assert.equal((await get('/v2/', pull)).status, 200);
  assert.equal((await get('/v2/a/tags/list', pull)).status, 404);
  const elsewhere = await get('/v2/b/tags/list', pull);
  assert.equal(elsewhere.status, 401);
  assert.match(String(elsewhere.headers['www-authenticate']), /scope="repository:b:pull",error="insufficient_scope"$/);
  assert.equal((await post('/v2/a/blobs/uploads/', pull)).status, 401);
  const push = await tokenFor('repository:a:pull,push', 'repository:b:pull');
  assert.equal((await post('/v2/a/blobs/uploads/', push)).status, 202);
  assert.equal((await get('/v2/a/tags/list', push)).status, 200);
  assert.equal((await get('/v2/b/tags/list', push)).status, 404);
});

test('bearer: a token expires after its lifetime, or when all tokens are made to expire', async () => {
  await start({ auth: 'bearer', tokenLifetimeSeconds: 60 });
  const token = await tokenFor();
  await clock.sleep(59_999);
  assert.equal((await get('/v2/', token)).status, 200);
  await clock.sleep(1);
  const late = await get('/v2/', token);
  assert.equal(late.status, 401);
  assert.match(String(late.headers['www-authenticate']), /error="invalid_token"$/);
  const another = await tokenFor();
  assert.equal((await get('/v2/', another)).status, 200);
  registry.expireTokens();
  assert.equal((await get('/v2/', another)).status, 401);
});

test('bearer: a token that was changed is refused', async () => {
  await start({ auth: 'bearer' });
  const token = await tokenFor('repository:a:pull');
  const [payload = '', signature = ''] = token.replace('Bearer ', '').split('.');
  const claims = Buffer.from(payload, 'base64url').toString().replace('repository:a', 'repository:b');
  const forged = `Bearer ${Buffer.from(claims).toString('base64url')}.${signature}`;
  assert.equal((await get('/v2/', forged)).status, 401);
  assert.equal((await get('/v2/', 'Bearer ')).status, 401);
});

test('bearer: tokens are refused without credentials, except for pulls where anonymous pulls are allowed', async () => {
  await start({ auth: 'bearer' });
  const scope = 'service=transship-local&scope=repository:a:pull,push';
  assert.equal((await get(`/token?${scope}`)).status, 401);
  assert.equal((await get(`/token?${scope}`, basic('ann', 'wrong'))).status, 401);
  assert.equal((await get('/token?service=elsewhere', basic('ann', 'secret'))).status, 400);
  await registry.close();
  await start({ auth: 'bearer', anonymousPull: true });
  assert.equal((await get(`/token?${scope}`, basic('ann', 'wrong'))).status, 401);
  const { token } = JSON.parse((await get(`/token?${scope}`)).body.toString()) as { token: string };
  assert.equal((await get('/v2/a/tags/list', `Bearer ${token}`)).status, 404);
  assert.equal((await post('/v2/a/blobs/uploads/', `Bearer ${token}`)).status, 401);
});

test('bearer: a refresh token gets new tokens, outlives them, and grants nothing itself', async () => {
  await start({ auth: 'bearer', tokenLifetimeSeconds: 60 });
  const granted = await form({ grant_type: 'password', username: 'ann', password: 'secret', access_type: 'offline' });
  assert.equal(granted.status, 200);
  const { refresh_token } = JSON.parse(granted.body.toString()) as { refresh_token: string };
  registry.expireTokens();
  await clock.sleep(3600_000);
  const again = await form({ grant_type: 'refresh_token', refresh_token, scope: 'repository:a:pull' });
  const { access_token, expires_in } = JSON.parse(again.body.toString()) as {
    access_token: string;
    expires_in: number;
  };
  assert.equal(expires_in, 60);
  assert.equal((await get('/v2/a/tags/list', `Bearer ${access_token}`)).status, 404);
  assert.equal((await get('/v2/', `Bearer ${refresh_token}`)).status, 401);
  assert.equal((await form({ grant_type: 'refresh_token', refresh_token: access_token })).status, 401);
  assert.equal((await form({ grant_type: 'password', username: 'ann', password: 'wrong' })).status, 401);
  assert.equal((await form({ grant_type: 'guess' })).status, 400);
});

async function start(options: Omit<OciServerOptions, 'folder' | 'mode' | 'clock' | 'users'>): Promise<void> {
  registry = await startRegistry({ folder, mode: 'oci', clock, users: { ann: 'secret' }, ...options });
  raw = new RawRegistry(registry.url);
}

async function get(path: string, authorization?: string): Promise<RawAnswer> {
  return raw.call('GET', path, authorization === undefined ? {} : { headers: { authorization } });
}

async function post(path: string, authorization: string): Promise<RawAnswer> {
  return raw.call('POST', path, { headers: { authorization } });
}

/** The header of a token that ann got for these scopes. */
async function tokenFor(...scopes: readonly string[]): Promise<string> {
  const query = ['service=transship-local', ...scopes.map((scope) => `scope=${scope}`)].join('&');
  const answer = await get(`/token?${query}`, basic('ann', 'secret'));
  assert.equal(answer.status, 200);
  const { token } = JSON.parse(answer.body.toString()) as { token: string };
  return `Bearer ${token}`;
}

async function form(fields: Readonly<Record<string, string>>): Promise<RawAnswer> {
  const body = Buffer.from(new URLSearchParams({ service: 'transship-local', ...fields }).toString());
  return raw.call('POST', '/token', { body, headers: { 'content-type': 'application/x-www-form-urlencoded' } });
}

function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
}
