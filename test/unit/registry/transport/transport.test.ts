import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Bytes } from '../../../../worker/content/content.ts';
import type { Authorizer } from '../../../../worker/registry/transport/authorization.ts';
import type { HttpRequest } from '../../../../worker/registry/transport/layer.ts';
import { Transport } from '../../../../worker/registry/transport/transport.ts';
import { Failure } from '../../../../worker/util/failure.ts';
import { MAX_RETRY_AFTER_MS } from '../../../../worker/util/retry.ts';
import { CHUNK_SIZES, chunked, collect } from '../../../support/chunks.ts';
import { fakeClock, manualClock } from '../../../support/clock.ts';
import type { Clock } from '../../../../worker/util/clock.ts';
import { eventually } from '../../../support/eventually.ts';
import { seededBytes } from '../../../support/images.ts';
import { scriptedServer, type Reply, type Script, type ScriptedServer } from '../../../support/scripted-server.ts';

const NOBODY: Authorizer = {
  header: async () => undefined,
  refused: async () => false,
  hint: () => undefined,
};
const SOMEBODY: Authorizer = { ...NOBODY, header: async () => 'Basic secret' };

const READ: HttpRequest = {
  what: 'read it',
  operation: 'read-blob',
  method: 'GET',
  url: '/v2/it',
  accept: [200, 206],
  scopes: [],
};

function transportTo(
  url: string,
  o: {
    readonly authorizer?: Authorizer;
    readonly clock?: Clock;
    readonly concurrency?: number;
    readonly host?: string;
  } = {},
): Transport {
  const transport = new Transport({
    host: o.host ?? 'registry.example',
    baseUrl: new URL(url),
    authorize: () => o.authorizer ?? NOBODY,
    concurrency: o.concurrency ?? 4,
    userAgent: 'transship/test',
    clock: o.clock ?? fakeClock(),
  });
  onTestFinished(() => transport.close());
  return transport;
}

async function serve(script: Script = {}): Promise<ScriptedServer> {
  const server = await scriptedServer(script);
  onTestFinished(() => server[Symbol.asyncDispose]());
  return server;
}

const ok = (body: string | Uint8Array = 'yes'): Reply => ({ status: 200, body });
const redirect = (location: string, status = 307): Reply => ({ status, headers: { location } });

