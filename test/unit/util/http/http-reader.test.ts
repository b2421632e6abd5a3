import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  HttpReader,
  type GetAnswer,
  type HttpReaderOptions,
  type GetRequest,
} from '../../../../worker/util/http/http-reader.ts';
import { collect } from '../../../support/chunks.ts';
import { seededBytes } from '../../../support/images.ts';
import { inHttpChunks, rawHttpServer, writeInPieces, type RawHttpServer } from '../../../support/raw-http.ts';

const SIZES = [1, 7, 511, 16_384, 262_144];
const EXPLAINED = 'explained';

function clientTo(options: Partial<HttpReaderOptions> = {}): HttpReader {
  const client = new HttpReader({ connectTimeoutMs: 60_000, idleTimeoutMs: 1_000_000, maxIdle: 4, ...options });
  onTestFinished(() => client.close());
  return client;
}

function request(server: RawHttpServer, more: Partial<GetRequest> = {}): GetRequest {
  return {
    method: 'GET',
    origin: server.url,
    path: '/it?a=1',
    headers: { 'user-agent': 'transship/test' },
    answerTimeoutMs: 60_000,
    stallTimeoutMs: 60_000,
    explain: (error) => Object.assign(error, { [EXPLAINED]: true }),
    ...more,
  };
}

function get(client: HttpReader, server: RawHttpServer, more?: Partial<GetRequest>): Promise<GetAnswer> {
  return client.get(request(server, more), {});
}

