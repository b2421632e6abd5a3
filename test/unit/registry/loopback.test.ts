import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { openRegistry, type RegistryClient, type RegistryOptions } from '../../../worker/registry/registry.ts';
import { fakeClock } from '../../support/clock.ts';

const pem = readFileSync('test/fixtures/self-signed.pem', 'utf8');

interface Served {
  readonly host: string;
  readonly authorizations: readonly (string | undefined)[];
  /** Connections that did not speak the server's protocol. */
  readonly misunderstood: () => number;
}

/** A registry on loopback with tags in every repository; only ann may sign in where `signIn` is set. */
async function serve(protocol: 'http' | 'https', signIn = false): Promise<Served> {
  const authorizations: (string | undefined)[] = [];
  const answer: RequestListener = ({ headers }, response) => {
    const { authorization } = headers;
    authorizations.push(authorization);
    if (signIn && authorization === undefined) response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end();
    else response.end('{"tags":["v1"]}');
  };
  const server = protocol === 'http' ? createHttpServer(answer) : createHttpsServer({ key: pem, cert: pem }, answer);
  let misunderstood = 0;
  server.on(protocol === 'http' ? 'clientError' : 'tlsClientError', (_, socket) => {
    misunderstood++;
    if (protocol === 'http') socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { host, authorizations, misunderstood: () => misunderstood };
}

function clientOf(host: string, options: Partial<RegistryOptions> = {}): RegistryClient {
  const credentials = async () => ({ username: 'ann', password: 'secret' });
  const client = openRegistry(host, { side: 'source', credentials, version: 'test', clock: fakeClock(), ...options });
  onTestFinished(async () => client.close());
  return client;
}

const tagsOf = async (client: RegistryClient): Promise<string[]> => Array.fromAsync(client.repository('app').tags());

test('reaches a TLS registry on loopback whose authority is known, and signs in to it', async () => {
  const { host } = await serve('https', true);
  const folder = await mkdtemp(join(tmpdir(), 'loopback-'));
  onTestFinished(async () => rm(folder, { recursive: true }));
  await mkdir(join(folder, host));
  await writeFile(join(folder, host, 'ca.crt'), pem);
  expect(await tagsOf(clientOf(host, { certificates: { folders: [folder] } }))).toEqual(['v1']);
});

test('reaches a TLS registry on loopback whose certificate is not verified', async () => {
  const { host } = await serve('https');
  expect(await tagsOf(clientOf(host, { certificates: { folders: [], verify: false } }))).toEqual(['v1']);
});

test('refuses an untrusted certificate on loopback instead of asking by plain HTTP', async () => {
  const { host, authorizations, misunderstood } = await serve('https');
  await expect(tagsOf(clientOf(host))).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringContaining('has a certificate that is not trusted'),
  });
  expect([authorizations, misunderstood()]).toEqual([[], 0]);
});

test('finds out with one connection that a registry on loopback is plain HTTP, for all requests of a client', async () => {
  const { host, authorizations, misunderstood } = await serve('http', true);
  const client = clientOf(host);
  const names = Array.from({ length: 20 }, (_, i) => `app${i}`);
  await Promise.all(names.map(async (name) => Array.fromAsync(client.repository(name).tags())));
  expect(await tagsOf(client)).toEqual(['v1']);
  expect(misunderstood()).toBe(1);
  expect(authorizations.at(-1)).toBe(`Basic ${Buffer.from('ann:secret').toString('base64')}`);
});

test.each<[string, (host: string) => Partial<RegistryOptions>]>([
  ['the flag for plain HTTP', () => ({ plainHttp: true })],
  ['an endpoint', (host) => ({ endpoints: new Map([[host, `http://${host}`]]) })],
])('tries no TLS on loopback with %s', async (_, options) => {
  const { host, misunderstood } = await serve('http');
  expect(await tagsOf(clientOf(host, options(host)))).toEqual(['v1']);
  expect(misunderstood()).toBe(0);
});