describe('requests', () => {
  test('are not sent when they waited for their turn and the host has refused others as too many', async () => {
    const refusals = Array.from({ length: 16 }, (): Reply => ({ status: 429, headers: { 'retry-after': '5' } }));
    const server = await serve({ 'GET /v2/it': [...refusals, ...Array.from({ length: 20 }, () => ok())] });
    const clock = manualClock();
    const transport = transportTo(server.url, { clock });
    const all = Array.from({ length: 20 }, async () => transport.send(READ));
    await eventually(() => expect(server.requests.length).toBeGreaterThanOrEqual(16));
    // all twenty wait for the host; a request that is sent nevertheless arrives within a few turns of the event loop
    await eventually(() => expect(clock.sleeping).toBeGreaterThanOrEqual(20));
    for (let turn = 0; turn < 50; turn++) await clock.advance(0);
    expect(server.requests).toHaveLength(16);
    const state = { isDone: false };
    const done = Promise.all(all).finally(() => (state.isDone = true));
    // in steps that are short beside the limit of an answer, which passes on the same clock
    while (!state.isDone) await clock.advance(50);
    await done;
    expect(server.requests).toHaveLength(36);
  });

  test('share connections, HEAD included, and have a User-Agent', async () => {
    const server = await serve({ 'HEAD /v2/it': Array.from({ length: 10 }, () => ok()), 'GET /v2/it': [ok()] });
    const transport = transportTo(server.url);
    for (let i = 0; i < 10; i++) await transport.send({ ...READ, method: 'HEAD' });
    expect((await transport.send(READ)).bytes.toString()).toBe('yes');
    // one is still ending while the next request finds another
    expect(server.connections).toBeLessThanOrEqual(2);
    expect(server.requests[0]?.headers).toMatchObject({ 'user-agent': 'transship/test', host: server.host });
  });

  test('find a registry by its name', async () => {
    const server = await serve({ 'GET /v2/it': [ok()] });
    const url = server.url.replace('127.0.0.1', 'localhost');
    expect((await transportTo(url).send(READ)).url.href).toBe(`${url}/v2/it`);
  });

  test('report a name that does not exist', async () => {
    const clock = fakeClock();
    await expect(transportTo('http://no-such-registry.invalid', { clock }).send(READ)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/^read it: (?:there is no host|the name of) no-such-registry.invalid/),
    });
  });

  test('go below the path of the endpoint', async () => {
    const server = await serve({ 'GET /mirror/v2/it?n=1': [ok()] });
    await transportTo(`${server.url}/mirror/`).send({ ...READ, url: '/v2/it?n=1' });
  });

  test.each(CHUNK_SIZES)('read a whole body in chunks of %i', async (size) => {
    const bytes = seededBytes('body', 3000 + Math.min(size * 5, 300_000));
    const server = createTcpServer((socket) => {
      socket.once('data', () => {
        socket.write(`HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n`);
        for (let at = 0; at < bytes.byteLength; at += size) {
          const part = bytes.subarray(at, at + size);
          socket.write(`${part.byteLength.toString(16)}\r\n`);
          socket.write(part);
          socket.write('\r\n');
        }
        socket.end('0\r\n\r\n');
      });
    });
    const transport = transportTo(await listening(server));
    const { body } = await transport.open(READ);
    expect(Buffer.compare(await collect(body), bytes)).toBe(0);
  });

  test('abort an answer that is longer than its limit', async () => {
    const server = await serve({ 'GET /v2/it': [ok('x'.repeat(101)), ok('x'.repeat(100))] });
    const transport = transportTo(server.url);
    await expect(transport.send(READ, { limit: 100 })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    expect((await transport.send(READ, { limit: 100 })).bytes).toHaveLength(100);
  });
});

describe('retries', () => {
  test.each([408, 429, 500, 502, 503, 504])('%i is retried', async (status) => {
    const server = await serve({ 'GET /v2/it': [{ status }, { status }, ok()] });
    const clock = fakeClock();
    expect((await transportTo(server.url, { clock }).send(READ)).status).toBe(200);
    expect(clock.sleeps).toHaveLength(2);
  });

  test.each([400, 403, 404, 405, 409, 413, 501])('%i is final', async (status) => {
    const server = await serve({ 'GET /v2/it': [{ status }] });
    await expect(transportTo(server.url).send(READ)).rejects.toMatchObject({ context: { status } });
  });

  test('wait for as long as the registry asks, in seconds or until a time', async () => {
    const clock = fakeClock();
    const at = new Date(clock.now() + 30_000).toUTCString();
    const server = await serve({
      'GET /v2/it': [
        { status: 429, headers: { 'retry-after': '7' } },
        { status: 503, headers: { 'retry-after': at } },
        ok(),
      ],
    });
    await transportTo(server.url, { clock }).send(READ);
    expect(clock.sleeps[0]).toBe(7000);
    expect(clock.sleeps[1]).toBe(23_000);
  });

  test('leave a wait that is too long to the caller', async () => {
    const seconds = MAX_RETRY_AFTER_MS / 1000 + 1;
    const server = await serve({ 'GET /v2/it': [{ status: 429, headers: { 'retry-after': String(seconds) } }] });
    await expect(transportTo(server.url).send(READ)).rejects.toMatchObject({
      code: 'THROTTLED',
      context: { retryAfterMs: seconds * 1000 },
    });
  });

  test('follow a connection that breaks before or within the answer', async () => {
    const server = await serve({
      'GET /v2/it': [{ status: 200, drop: true }, { ...ok('0123456789'), cutAfter: 4 }, ok('0123456789')],
    });
    expect((await transportTo(server.url).send(READ)).bytes.toString()).toBe('0123456789');
  });

  test('repeat a request whose refusal breaks off before its reason: a repository to create, or an expired token', async () => {
    const body = JSON.stringify({ errors: [{ code: 'NAME_UNKNOWN', message: 'no repository' }] });
    const server = await serve({
      'GET /v2/it': [
        { status: 404, body, cutAfter: 3 },
        { status: 404, body },
      ],
    });
    await expect(transportTo(server.url).send(READ)).rejects.toMatchObject({
      code: 'NOT_FOUND',
      context: { registryCode: 'NAME_UNKNOWN' },
    });
  });

  test('treat a refusal that always breaks off as UNAVAILABLE', async () => {
    const broken = { status: 403, body: 'not for you', cutAfter: 3 };
    const server = await serve({ 'GET /v2/it': Array.from({ length: 2 }, () => broken) });
    await expect(transportTo(server.url).send({ ...READ, attempts: 2 })).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: 'read it: the registry answered 403, and broke off before it gave the reason',
    });
  });

  test('end after some tries, with the last answer', async () => {
    const server = await serve({ 'GET /v2/it': Array.from({ length: 6 }, () => ({ status: 503, body: 'busy' })) });
    await expect(transportTo(server.url).send(READ)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: 'read it: the registry answered 503: busy',
    });
  });

  test('name a host that refuses the connection', async () => {
    const server = createTcpServer();
    const url = await listening(server);
    server.close();
    await once(server, 'close');
    await expect(transportTo(url).send({ ...READ, attempts: 2 })).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: `read it: ${new URL(url).host} refused the connection`,
    });
  });

  test('end when no answer arrives in time', async () => {
    const server = await serve({ 'GET /v2/it': [{ status: 200, hang: true }] });
    await expect(transportTo(server.url).send({ ...READ, attempts: 1, answerTimeoutMs: 20 })).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: `read it: ${server.host} did not answer in time`,
    });
  });

  test('end for an answer that is not HTTP', async () => {
    const server = createTcpServer((socket) => socket.end('220 mail.example ESMTP\r\n'));
    await expect(transportTo(await listening(server)).send({ ...READ, attempts: 1 })).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    });
  });
});

