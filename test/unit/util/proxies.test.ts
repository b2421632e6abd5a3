import { expect, test } from 'vitest';
import { proxiedAgent, proxyOf, type Proxies } from '../../../worker/util/proxies.ts';

const proxies = (...except: readonly string[]): Proxies => ({
  http: new URL('http://plain.corp:3128'),
  https: new URL('http://ann:secret@tls.corp:3128'),
  except,
});

test.each([
  ['https://r.example/v2/', [], 'tls.corp:3128'],
  ['http://r.example/v2/', [], 'plain.corp:3128'],
  ['http://127.0.0.1:5000/', [], undefined],
  ['http://localhost:5000/', [], undefined],
  ['http://[::1]:5000/', [], undefined],
  ['https://r.example/', ['*'], undefined],
  ['https://r.example/', ['r.example'], undefined],
  ['https://R.Example/', ['r.EXAMPLE'], undefined],
  ['https://a.r.example/', ['r.example'], undefined],
  ['https://ar.example/', ['r.example'], 'tls.corp:3128'],
  ['https://a.r.example/', ['.r.example'], undefined],
  ['https://r.example/', ['.r.example'], 'tls.corp:3128'],
  ['https://a.r.example/', ['*.r.example'], undefined],
  ['https://r.example:5000/', ['r.example:5000'], undefined],
  ['https://r.example/', ['r.example:5000'], 'tls.corp:3128'],
  ['https://r.example/', ['r.example:443'], undefined],
  ['https://10.1.2.3/', ['10.0.0.0/8'], undefined],
  ['https://11.1.2.3/', ['10.0.0.0/8'], 'tls.corp:3128'],
  ['https://10.1.2.3/', ['10.1.2.3'], undefined],
  ['https://[fd00::1]/', ['fd00::/8'], undefined],
  ['https://[fd00::1]:5000/', ['[fd00::1]:5000'], undefined],
])('reaches %s with NO_PROXY %j through the proxy %s', (url, except, expected) => {
  expect(proxyOf(proxies(...except), new URL(url))?.host).toBe(expected);
});

test('uses no proxy where the environment names none for the protocol', () => {
  expect(proxyOf(undefined, new URL('https://r.example'))).toBeUndefined();
  expect(proxyOf({ ...proxies(), https: undefined }, new URL('https://r.example'))).toBeUndefined();
  expect(proxiedAgent(undefined)).toEqual({});
  expect(proxiedAgent({ http: undefined, https: undefined, except: ['a.example'] })).toEqual({});
});

test("gives the AWS SDK the same exceptions in the form of Node's agents", () => {
  const { proxyEnv } = proxiedAgent(proxies('amazonaws.com', '.corp', '10.1.0.0/16', '192.0.2.7'));
  expect(proxyEnv?.['NO_PROXY']?.split(',')).toEqual([
    'localhost',
    '127.0.0.1',
    '[::1]',
    '::1',
    'amazonaws.com',
    '.amazonaws.com',
    '.corp',
    '10.1.0.0-10.1.255.255',
    '192.0.2.7',
  ]);
});