function withLength(body: Uint8Array, length = body.byteLength, more = ''): Buffer {
  return Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n${more}\r\n`), body]);
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** What was read before the body broke, and how it broke. */
async function broken(body: AsyncIterable<Uint8Array>): Promise<{ readonly got: Buffer; readonly error: unknown }> {
  const got: Buffer[] = [];
  try {
    for await (const chunk of body) got.push(Buffer.from(chunk));
  } catch (error) {
    return { got: Buffer.concat(got), error };
  }
  throw new Error('the body did not break');
}

describe('a body', () => {
  const bytes = seededBytes('body', 600_000);
  const few = bytes.subarray(0, 2000);
  const length = withLength(bytes);
  const chunks = Buffer.concat([
    Buffer.from('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'),
    inHttpChunks(bytes, 30_011),
  ]);
  const open = Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\n\r\n'), bytes]);

  test.each(SIZES)(
    'is whole in pieces of %i bytes, by its length, in chunks, and until the connection ends',
    async (size) => {
      const short = (wire: Buffer): Buffer =>
        size < 511 ? wire.subarray(0, wire.byteLength - bytes.byteLength + 2000) : wire;
      const small = size < 511;
      const wires = [
        small ? withLength(few) : length,
        small ? Buffer.concat([chunks.subarray(0, 47), inHttpChunks(few, 300)]) : chunks,
        short(open),
      ];
      const server = await rawHttpServer(async (socket, number) => {
        await writeInPieces(socket, wires[number - 1] ?? Buffer.alloc(0), size);
        if (number === 3) socket.end();
      });
      const client = clientTo();
      for (const _ of wires) {
        const answer = await get(client, server);
        expect((await collect(answer.body)).equals(small ? few : bytes)).toBe(true);
        await answer.ended;
      }
      expect(server.sockets).toHaveLength(1);
    },
  );

  test('is whole wherever its head is cut', async () => {
    const wire = Buffer.concat([
      Buffer.from('HTTP/1.1 103 Early\r\nLink: <a>\r\n\r\n'),
      withLength(Buffer.from('body'), 4, 'A: b\r\n'),
    ]);
    const server = await rawHttpServer(async (socket, number) => {
      for (const part of [wire.subarray(0, number), wire.subarray(number)]) await writeInPieces(socket, part, 1000);
    });
    const client = clientTo();
    for (let at = 1; at < wire.byteLength; at++) {
      const answer = await get(client, server);
      expect(answer.headers.get('a')).toBe('b');
      expect((await collect(answer.body)).toString()).toBe('body');
    }
    expect(server.sockets).toHaveLength(1);
  });

  test.each(SIZES)('breaks after the received bytes when it is too short, in pieces of %i bytes', async (size) => {
    const part = few.subarray(0, 1500);
    const server = await rawHttpServer(async (socket) => {
      await writeInPieces(socket, withLength(part, 2000), size);
      socket.end();
    });
    const { body } = await get(clientTo(), server);
    const { got, error } = await broken(body);
    expect(got.equals(part)).toBe(true);
    expect(error).toMatchObject({ code: 'BROKEN_OFF', [EXPLAINED]: true });
  });

  test('in chunks that ends with the connection breaks', async () => {
    const server = await rawHttpServer((socket) => {
      socket.end(chunks.subarray(0, -5));
    });
    const { got, error } = await broken((await get(clientTo(), server)).body);
    expect(got.equals(bytes)).toBe(true);
    expect(error).toMatchObject({ code: 'BROKEN_OFF' });
  });

  test('breaks when its connection is reset', async () => {
    const server = await rawHttpServer((socket) => {
      socket.write(withLength(few, 4000), () => socket.resetAndDestroy());
    });
    const { body } = await get(clientTo(), server);
    expect((await broken(body)).error).toMatchObject({ [EXPLAINED]: true });
  });

  test.each(SIZES)(
    'ends where it should when it is too long, and its connection is not reused: pieces of %i bytes',
    async (size) => {
      const server = await rawHttpServer((socket) =>
        writeInPieces(socket, Buffer.concat([withLength(few), few]), size),
      );
      const client = clientTo();
      for (let i = 0; i < 2; i++) {
        const answer = await get(client, server);
        expect((await collect(answer.body)).equals(few)).toBe(true);
        await answer.ended;
        while (server.sockets[i]?.closed === false) await turn();
      }
      expect(server.sockets).toHaveLength(2);
    },
  );

  test('of a HEAD is empty', async () => {
    const server = await rawHttpServer((socket) => void socket.write(withLength(Buffer.alloc(0), 4000)));
    const client = clientTo();
    for (let i = 0; i < 3; i++) {
      const answer = await get(client, server, { method: 'HEAD' });
      expect(answer.headers.get('content-length')).toBe('4000');
      expect(await collect(answer.body)).toHaveLength(0);
    }
    expect(server.sockets).toHaveLength(1);
    expect(server.requests[0]?.split('\r\n')[0]).toBe('HEAD /it?a=1 HTTP/1.1');
  });
});

describe('lent chunks', () => {
  const bytes = seededBytes('lent', 8 * 1024 * 1024);

  test('do not change before the next is requested, whatever other bodies receive', async () => {
    const other = Buffer.alloc(bytes.byteLength, 0xdb);
    const server = await rawHttpServer((socket, number) => void socket.write(withLength(number === 1 ? bytes : other)));
    const client = clientTo();
    const held = await get(client, server);
    let at = 0;
    for await (const chunk of held.body) {
      const answer = await get(client, server);
      let left = 4;
      for await (const _ of answer.body) if (--left === 0) break;
      expect(Buffer.from(chunk).equals(bytes.subarray(at, at + chunk.byteLength))).toBe(true);
      at += chunk.byteLength;
    }
    expect(at).toBe(bytes.byteLength);
  });

  test('of a body of any length need few buffers, which are reused', async () => {
    const server = await rawHttpServer((socket) => void socket.write(withLength(bytes)));
    const { body } = await get(clientTo(), server);
    const buffers = new Set<ArrayBufferLike>();
    const kept: Uint8Array[] = [];
    for await (const chunk of body) {
      buffers.add(chunk.buffer);
      kept.push(chunk);
    }
    expect(buffers.size).toBeLessThanOrEqual(4);
    expect(Buffer.concat(kept).equals(bytes)).toBe(false);
  });

  test('stay valid in a body that is abandoned', async () => {
    const server = await rawHttpServer((socket) => void socket.write(withLength(bytes)));
    const client = clientTo();
    const answer = await get(client, server);
    const { value = Buffer.alloc(0) } = await answer.body.next();
    answer.discard();
    await answer.ended;
    await collect((await get(client, server)).body);
    expect(Buffer.from(value).equals(bytes.subarray(0, value.byteLength))).toBe(true);
    expect(await answer.body.next()).toEqual({ done: true, value: undefined });
  });
});

describe('connections', () => {
  const ok = withLength(Buffer.from('yes'));

  test('are reused, as many as there are concurrent requests', async () => {
    const server = await rawHttpServer((socket) => void socket.write(ok));
    const client = clientTo();
    for (let i = 0; i < 5; i++)
      await Promise.all(Array.from({ length: 3 }, async () => collect((await get(client, server)).body)));
    expect(server.sockets).toHaveLength(3);
    expect(server.requests).toHaveLength(15);
  });

  test.each([
    ['the server closes it', 'Connection: close\r\n'],
    ['the server keeps it for a second only', 'Keep-Alive: timeout=1\r\n'],
  ])('are not reused when %s', async (_, header) => {
    const server = await rawHttpServer((socket) => void socket.write(withLength(Buffer.from('yes'), 3, header)));
    const client = clientTo();
    for (let i = 0; i < 3; i++) expect(await collect((await get(client, server)).body)).toHaveLength(3);
    expect(server.sockets).toHaveLength(3);
  });

  test('are not reused after unrequested bytes: they would be the answer to the next request', async () => {
    const server = await rawHttpServer((socket) => void socket.write(ok));
    const client = clientTo();
    const answer = await get(client, server);
    await collect(answer.body);
    await answer.ended;
    server.sockets[0]?.write(withLength(Buffer.from('bad')));
    while (server.sockets[0]?.closed === false) await turn();
    expect((await collect((await get(client, server)).body)).toString()).toBe('yes');
  });

  test('are replaced when they were closed while they were kept', async () => {
    const server = await rawHttpServer((socket) => void socket.write(ok));
    const client = clientTo();
    for (let i = 0; i < 3; i++) {
      await collect((await get(client, server)).body);
      server.sockets[i]?.end();
      while (server.sockets[i]?.closed === false) await turn();
    }
    expect(server.sockets).toHaveLength(3);
  });

  test('are kept up to a number and a time', async () => {
    const server = await rawHttpServer((socket) => void socket.write(ok));
    const client = clientTo({ maxIdle: 1, idleTimeoutMs: 1 });
    await Promise.all(Array.from({ length: 3 }, async () => collect((await get(client, server)).body)));
    while (server.sockets.some((socket) => !socket.closed)) await turn();
    expect(server.sockets).toHaveLength(3);
  });

  test('can be reused after a small rest, which is read and discarded; a large rest closes them', async () => {
    const server = await rawHttpServer((socket, number) => {
      socket.write(withLength(Buffer.alloc(number < 4 ? 200_000 : 4_000_000)));
    });
    const client = clientTo();
    for (let i = 0; i < 4; i++) {
      const answer = await get(client, server);
      for await (const _ of answer.body) break;
      await answer.ended;
    }
    expect(server.sockets).toHaveLength(1);
    while (server.sockets[0]?.closed === false) await turn();
  });
});

describe('TLS', () => {
  const pem = readFileSync('test/fixtures/self-signed.pem');
  const bytes = seededBytes('tls', 3_000_000);

  test.each([1000, 300_000])('reads a whole body, its records gathered: pieces of %i bytes', async (size) => {
    const server = await rawHttpServer((socket) => writeInPieces(socket, withLength(bytes), size), {
      key: pem,
      cert: pem,
    });
    const client = clientTo({ tls: { rejectUnauthorized: false } });
    for (let i = 0; i < 2; i++) {
      const { body } = await get(client, server);
      expect((await collect(body)).equals(bytes)).toBe(true);
    }
    expect(server.sockets).toHaveLength(1);
  });

  test('reuses a connection after a body that ended while its reader was slower than TLS', async () => {
    const sizeOf = (number: number): number => 250_000 + number * 20_011;
    const server = await rawHttpServer(
      (socket, number) => void socket.write(withLength(bytes.subarray(0, sizeOf(number)))),
      { key: pem, cert: pem },
    );
    const client = clientTo({ tls: { rejectUnauthorized: false } });
    for (let number = 1; number <= 30; number++) {
      let received = 0;
      const { body } = await get(client, server);
      for await (const chunk of body) {
        received += chunk.byteLength;
        for (let i = 0; i < 50; i++) await turn();
      }
      expect(received).toBe(sizeOf(number));
    }
    expect(server.sockets).toHaveLength(1);
  });

  test('tries each address of a name with several', async () => {
    const server = await rawHttpServer((socket) => void socket.write(withLength(bytes)), { key: pem, cert: pem });
    const lookup: NonNullable<HttpReaderOptions['lookup']> = (_, __, callback) =>
      callback(null, [
        { address: '::1', family: 6 },
        { address: '127.0.0.1', family: 4 },
      ]);
    const client = clientTo({ tls: { rejectUnauthorized: false }, lookup });
    const origin = new URL(server.url.href.replace('127.0.0.1', 'localhost'));
    expect((await collect((await get(client, server, { origin })).body)).equals(bytes)).toBe(true);
  });

  describe('connections with TLS whose records continue after a pause', () => {
    const content = seededBytes('records', 400_000);
    const sizes = Array.from({ length: 30 }, (_, index) => 244_000 + index * 4000);
    const timeouts = { answerTimeoutMs: 60_000, stallTimeoutMs: 60_000 };
    /** Lets sent bytes arrive before they are read. */
    const arrived = async (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 15));

    test('are reused after a body that ended meanwhile', async () => {
      const server = await rawHttpServer(
        (socket, number) => void socket.write(withLength(content.subarray(0, sizes[number - 1]))),
        { key: pem, cert: pem },
      );
      const client = clientTo({ tls: { rejectUnauthorized: false } });
      for (const size of sizes) {
        const answer = await get(client, server, timeouts);
        await arrived();
        expect((await collect(answer.body)).equals(content.subarray(0, size))).toBe(true);
        await answer.ended;
      }
      expect(server.sockets).toHaveLength(1);
    });

    test('continue after the end of a chunk that arrived meanwhile', async () => {
      const server = await rawHttpServer(
        (socket) => {
          // whole records, and one with only the end of the chunk
          const size = 16 * 16_384;
          socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${size.toString(16)}\r\n`);
          setTimeout(() => socket.write(Buffer.concat([content.subarray(0, size), Buffer.from('\r\n')])), 2);
          setTimeout(() => socket.write(inHttpChunks(content.subarray(size), 30_011)), 8);
        },
        { key: pem, cert: pem },
      );
      const client = clientTo({ tls: { rejectUnauthorized: false } });
      for (const _ of sizes) {
        const answer = await get(client, server, timeouts);
        await arrived();
        expect((await collect(answer.body)).equals(content)).toBe(true);
        await answer.ended;
      }
    });
  });

  test('are ended by an untrusted certificate', async () => {
    const server = await rawHttpServer(() => undefined, { key: pem, cert: pem });
    await expect(get(clientTo(), server)).rejects.toMatchObject({ code: /SELF_SIGNED/, [EXPLAINED]: true });
    expect(server.requests).toEqual([]);
  });
});