describe('TLS', () => {
  test('reports an untrusted certificate at once', async () => {
    const pem = readFileSync('test/fixtures/self-signed.pem');
    const server = createServer({ key: pem, cert: pem }, (_, response) => response.end('yes'));
    const url = (await listening(server)).replace('http:', 'https:');
    const clock = fakeClock();
    await expect(transportTo(url, { clock }).send(READ)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('NODE_EXTRA_CA_CERTS'),
    });
    expect(clock.sleeps).toEqual([]);
  });

  test('reports a plain server at an https address', async () => {
    const server = await serve();
    await expect(transportTo(server.url.replace('http:', 'https:')).send(READ)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining(`read it: ${server.host} does not speak TLS as we do (`),
    });
  });
});

describe('redirects', () => {
  test.each([301, 302, 303, 307, 308])('%i is followed without credentials', async (status) => {
    const storage = await serve({ 'GET /layer?signed=1': [ok('layer')] });
    const server = await serve({ 'GET /v2/it': [redirect(`${storage.url}/layer?signed=1`, status)] });
    const transport = transportTo(server.url, { authorizer: SOMEBODY });
    const { body, url } = await transport.open({ ...READ, headers: { range: 'bytes=0-' } });
    expect((await collect(body)).toString()).toBe('layer');
    expect(url.host).toBe(storage.host);
    expect(server.requests[0]?.headers.authorization).toBe('Basic secret');
    expect(storage.requests[0]?.headers).not.toHaveProperty('authorization');
    expect(storage.requests[0]?.headers['range']).toBe('bytes=0-');
  });

  test('within the registry keep the credentials', async () => {
    const server = await serve({ 'GET /v2/it': [redirect('/v2/there')], 'GET /v2/there': [ok()] });
    await transportTo(server.url, { authorizer: SOMEBODY }).send(READ);
    expect(server.requests[1]?.headers.authorization).toBe('Basic secret');
  });

  test('are followed five times, not for ever', async () => {
    const lines = Object.fromEntries(
      Array.from({ length: 6 }, (_, i) => [`GET /v2/it${i === 0 ? '' : i}`, [redirect(`/v2/it${i + 1}`)]]),
    );
    const server = await serve(lines);
    await expect(transportTo(server.url).send(READ)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: 'read it: the registry redirects more than 5 times',
    });
  });

  test.each(['http://169.254.169.254/latest/meta-data/', 'http://[fd00:ec2::254]/', 'ftp://127.0.0.1/', 'http://'])(
    'to %s are refused',
    async (location) => {
      const server = await serve({ 'GET /v2/it': [redirect(location)] });
      await expect(transportTo(server.url).send(READ)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    },
  );

  test('of what writes are not followed', async () => {
    const server = await serve({ 'PUT /v2/it': [redirect('/v2/there')] });
    await expect(
      transportTo(server.url).send({ ...READ, method: 'PUT', body: Buffer.from('x') }),
    ).rejects.toMatchObject({
      context: { status: 307 },
    });
  });

  test('are requested again, once, when they have expired', async () => {
    const storage = await serve({ 'GET /old?s=1': [{ status: 403 }], 'GET /new?s=2': [ok('layer')] });
    const server = await serve({
      'GET /v2/it': [redirect(`${storage.url}/old?s=1`), redirect(`${storage.url}/new?s=2`)],
    });
    expect((await transportTo(server.url).send(READ)).bytes.toString()).toBe('layer');
  });

  test('name the server that refuses permanently, and hide the signature', async () => {
    const denied = { status: 403, body: '<Error><Code>AccessDenied</Code><Message>no</Message></Error>' };
    const storage = await serve({ 'GET /layer?signature=secret': [denied, denied] });
    const link = redirect(`${storage.url}/layer?signature=secret`);
    const server = await serve({ 'GET /v2/it': [link, link] });
    const failure: unknown = await transportTo(server.url, { authorizer: SOMEBODY })
      .send(READ)
      .catch((e: unknown) => e);
    expect(failure).toMatchObject({
      code: 'DENIED',
      message: `read it: ${storage.host}, where the registry sent us, answered 403 AccessDenied: no`,
    });
    expect(JSON.stringify(failure)).not.toContain('secret');
  });

  test('are reused for a short time, when the request allows it', async () => {
    const storage = await serve({ 'GET /layer?s=1': [ok('a'), ok('b')], 'GET /layer?s=2': [ok('c')] });
    const server = await serve({
      'GET /v2/it': [redirect(`${storage.url}/layer?s=1`), redirect(`${storage.url}/layer?s=2`)],
    });
    const clock = fakeClock();
    const transport = transportTo(server.url, { clock });
    const get = async (): Promise<string> => (await transport.send({ ...READ, reuseRedirect: true })).bytes.toString();
    expect([await get(), await get()]).toEqual(['a', 'b']);
    await clock.sleep(60_000);
    expect(await get()).toBe('c');
    expect(server.requests).toHaveLength(2);
  });

  test('are requested again when reused ones have expired', async () => {
    const storage = await serve({ 'GET /a?s=1': [ok('a'), { status: 403 }], 'GET /b?s=2': [ok('b')] });
    const server = await serve({ 'GET /v2/it': [redirect(`${storage.url}/a?s=1`), redirect(`${storage.url}/b?s=2`)] });
    const transport = transportTo(server.url);
    const get = async (): Promise<string> => (await transport.send({ ...READ, reuseRedirect: true })).bytes.toString();
    expect([await get(), await get()]).toEqual(['a', 'b']);
  });

  test('to busy storage are retried from the registry, for a fresh link', async () => {
    const storage = await serve({ 'GET /a?s=1': [{ status: 503 }], 'GET /b?s=2': [ok('b')] });
    const server = await serve({ 'GET /v2/it': [redirect(`${storage.url}/a?s=1`), redirect(`${storage.url}/b?s=2`)] });
    expect((await transportTo(server.url).send(READ)).bytes.toString()).toBe('b');
  });
});

