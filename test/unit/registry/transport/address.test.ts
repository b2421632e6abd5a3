import { isIPv6 } from 'node:net';
import { describe, expect, test } from 'vitest';
import {
  addressKind,
  ADDRESS_REFUSED,
  guardOf,
  type AddressKind,
} from '../../../../worker/registry/transport/address.ts';

describe('addressKind', () => {
  test.each<[string, AddressKind | undefined]>([
    ['8.8.8.8', 'public'],
    ['172.15.255.255', 'public'],
    ['172.16.0.0', 'private'],
    ['10.1.2.3', 'private'],
    ['192.168.0.1', 'private'],
    ['100.64.0.1', 'private'],
    ['fd12::1', 'private'],
    ['127.0.0.1', 'loopback'],
    ['127.9.9.9', 'loopback'],
    ['0.0.0.0', 'loopback'],
    ['[::1]', 'loopback'],
    ['::', 'loopback'],
    ['localhost', 'loopback'],
    ['registry.localhost', 'loopback'],
    ['LOCALHOST.', 'loopback'],
    ['::ffff:127.0.0.1', 'loopback'],
    ['::ffff:10.0.0.1', 'private'],
    ['169.254.169.254', 'metadata'],
    ['169.254.170.2', 'metadata'],
    ['::ffff:169.254.169.254', 'metadata'],
    ['fe80::1%eth0', 'metadata'],
    ['64:ff9b::169.254.169.254', 'metadata'],
    ['2002:a9fe:a9fe::1', 'metadata'],
    ['fd00:ec2::254', 'metadata'],
    ['fd00:ec2::23', 'metadata'],
    ['fd20:ce::254', 'metadata'],
    ['192.0.0.192', 'metadata'],
    ['::169.254.169.254', 'metadata'],
    ['::ffff:0:169.254.169.254', 'metadata'],
    ['64:ff9b:1::a9fe:a9fe', 'metadata'],
    ['64:ff9b:1:a9fe:a9:fe00::', 'metadata'],
    ['64:ff9b::a83f:8110', 'metadata'],
    ['64:ff9b::10.0.0.1', 'private'],
    ['64:ff9b::7f00:1', 'loopback'],
    ['64:ff9b::8.8.8.8', 'public'],
    ['64:ff9b:1::8.8.8.8', 'public'],
    ['2002:7f00:1::', 'loopback'],
    ['2002:a00:1::1', 'private'],
    ['2002:808:808::1', 'public'],
    ['::10.0.0.1', 'private'],
    ['::ffff:0:127.0.0.1', 'loopback'],
    ['::ffff:8.8.8.8', 'public'],
    ['168.63.129.16', 'metadata'],
    ['100.100.100.200', 'metadata'],
    ['2606:4700::1111', 'public'],
    ['registry.example', undefined],
    ['localhost.example', undefined],
    ['10.0.0.1.example', undefined],
  ])('%s is %s', (host, kind) => expect(addressKind(host)).toBe(kind));

  test.each(['http://2852039166', 'http://0xa9fea9fe', 'http://0251.0376.0251.0376', 'http://[::ffff:a9fe:a9fe]'])(
    'sees through %s, as URL writes it',
    (url) => expect(addressKind(new URL(url).hostname)).toBe('metadata'),
  );
});

/** A guard whose names have these addresses. */
function guarded(own: string, addresses: Readonly<Record<string, readonly string[]>>): ReturnType<typeof guardOf> {
  return guardOf(own, (hostname, _, callback) => {
    const found = (addresses[hostname] ?? []).map((address) => ({ address, family: isIPv6(address) ? 6 : 4 }));
    callback(null, found);
  });
}

async function lookedUp(guard: ReturnType<typeof guardOf>, name: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  guard.lookup(name, { all: false }, (error, address) =>
    resolve(error?.code ?? (typeof address === 'string' ? address : '')),
  );
  return promise;
}

describe('guardOf', () => {
  test.each<[string, string, AddressKind | undefined]>([
    ['registry.example', '8.8.8.8', undefined],
    ['registry.example', 'cdn.example', undefined],
    ['registry.example', '10.0.0.1', 'private'],
    ['registry.example', '[::1]', 'loopback'],
    ['registry.example', '169.254.169.254', 'metadata'],
    ['10.0.0.9', '10.0.0.1', undefined],
    ['10.0.0.9', '127.0.0.1', 'loopback'],
    ['10.0.0.9', '169.254.169.254', 'metadata'],
    ['127.0.0.1', 'localhost', undefined],
    ['127.0.0.1', '10.0.0.1', undefined],
    ['127.0.0.1', '169.254.169.254', 'metadata'],
  ])('a registry at %s that redirects to %s is refused: %s', (own, to, kind) => {
    expect(guarded(own, {}).refuses(to)).toBe(kind);
  });

  test('a name that has a metadata or loopback address is not connected to', async () => {
    const guard = guarded('registry.example', {
      'registry.example': ['8.8.8.8'],
      'metadata.example': ['8.8.8.8', '169.254.169.254'],
      'rebound.example': ['127.0.0.1'],
    });
    expect(await lookedUp(guard, 'registry.example')).toBe('8.8.8.8');
    expect(await lookedUp(guard, 'metadata.example')).toBe(ADDRESS_REFUSED);
    expect(await lookedUp(guard, 'rebound.example')).toBe(ADDRESS_REFUSED);
  });

  test('a public name with a private address is accepted, as a VPC endpoint has it', async () => {
    const guard = guarded('registry.example', { 'bucket.example': ['10.0.3.7'] });
    expect(await lookedUp(guard, 'bucket.example')).toBe('10.0.3.7');
  });

  test('a registry whose name has a private address may redirect to others of its network', async () => {
    const guard = guarded('registry.corp', { 'registry.corp': ['10.0.0.9'] });
    expect(guard.refuses('10.0.0.1')).toBe('private');
    expect(await lookedUp(guard, 'registry.corp')).toBe('10.0.0.9');
    expect(guard.refuses('10.0.0.1')).toBeUndefined();
  });

  test('returns all addresses to callers that try several', async () => {
    const guard = guarded('registry.example', { 'registry.example': ['8.8.8.8', '2606:4700::1111'] });
    const { promise, resolve } = Promise.withResolvers<unknown>();
    guard.lookup('registry.example', { all: true }, (_, addresses) => resolve(addresses));
    expect(await promise).toEqual([
      { address: '8.8.8.8', family: 4 },
      { address: '2606:4700::1111', family: 6 },
    ]);
  });

  test('refuses a registry whose name resolves to a metadata address later', async () => {
    const addresses: Record<string, readonly string[]> = { 'evil.example': ['93.184.216.34'] };
    const guard = guarded('evil.example', addresses);
    expect(await lookedUp(guard, 'evil.example')).toBe('93.184.216.34');
    for (const metadata of ['169.254.169.254', '169.254.170.23', 'fd00:ec2::254', '64:ff9b::169.254.169.254']) {
      addresses['evil.example'] = [metadata];
      expect(await lookedUp(guard, 'evil.example')).toBe(ADDRESS_REFUSED);
    }
  });

  test('connects to a registry by its other address when its name also has a link-local one', async () => {
    const guard = guarded('registry.local', { 'registry.local': ['fe80::1', '192.168.1.5'] });
    expect(await lookedUp(guard, 'registry.local')).toBe('192.168.1.5');
  });

  test('the registry itself may be anywhere: its user chose it', async () => {
    const guard = guarded('mine.example', { 'mine.example': ['127.0.0.1'] });
    expect(await lookedUp(guard, 'mine.example')).toBe('127.0.0.1');
  });
});