describe('faults', () => {
  test.each([
    ['MALFORMED', '220 mail.example ESMTP\r\n\r\n'],
    ['MALFORMED', 'HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n'],
    ['MALFORMED', 'HTTP/1.1 101 Switching Protocols\r\n\r\n'],
    ['MALFORMED', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(20_000)}`],
    ['MALFORMED', 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(20)],
    ['CLOSED', ''],
    ['CLOSED', 'HTTP/1.1 200 OK\r\nContent-Le'],
  ])('an answer is refused with %s: %j', async (code, wire) => {
    const server = await rawHttpServer((socket) => void socket.end(wire));
    await expect(get(clientTo(), server)).rejects.toMatchObject({ code, [EXPLAINED]: true });
    while (server.sockets[0]?.closed === false) await turn();
  });

  test('malformed chunks break the body after the received bytes', async () => {
    const server = await rawHttpServer((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\nno\r\n');
    });
    const { got, error } = await broken((await get(clientTo(), server)).body);
    // the bytes before in the malformed piece cannot be separated from it
    expect(['', 'yes']).toContain(got.toString());
    expect(error).toMatchObject({ code: 'MALFORMED', [EXPLAINED]: true });
  });

  test('a late answer and a body that stalls are timeouts', async () => {
    const server = await rawHttpServer((socket, number) => {
      if (number > 1) socket.write(withLength(Buffer.from('ye'), 3));
    });
    const client = clientTo();
    await expect(get(client, server, { answerTimeoutMs: 20 })).rejects.toMatchObject({ code: 'ANSWER_TIMEOUT' });
    const { body } = await get(client, server, { stallTimeoutMs: 20 });
    expect((await broken(body)).error).toMatchObject({ code: 'STALLED', name: 'TimeoutError' });
    while (server.sockets.some((socket) => !socket.closed)) await turn();
  });

  test('a name that the guard refuses is not connected to', async () => {
    const server = await rawHttpServer(() => undefined);
    const refused = Object.assign(new Error('refused'), { code: 'ADDRESS_REFUSED' });
    const client = clientTo({ lookup: (_, __, callback) => callback(refused, '') });
    const origin = new URL(server.url.href.replace('127.0.0.1', 'localhost'));
    await expect(get(client, server, { origin })).rejects.toMatchObject({ code: 'ADDRESS_REFUSED' });
    expect(server.sockets).toEqual([]);
  });

  test.each([
    { headers: { authorization: 'Bearer a\r\nHost: evil' } },
    { headers: { 'x y': '1' } },
    { headers: { x: 'snow ☃' } },
    { path: '/a b' },
    { path: '/a\r\nX: 1' },
    { path: 'a' },
  ])('a request that would be another one is not sent: %j', async (more) => {
    const server = await rawHttpServer(() => undefined);
    await expect(get(clientTo(), server, more)).rejects.toMatchObject({ code: 'UNSENDABLE' });
    expect(server.sockets).toEqual([]);
  });
});

describe('stopping', () => {
  const bytes = seededBytes('stop', 8 * 1024 * 1024);
  const reason = new Error('stopped by the test');

  async function closed(sockets: readonly Socket[]): Promise<void> {
    while (sockets.some((socket) => !socket.closed)) await turn();
  }

  test('before it begins sends nothing', async () => {
    const server = await rawHttpServer(() => undefined);
    const aborted = clientTo().get(request(server), { signal: AbortSignal.abort(reason) });
    await expect(aborted).rejects.toMatchObject({ code: 'ABORTED' });
    expect(server.sockets).toEqual([]);
  });

  test('while it connects, or at any byte of the head, leaves no connection', async () => {
    const wire = withLength(bytes);
    const server = await rawHttpServer((socket, number) => void socket.write(wire.subarray(0, number - 1)));
    for (let at = 0; at < 12; at++) {
      const stop = new AbortController();
      const getting = clientTo().get(request(server), { signal: stop.signal });
      const expected = expect(getting).rejects.toMatchObject({ code: 'ABORTED', cause: reason });
      if (at > 0) while (server.requests.length < at) await turn();
      stop.abort(reason);
      await expected;
      await closed(server.sockets);
    }
  });

  test('at each chunk of the body ends it at once, and its connection', async () => {
    const server = await rawHttpServer((socket) => void socket.write(withLength(bytes)));
    const client = clientTo();
    for (let at = 1; at < 8; at++) {
      const stop = new AbortController();
      const answer = await client.get(request(server), { signal: stop.signal });
      let left = at;
      const reading = (async () => {
        for await (const _ of answer.body) if (--left === 0) stop.abort(reason);
      })();
      await expect(reading).rejects.toMatchObject({ code: 'ABORTED', cause: reason });
      await answer.ended;
      await closed(server.sockets);
    }
  });

  test('in any step before a kept connection is used again ends it', async () => {
    for (let steps = 0; steps < 8; steps++) {
      const server = await rawHttpServer(
        (socket, number) => void (number === 1 && socket.write(withLength(Buffer.from('yes')))),
      );
      const client = clientTo();
      await collect((await get(client, server)).body);
      const stop = new AbortController();
      const getting = client.get(request(server), { signal: stop.signal });
      const expected = expect(getting).rejects.toMatchObject({ code: 'ABORTED', cause: reason });
      for (let step = 0; step < steps; step++) await Promise.resolve();
      stop.abort(reason);
      await expected;
      await closed(server.sockets);
    }
  });

  test('while the reader waits for the next chunk ends its wait', async () => {
    const server = await rawHttpServer((socket) => void socket.write(withLength(Buffer.from('ye'), 3)));
    const stop = new AbortController();
    const { body } = await clientTo().get(request(server), { signal: stop.signal });
    await body.next();
    const waiting = expect(body.next()).rejects.toMatchObject({ code: 'ABORTED' });
    stop.abort(reason);
    await waiting;
    await closed(server.sockets);
  });

  test('after the whole body arrived changes nothing: received bytes can be read', async () => {
    const few = bytes.subarray(0, 1000);
    const server = await rawHttpServer((socket) => void socket.write(withLength(few)));
    const stop = new AbortController();
    const client = clientTo();
    const answer = await client.get(request(server), { signal: stop.signal });
    await answer.ended;
    stop.abort(reason);
    expect((await collect(answer.body)).equals(few)).toBe(true);
    await collect((await get(client, server)).body);
    expect(server.sockets).toHaveLength(1);
  });

  test('of the client ends current requests and kept connections', async () => {
    const server = await rawHttpServer(
      (socket, number) => void socket.write(withLength(number === 1 ? Buffer.from('a') : bytes)),
    );
    const client = clientTo();
    const [, answer] = [await collect((await get(client, server)).body), await get(client, server)];
    client.close();
    await expect(collect(answer.body)).rejects.toMatchObject({ code: 'DESTROYED', [EXPLAINED]: true });
    await expect(get(client, server)).rejects.toMatchObject({ code: 'DESTROYED' });
    await closed(server.sockets);
  });
});