describe('lead', () => {
  const base = 'https://registry.example';
  const from = new URL(`${base}/v2/app/blobs/uploads/`);
  test.each([
    ['/v2/app/blobs/uploads/7?_state=a%20b~c', `${base}/v2/app/blobs/uploads/7?_state=a%20b~c`],
    ['7?x=1', `${base}/v2/app/blobs/uploads/7?x=1`],
    ['https://registry.example/u/7', `${base}/u/7`],
    ['https://storage.example/u/7?sig=%2B', 'https://storage.example/u/7?sig=%2B'],
    // a front that terminates TLS hides that from its registry
    ['http://registry.example/u/7?x=1', `${base}/u/7?x=1`],
  ])('%s is %s', (location, expected) => {
    expect(transportTo(base).lead('upload it', location, from).href).toBe(expected);
  });

  test('to the name of a mapped registry lead to its endpoint', () => {
    const transport = transportTo('http://127.0.0.1:5000');
    expect(transport.lead('upload it', 'https://registry.example/u/7', from).href).toBe('http://127.0.0.1:5000/u/7');
  });

  test.each(['http://127.0.0.1/', 'http://10.0.0.1/', 'http://localhost:9000/', 'http://169.254.170.2/v2/creds'])(
    'from a registry on the internet do not lead to %s',
    (location) => {
      expect(() => transportTo(base).lead('upload it', location, from)).toThrow(
        /^upload it: the registry sent us to .*; refused$/,
      );
    },
  );
});

