import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { connect } from 'node:net';
import { expect, test } from 'vitest';
import { digestOf } from '../../../worker/oci/digest.ts';
import type { ServedImages } from '../../../worker/images/served-images.ts';
import { parseHtpasswd } from '../../../worker/serve/htpasswd.ts';
import { serveImages } from '../../../worker/serve/server.ts';
import { systemClock } from '../../../worker/util/clock.ts';
import { isFailure } from '../../../worker/util/failure.ts';
import { serveForTest } from '../../support/served.ts';

/** As `htpasswd -nbB -C 5 ann secret` writes it. */
const ANN = 'ann:$2y$05$grYerRSAoAiSd3pxtLctVeFVu5woOwajU.enttfW9Biaxd2QgPHgm';
const PIECE = new Uint8Array(256 * 1024);
/** More than all buffers of a connection hold. */
const PIECES = 64;
const BLOB = {
  mediaType: 'x',
  digest: digestOf(Buffer.concat(Array.from({ length: PIECES }, () => PIECE))),
  size: PIECES * PIECE.byteLength,
};

/** A repository `app` with one large blob, whose pieces arrive as `piece` lets them; `read` counts them. */
function largeBlob(piece: (index: number) => Promise<void> = async () => undefined): ServedImages & { read: number } {
  const images = {
    read: 0,
    description: 'memory',
    repositories: [
      {
        registry: undefined,
        name: 'app',
        tags: async () => ['v1'],
        manifest: async () => BLOB,
        blob: async () => BLOB,
        referrers: async () => [],
        open: async () =>
          (async function* () {
            for (let index = 0; index < PIECES; index++) {
              await piece(index);
              images.read++;
              yield PIECE;
            }
          })(),
      },
    ],
    [Symbol.asyncDispose]: async () => undefined,
  };
  return images;
}

const PATH = `/v2/app/blobs/${BLOB.digest}`;

test('asks for a login, with a challenge that clients understand, and logs no password', async () => {
  const { get, events } = await serveForTest(largeBlob(), { readers: { users: parseHtpasswd(ANN, 'users') } });
  const refused = await get('/v2/');
  expect([refused.status, refused.headers.get('www-authenticate')]).toEqual([
    401,
    'Basic realm="transship serve", charset="UTF-8"',
  ]);
  expect(await refused.json()).toMatchObject({ errors: [{ code: 'UNAUTHORIZED' }] });
  const authorization = `Basic ${Buffer.from('ann:secret').toString('base64')}`;
  expect((await get('/v2/?token=secret', { authorization })).status).toBe(200);
  expect(events).toMatchObject([{ status: 401 }, { status: 200, user: 'ann', path: '/v2/' }]);
  expect(JSON.stringify(events)).not.toContain('secret');
});

test('without a login answers on loopback only, under the names of loopback', async () => {
  const { host } = await serveForTest(largeBlob());
  const [hostname = '', port = ''] = host.split(':');
  const socket = connect(Number(port), hostname);
  socket.write('GET /v2/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n');
  const [head] = (await once(socket, 'data')) as [Buffer];
  expect(head.toString()).toMatch(/^HTTP\/1\.1 403 /);
  socket.destroy();
});

