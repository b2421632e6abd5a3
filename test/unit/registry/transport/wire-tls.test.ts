import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { Origin } from '../../../../worker/registry/transport/origin.ts';
import { Wire, type TlsSettings } from '../../../../worker/registry/transport/wire.ts';
import { READ } from '../../../support/fake-layer.ts';
import { startProxy } from '../../../support/proxy.ts';

const pem = readFileSync('test/fixtures/self-signed.pem', 'utf8');

/** A TLS server that keeps the certificates of its clients: undefined for a client without one. */
async function serve(options: ServerOptions = {}): Promise<{ readonly url: string; readonly clients: unknown[] }> {
  const clients: unknown[] = [];
  const server = createServer({ key: pem, cert: pem, ...options }, (request, response) => {
    clients.push((request.socket as TLSSocket).getPeerCertificate().fingerprint);
    response.end('yes');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, clients };
}

function wireTo(url: string, tls: TlsSettings, proxy?: URL): Wire {
  const wire = new Wire(new Origin('registry.example', new URL(url)), {
    connections: 2,
    userAgent: 'transship/test',
    tls: async () => tls,
    proxies: { http: undefined, https: proxy, except: [] },
  });
  onTestFinished(() => wire.close());
  return wire;
}

test('accepts a certificate of an authority that the settings add', async () => {
  const server = await serve();
  expect(await (await wireTo(server.url, { ca: [pem] }).send(READ, {})).text()).toBe('yes');
});

test('accepts any certificate with `rejectUnauthorized: false`, also of the storage that the registry redirects to', async () => {
  const [server, storage] = [await serve(), await serve()];
  const wire = wireTo(server.url, { rejectUnauthorized: false });
  expect(await (await wire.send(READ, {})).text()).toBe('yes');
  expect(await (await wire.send({ ...READ, url: new URL(storage.url) }, {})).text()).toBe('yes');
});

test('accepts any certificate with `rejectUnauthorized: false` through a proxy', async () => {
  const server = await serve();
  const proxy = await startProxy({ to: new URL(server.url).host });
  onTestFinished(() => proxy[Symbol.asyncDispose]());
  const wire = wireTo('https://registry.example', { rejectUnauthorized: false }, proxy.url);
  expect(await (await wire.send(READ, {})).text()).toBe('yes');
  await expect(wireTo('https://registry.example', {}, proxy.url).send(READ, {})).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringContaining('put its authority into certs.d/registry.example/ca.crt'),
  });
});

test('presents the client certificate to the registry, and not to the host that it redirects to', async () => {
  const options = { requestCert: true, rejectUnauthorized: false };
  const [server, storage] = [await serve(options), await serve(options)];
  const wire = wireTo(server.url, { rejectUnauthorized: false, cert: [pem], key: [pem] });
  (await wire.send(READ, {})).discard();
  (await wire.send({ ...READ, url: new URL(storage.url) }, {})).discard();
  expect(server.clients).toEqual([expect.any(String)]);
  expect(storage.clients).toEqual([undefined]);
});