describe('authorization', () => {
  /** Returns `tokens` in turn, the next one when the previous was refused. */
  const renewing = (...tokens: readonly string[]): Authorizer & { refusals: number } => {
    const authorizer = {
      refusals: 0,
      header: async () => tokens[authorizer.refusals],
      refused: async () => {
        authorizer.refusals++;
        return authorizer.refusals < tokens.length;
      },
      hint: () => 'sign in',
    };
    return authorizer;
  };

  test.each([401, 403])('is renewed after a %i, and the request sent again', async (status) => {
    const server = await serve({ 'GET /v2/it': [{ status }, ok()] });
    await transportTo(server.url, { authorizer: renewing('old', 'new') }).send(READ);
    expect(server.requests.map(({ headers }) => headers.authorization)).toEqual(['old', 'new']);
  });

  test('is renewed once', async () => {
    const server = await serve({ 'GET /v2/it': [{ status: 401 }, { status: 401 }] });
    const authorizer = renewing('a', 'b', 'c');
    await expect(transportTo(server.url, { authorizer }).send(READ)).rejects.toMatchObject({
      code: 'UNAUTHENTICATED',
      message: 'read it: the registry answered 401; sign in',
    });
    expect(authorizer.refusals).toBe(1);
  });

  test('is not renewed when storage refuses', async () => {
    const storage = await serve({ 'GET /layer': [{ status: 401 }, { status: 401 }] });
    const server = await serve({ 'GET /v2/it': [redirect(`${storage.url}/layer`), redirect(`${storage.url}/layer`)] });
    const authorizer = renewing('a', 'b');
    await expect(transportTo(server.url, { authorizer }).send(READ)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    expect(authorizer.refusals).toBe(0);
  });

  test('does not send a streamed body again by itself: the failure is marked as renewed', async () => {
    const server = await serve({ 'PUT /v2/it': [{ status: 401 }] });
    const transport = transportTo(server.url, { authorizer: renewing('old', 'new') });
    const body = { size: 4, open: () => chunked(Buffer.from('body'), 2) };
    await expect(transport.send({ ...READ, method: 'PUT', body })).rejects.toMatchObject({
      code: 'UNAUTHENTICATED',
      context: { renewed: true },
    });
  });
});

describe('streamed bodies', () => {
  const PUT: HttpRequest = { ...READ, what: 'push it', method: 'PUT', accept: [201] };

  test.each(CHUNK_SIZES)('are sent as they arrive, in chunks of %i, with their length', async (size) => {
    const bytes = seededBytes('upload', 3000 + Math.min(size * 5, 300_000));
    const server = await serve({ 'PUT /v2/it': [{ status: 201 }] });
    await transportTo(server.url).send({ ...PUT, body: { size: bytes.byteLength, open: () => chunked(bytes, size) } });
    const [seen] = server.requests;
    expect(seen?.headers).toMatchObject({ 'content-length': String(bytes.byteLength) });
    expect(seen?.headers).not.toHaveProperty('transfer-encoding');
    expect(Buffer.compare(seen?.body ?? Buffer.of(), bytes)).toBe(0);
  });

  test('may be empty', async () => {
    const server = await serve({ 'PUT /v2/it': [{ status: 201 }] });
    await transportTo(server.url).send({ ...PUT, body: { size: 0, open: () => chunked(Buffer.of(), 1) } });
    expect(server.requests[0]?.headers['content-length']).toBe('0');
  });

  test('throw their own failure unchanged, and the registry never receives a whole body', async () => {
    const server = createTcpServer((socket) => socket.resume().on('error', () => undefined));
    const transport = transportTo(await listening(server));
    const broken = new Failure('CORRUPT', 'not what it should be');
    const open = async function* (): Bytes {
      yield Buffer.from('half');
      throw broken;
    };
    await expect(transport.send({ ...PUT, body: { size: 8, open } })).rejects.toBe(broken);
  });

  test.each([
    ['fewer', 9],
    ['more', 7],
  ])('with %s bytes than announced are a failure', async (_, size) => {
    const server = createTcpServer((socket) => socket.resume().on('error', () => undefined));
    const transport = transportTo(await listening(server));
    const body = { size, open: () => chunked(Buffer.from('12345678'), 4) };
    await expect(transport.send({ ...PUT, body })).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });

  test('end with a registry that disconnects, and are not retried here', async () => {
    const server = createTcpServer((socket) => {
      socket.on('error', () => undefined).once('data', () => socket.resetAndDestroy());
    });
    const transport = transportTo(await listening(server));
    let ended = false;
    let opened = 0;
    const open = async function* (): Bytes {
      opened++;
      try {
        for (;;) yield Buffer.alloc(65_536);
      } finally {
        ended = true;
      }
    };
    await expect(transport.send({ ...PUT, body: { size: 2 ** 40, open } })).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    });
    expect({ ended, opened }).toEqual({ ended: true, opened: 1 });
  });

  test('are stopped by an answer before their end', async () => {
    const refused = {
      status: 400,
      early: true,
      body: '{"errors":[{"code":"DIGEST_INVALID"}]}',
      headers: { connection: 'close' },
    } as const;
    const server = await serve({ 'PUT /v2/it': [refused] });
    const open = async function* (): Bytes {
      yield Buffer.from('x');
      await new Promise((resolve) => setImmediate(resolve));
      for (let i = 0; i < 1000; i++) yield Buffer.alloc(100);
    };
    await expect(transportTo(server.url).send({ ...PUT, body: { size: 100_001, open } })).rejects.toMatchObject({
      code: 'CORRUPT',
    });
  });
});