test('reads a blob no faster than its client accepts it', async () => {
  const images = largeBlob();
  const { host, events } = await serveForTest(images);
  const [hostname = '', port = ''] = host.split(':');
  const socket = connect(Number(port), hostname);
  socket.write(`GET ${PATH} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  await once(socket, 'readable');
  // everything that can continue without the client is done when nothing was read for several turns
  for (let before = -1; before !== images.read;) {
    before = images.read;
    for (let turn = 0; turn < 200; turn++) await new Promise(setImmediate);
  }
  expect(images.read).toBeLessThan(PIECES);
  let bytes = 0;
  for await (const chunk of socket as AsyncIterable<Buffer>) bytes += chunk.byteLength;
  expect(bytes).toBeGreaterThan(BLOB.size);
  expect(images.read).toBe(PIECES);
  expect(events).toMatchObject([{ status: 200, bytes: BLOB.size }]);
});

test('gives a blob of a plain archive at once while many clients wait for those of compressed archives', async () => {
  const waiting = Promise.withResolvers<void>();
  const [packed] = largeBlob(async () => waiting.promise).repositories;
  const [plain] = largeBlob().repositories;
  assert(packed !== undefined && plain !== undefined);
  const { get } = await serveForTest({
    description: 'memory',
    repositories: [{ ...packed, name: 'packed', isPacked: () => true }, plain],
    [Symbol.asyncDispose]: async () => undefined,
  });
  const others = Array.from({ length: 60 }, async () => (await get(`/v2/packed/blobs/${BLOB.digest}`)).body?.cancel());
  const blob = await (await get(PATH)).arrayBuffer();
  expect(blob.byteLength).toBe(BLOB.size);
  waiting.resolve();
  await Promise.all(others);
});

test('breaks the connection of a client that reads nothing', async () => {
  let late: (() => void) | undefined;
  const images = largeBlob();
  const clock = {
    ...systemClock,
    sleep: async (_: number, options: { readonly signal?: AbortSignal | undefined } = {}) => {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      options.signal?.addEventListener('abort', () => reject(new Error('stopped')), { once: true });
      late = resolve;
      return promise;
    },
  };
  const { host, events, stop } = await serveForTest(images, { clock });
  const [hostname = '', port = ''] = host.split(':');
  const socket = connect(Number(port), hostname);
  socket.write(`GET ${PATH} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  await once(socket, 'readable');
  while (events.length === 0) {
    late?.();
    await new Promise(setImmediate);
  }
  expect(events).toMatchObject([{ status: 200, message: 'the client took no bytes for 60 seconds' }]);
  expect(images.read).toBeLessThan(PIECES);
  socket.destroy();
  const stopped = stop();
  late?.();
  await stopped;
});

test('ends its requests when it is stopped, and accepts no more', async () => {
  const begun = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  const images = largeBlob(async (index) => {
    if (index === 2) {
      begun.resolve();
      await go.promise;
    }
  });
  const { get, stop, host } = await serveForTest(images);
  const answering = get(PATH);
  await begun.promise;
  const stopped = stop();
  const [hostname = '', port = ''] = host.split(':');
  await expect(once(connect(Number(port), hostname), 'connect')).rejects.toThrow('ECONNREFUSED');
  go.resolve();
  expect((await (await answering).arrayBuffer()).byteLength).toBe(BLOB.size);
  await stopped;
});

test('stops reading a blob whose client disconnected', async () => {
  const reached = Promise.withResolvers<void>();
  const images = largeBlob(async (index) => {
    if (index === 3) reached.resolve();
  });
  const { host, stop, events } = await serveForTest(images);
  const [hostname = '', port = ''] = host.split(':');
  const socket = connect(Number(port), hostname);
  socket.write(`GET ${PATH} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  await reached.promise;
  socket.destroy();
  await stop();
  expect(images.read).toBeLessThan(PIECES);
  expect(events).toMatchObject([{ message: 'the client went away' }]);
});

test('closes connections above the limit', async () => {
  const { host } = await serveForTest(largeBlob(), { maxConnections: 1 });
  const [hostname = '', port = ''] = host.split(':');
  const first = connect(Number(port), hostname);
  await once(first, 'connect');
  const second = connect(Number(port), hostname);
  await once(second, 'close');
  first.destroy();
});

test('speaks TLS with the given certificate', async () => {
  const pem = readFileSync('test/fixtures/self-signed.pem');
  const { url } = await serveForTest(largeBlob(), { tls: { cert: pem, key: pem } });
  const asked = request(`${url}/v2/`, { rejectUnauthorized: false, agent: false }).end();
  const [answer] = (await once(asked, 'response')) as [{ readonly statusCode: number; resume(): void }];
  answer.resume();
  expect(answer.statusCode).toBe(200);
});

test('refuses an address that is taken, and an invalid certificate, in a sentence', async () => {
  const { host } = await serveForTest(largeBlob());
  const options = { clock: systemClock, report: () => undefined, signal: new AbortController().signal };
  const listen = { host: '127.0.0.1', port: Number(host.split(':')[1]) };
  const refusal = async (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => 'served',
      (error: unknown) => (isFailure(error, 'INVALID') ? error.message : 'another failure'),
    );
  expect(await refusal(serveImages(largeBlob(), { ...options, listen }))).toMatch(/another program listens there/);
  const tls = { cert: Buffer.from('no'), key: Buffer.from('no') };
  expect(await refusal(serveImages(largeBlob(), { ...options, listen, tls }))).toMatch(/cannot be used/);
});
