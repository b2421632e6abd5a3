import { expect, test } from 'vitest';
import { Origin } from '../../../../worker/registry/transport/origin.ts';

test.each([
  ['https://registry.example', '/v2/it?n=1', 'https://registry.example/v2/it?n=1'],
  ['https://registry.example/mirror/', '/v2/it', 'https://registry.example/mirror/v2/it'],
  ['https://registry.example/mirror', '/v2/it', 'https://registry.example/mirror/v2/it'],
])('resolves a path below %s', (base, path, expected) => {
  expect(new Origin('registry.example', new URL(base)).resolve(path).href).toBe(expected);
});

test('leaves a full URL unchanged', () => {
  const url = new URL('https://storage.example/layer?signed=%2B');
  expect(new Origin('registry.example', new URL('https://registry.example')).resolve(url)).toBe(url);
});

test.each([
  ['https://registry.example/else', true],
  ['http://registry.example/', false],
  ['https://registry.example:8443/', false],
  ['https://storage.registry.example/', false],
])('decides whether %s is the registry itself: scheme, host and port', (url, own) => {
  expect(new Origin('registry.example', new URL('https://registry.example/v2')).isOwn(new URL(url))).toBe(own);
});

test.each([
  ['http://cdn.example/blob', 'https://registry.example/v2/it'],
  ['http://registry.example:8080/v2/it', 'https://registry.example/v2/it'],
  ['http://cdn.example/blob', 'https://storage.example/it'],
])('refuses a redirect to %s from %s: its bytes may be changed in transit', (location, from) => {
  const origin = new Origin('registry.example', new URL('https://registry.example'));
  expect(() => origin.lead('read it', location, new URL(from))).toThrow(
    /^read it: the registry sent us from https to http:.*, which is not encrypted; refused: have the registry/,
  );
});

test('an http registry may redirect to http, and a registry that calls itself http is still reached by https', () => {
  const plain = new Origin('registry.example', new URL('http://registry.example'));
  const from = new URL('http://registry.example/v2/it');
  expect(plain.lead('read it', 'http://cdn.example/a', from).href).toBe('http://cdn.example/a');
  const origin = new Origin('registry.example', new URL('https://registry.example'));
  const own = 'http://registry.example/v2/it?n=2';
  expect(origin.lead('read it', own, new URL('https://registry.example/v2/it')).href).toBe(
    'https://registry.example/v2/it?n=2',
  );
});

test.each(['http://169.254.169.254/', 'http://127.0.0.1/', 'http://10.1.2.3/', 'http://[::1]/'])(
  'refuses %s for a registry on the internet',
  (url) => {
    const origin = new Origin('registry.example', new URL('https://registry.example'));
    expect(() => origin.check('read it', new URL(url))).toThrow(
      /^read it: the registry sent us to .* address; refused$/,
    );
  },
);