describe('bodies that are read', () => {
  test('hold a place until their end, in bounded number, and small requests pass them', async () => {
    const large = Buffer.alloc(2 * 1024 * 1024, 1);
    const server = await serve({ 'GET /v2/it': Array.from({ length: 18 }, () => ok(large)), 'HEAD /v2/it': [ok()] });
    const transport = transportTo(server.url, { concurrency: 1 });
    const open = await Promise.all(Array.from({ length: 17 }, async () => transport.open(READ)));
    let last: string | undefined;
    const waiting = transport.open(READ).then(({ body }) => {
      last = 'begun';
      return body;
    });
    await transport.send({ ...READ, method: 'HEAD' });
    expect(last).toBeUndefined();
    const [first, ...rest] = open;
    if (first !== undefined) await collect(first.body);
    expect(await collect(await waiting)).toHaveLength(large.byteLength);
    for (const { discard } of rest) discard();
  });

  test('fail with the offset when they break off', async () => {
    const server = await serve({ 'GET /v2/it': [{ ...ok('0123456789'), cutAfter: 4 }] });
    const { body } = await transportTo(server.url).open(READ);
    const got: Buffer[] = [];
    const reading = (async () => {
      for await (const chunk of body) got.push(Buffer.from(chunk));
    })();
    await expect(reading).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(Buffer.concat(got).toString()).toBe('0123');
  });

  test('free their place when they are abandoned', async () => {
    const large = Buffer.alloc(4 * 1024 * 1024, 1);
    const server = await serve({ 'GET /v2/it': Array.from({ length: 40 }, () => ok(large)) });
    const transport = transportTo(server.url, { concurrency: 1 });
    for (let i = 0; i < 40; i++) {
      const { body } = await transport.open(READ);
      for await (const chunk of body) if (chunk.byteLength > 0) break;
    }
    expect(server.requests).toHaveLength(40);
  });

  test('keep the connection when they are abandoned with a small rest', async () => {
    const server = await serve({ 'GET /v2/it': Array.from({ length: 10 }, () => ok(Buffer.alloc(100_000))) });
    const transport = transportTo(server.url);
    for (let i = 0; i < 10; i++) {
      const { body } = await transport.open(READ);
      for await (const chunk of body) if (chunk.byteLength > 0) break;
    }
    expect(server.connections).toBeLessThan(5);
  });

  test('are as slow as their reader: bytes that are not read are not received', async () => {
    let sent = 0;
    const chunk = Buffer.alloc(65_536);
    const server = createTcpServer((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\n');
        const more = (): void => {
          while (socket.write(chunk)) sent += chunk.byteLength;
          sent += chunk.byteLength;
          socket.once('drain', more);
        };
        more();
      });
    });
    const transport = transportTo(await listening(server));
    const { body } = await transport.open(READ);
    let before = -1;
    // until the buffers in between are full
    while (sent !== before) {
      before = sent;
      for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(sent).toBeLessThan(64 * 1024 * 1024);
    for await (const _ of body) break;
  });
});

