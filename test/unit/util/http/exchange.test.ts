import { expect, test } from 'vitest';
import { GetExchange, type ExchangeConnection } from '../../../../worker/util/http/exchange.ts';

const STALL_MS = 30;
const ANSWER_MS = 60;

/** A connection without a socket, and the calls of it. */
function fakeConnection(): { readonly connection: ExchangeConnection; readonly asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    connection: {
      send: () => void asked.push('send'),
      limit: (ms) => void asked.push(`limit ${ms}`),
      resume: () => void asked.push('resume'),
      destroy: () => void asked.push('destroy'),
    },
  };
}

function exchangeOver(connection: ExchangeConnection): GetExchange {
  return new GetExchange(connection, Buffer.from('request'), {
    method: 'GET',
    answerTimeoutMs: ANSWER_MS,
    stallTimeoutMs: STALL_MS,
    explain: (error) => error,
  });
}

/** Fills the room of the exchange as far as there is, like a socket. */
function fill(exchange: GetExchange, byte: number): ReturnType<GetExchange['received']> {
  return exchange.received((exchange.room() ?? Buffer.alloc(16)).fill(byte));
}

test('limits the time of the server to answer and to send, but not while the reader lets it wait', async () => {
  const { connection, asked } = fakeConnection();
  const exchange = exchangeOver(connection);
  expect(asked.splice(0)).toEqual([`limit ${ANSWER_MS}`, 'send']);
  expect(exchange.received(Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n'))).toBe('more');
  expect(asked.splice(0)).toEqual([`limit ${STALL_MS}`]);

  const first = exchange.body.next();
  expect(fill(exchange, 1)).toBe('more');
  expect(fill(exchange, 2)).toBe('pause');
  expect(asked.splice(0)).toEqual(['limit 0']);
  // bytes that TLS has decrypted arrive even now
  expect(exchange.received((exchange.room() ?? Buffer.alloc(0)).subarray(0, 1000).fill(3))).toBe('pause');
  asked.splice(0);

  expect((await first).value?.[0]).toBe(1);
  expect((await exchange.body.next()).value?.[0]).toBe(2);
  expect(asked).toEqual([`limit ${STALL_MS}`, 'resume']);
  expect(Buffer.from((await exchange.body.next()).value ?? [])).toEqual(Buffer.alloc(1000, 3));
});

test('a body that is abandoned while it is paused is read on and discarded', async () => {
  const { connection, asked } = fakeConnection();
  const exchange = exchangeOver(connection);
  const size = 3 * 256 * 1024;
  exchange.received(Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`));
  expect([fill(exchange, 1), fill(exchange, 2)]).toEqual(['pause', 'pause']);
  asked.splice(0);
  exchange.body.leave();
  expect(asked).toEqual([`limit ${STALL_MS}`, 'resume']);
  expect(exchange.room()).toBeUndefined();
  expect(exchange.received(Buffer.alloc(256 * 1024))).toBe('over');
  expect(await exchange.ended).toBe(Infinity);
});

test('a buffer that is partly lent is filled on after that part: the socket keeps its place', async () => {
  const exchange = exchangeOver(fakeConnection().connection);
  exchange.received(Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n'));
  const place = exchange.room() ?? Buffer.alloc(0);
  const first = exchange.body.next();
  exchange.received(place.subarray(0, 10).fill(1));
  const { value = new Uint8Array() } = await first;
  const second = exchange.body.next();
  exchange.received(place.subarray(10, 20).fill(2));
  expect(Buffer.from((await second).value ?? [])).toEqual(Buffer.alloc(10, 2));
  expect(Buffer.from(value)).toEqual(Buffer.alloc(10, 1));
});
