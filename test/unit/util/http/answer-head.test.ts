import { describe, expect, test } from 'vitest';
import { parseAnswerHead, type AnswerHead } from '../../../../worker/util/http/answer-head.ts';

function parse(head: string, method: 'GET' | 'HEAD' = 'GET'): AnswerHead {
  return parseAnswerHead(Buffer.from(`${head}\r\n\r\n`), method);
}

describe('the head of an answer', () => {
  test('has a status, and headers by their names in lower case', () => {
    const head = parse('HTTP/1.1 206 Partial Content\r\nContent-Length:  12 \r\nLink: <a>\r\nLINK:\t<b>\r\nX-Empty:');
    expect(head.status).toBe(206);
    expect(Object.fromEntries(head.headers)).toEqual({ 'content-length': '12', link: '<a>, <b>', 'x-empty': '' });
    expect(head.framing).toEqual({ bytes: 12 });
  });

  test.each([
    ['a length', 'HTTP/1.1 200 OK\r\nContent-Length: 0', { bytes: 0 }],
    ['chunks', 'HTTP/1.1 200\r\nTransfer-Encoding: Chunked', 'chunked'],
    ['the connection', 'HTTP/1.1 200 OK', 'connection'],
    ['nothing for a 204', 'HTTP/1.1 204 No Content', { bytes: 0 }],
    ['nothing for a 304, whose length is that of another answer', 'HTTP/1.1 304 \r\nContent-Length: 9', { bytes: 0 }],
  ])('has a body that ends by %s', (_, head, framing) => {
    expect(parse(head).framing).toEqual(framing);
  });

  test('of a HEAD has no body, whatever it announces', () => {
    for (const more of ['\r\nContent-Length: 9', '\r\nTransfer-Encoding: chunked', ''])
      expect(parse(`HTTP/1.1 200 OK${more}`, 'HEAD')).toMatchObject({ framing: { bytes: 0 }, keepAliveMs: Infinity });
  });

  test.each([
    ['HTTP/1.1 200 OK\r\nContent-Length: 1', Infinity],
    ['HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: Close', 0],
    ['HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x, close', 0],
    ['HTTP/1.0 200 OK\r\nContent-Length: 1', 0],
    ['HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive', Infinity],
    ['HTTP/1.1 200 OK\r\nContent-Length: 1\r\nKeep-Alive: timeout=5', 3000],
    ['HTTP/1.1 200 OK\r\nContent-Length: 1\r\nKeep-Alive: max=9, timeout=1', 0],
    ['HTTP/1.1 200 OK', 0],
  ])('has how long the connection may be kept: %j', (head, keepAliveMs) => {
    expect(parse(head).keepAliveMs).toBe(keepAliveMs);
  });

  test.each([
    '220 mail.example ESMTP',
    'HTTP/2 200 OK',
    'HTTP/1.1 20 OK',
    'HTTP/1.1 2000 OK',
    'HTTP/1.1 099 OK',
    'http/1.1 200 OK',
    'HTTP/1.1  200 OK',
    ' HTTP/1.1 200 OK',
    'HTTP/1.1 200 OK\nContent-Length: 1',
    'HTTP/1.1 200 OK\r\nContent-Length : 1',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n folded: 2',
    'HTTP/1.1 200 OK\r\nX: a\rContent-Length: 1',
    'HTTP/1.1 200 OK\r\nX: a\u0000b',
    'HTTP/1.1 200 OK\r\n: no name',
    'HTTP/1.1 200 OK\r\nno colon',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1',
    'HTTP/1.1 200 OK\r\nContent-Length: +1',
    'HTTP/1.1 200 OK\r\nContent-Length: 0x10',
    'HTTP/1.1 200 OK\r\nContent-Length: ',
    'HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999',
    'HTTP/1.1 200 OK\r\nContent-Length: 9007199254740993',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: identity',
  ])('is refused if two readers could understand it in two ways: %j', (head) => {
    expect(() => parse(head)).toThrow(expect.objectContaining({ code: 'MALFORMED' }));
  });
});