describe('stopping', () => {
  test('an abort ends a request that waits for its answer', async () => {
    const server = await serve({ 'GET /v2/it': [{ status: 200, hang: true }] });
    const stop = new AbortController();
    const sending = transportTo(server.url).send(READ, { signal: stop.signal });
    while (server.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
    stop.abort();
    await expect(sending).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('an abort ends a body that is being read', async () => {
    const server = await serve({ 'GET /v2/it': [ok(Buffer.alloc(8 * 1024 * 1024))] });
    const stop = new AbortController();
    const { body } = await transportTo(server.url).open(READ, { signal: stop.signal });
    const reading = (async () => {
      for await (const _ of body) stop.abort();
    })();
    await expect(reading).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('an abort ends a body that is being sent', async () => {
    const server = createTcpServer((socket) => socket.on('error', () => undefined).resume());
    const stop = new AbortController();
    const ended = Promise.withResolvers<void>();
    const open = async function* (): Bytes {
      try {
        for (let i = 0; ; i++) {
          if (i === 10) stop.abort();
          yield Buffer.alloc(65_536);
        }
      } finally {
        ended.resolve();
      }
    };
    const transport = transportTo(await listening(server));
    await expect(
      transport.send({ ...READ, method: 'PUT', body: { size: 2 ** 40, open } }, { signal: stop.signal }),
    ).rejects.toMatchObject({ code: 'ABORTED' });
    await ended.promise;
  });

  test('before the start sends nothing', async () => {
    const server = await serve();
    await expect(transportTo(server.url).send(READ, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ABORTED',
    });
  });

  test('by closing interrupts requests in transit', async () => {
    const server = await serve({ 'GET /v2/it': [ok(Buffer.alloc(8 * 1024 * 1024))] });
    const transport = transportTo(server.url);
    const { body } = await transport.open(READ);
    await transport.close();
    await expect(collect(body)).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(transport.send(READ)).rejects.toMatchObject({ code: 'ABORTED' });
  });
});

async function listening(server: ReturnType<typeof createTcpServer>): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
