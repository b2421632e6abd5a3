import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { digestOf } from '../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../worker/oci/manifest.ts';

/** The signature in presigned URLs of this registry. */
export const SIGNED = {
  'X-Amz-Credential': 'ASIAPLANTEDKEY/20260101/us-east-1/s3/aws4_request',
  'X-Amz-Security-Token': 'planted-session-token',
  'X-Amz-Signature': 'planted0signature1',
  sig: 'planted-sas',
  token: 'planted-cdn-token',
} as const;

/**
 * A registry that repeats in its errors whatever it received: headers as sent and decoded, bodies, and paths with their queries. It asks
 * for `bearer` in repositories whose names begin so, and for `basic` in others; images of `presigned/` have layers with presigned URLs.
 */
export interface GossipingRegistry extends AsyncDisposable {
  readonly host: string;
  /** Every request with credentials. */
  readonly authorized: number;
}

const LAYER = Buffer.alloc(500, 1);
const CONFIG = Buffer.from('{}');
const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociManifest,
    config: { mediaType: MEDIA_TYPE.ociConfig, digest: digestOf(CONFIG), size: CONFIG.byteLength },
    layers: [{ mediaType: MEDIA_TYPE.ociLayer, digest: digestOf(LAYER), size: LAYER.byteLength }],
  }),
);

/** `token` is what its token service returns. */
export async function startGossipingRegistry(token: string): Promise<GossipingRegistry> {
  let authorized = 0;
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { authorization = '' } = request.headers;
    if (authorization !== '') authorized++;
    const path = request.url ?? '';
    const [scheme = '', value = ''] = authorization.split(' ');
    const body = Buffer.concat(chunks).toString();
    const refuse = (status: number, headers: Readonly<Record<string, string>> = {}): void => {
      const decoded = Buffer.from(value, 'base64').toString();
      const password = decoded.slice(decoded.indexOf(':') + 1);
      const said = `${path} of ${scheme}/${value}, sent ${decoded}, password ${password} or ${encodeURIComponent(password)}, body ${body}`;
      response.writeHead(status, { 'content-type': 'application/json', ...headers });
      response.end(
        request.method === 'HEAD' ? undefined : JSON.stringify({ errors: [{ code: 'DENIED', message: said }] }),
      );
    };
    const isBearer = path.includes('/bearer');
    if (path.startsWith('/token')) {
      if (path.includes('scope=repository%3Abearer%2Frefused') || body.includes('bearer%2Frefused')) return refuse(403);
      return void response.end(JSON.stringify({ token, expires_in: 300 }));
    }
    if (authorization === '') {
      const challenge = isBearer || path === '/v2/' ? `Bearer realm="/token",service="gossip"` : 'Basic realm="gossip"';
      return refuse(401, { 'www-authenticate': challenge });
    }
    if (path.includes('/manifests/')) {
      response.writeHead(200, {
        'content-type': MEDIA_TYPE.ociManifest,
        'content-length': String(MANIFEST.byteLength),
      });
      return void response.end(request.method === 'HEAD' ? undefined : MANIFEST);
    }
    if (path.startsWith('/v2/bearer/presigned/referrers/')) {
      response.writeHead(404);
      return void response.end();
    }
    if (path.startsWith('/v2/bearer/presigned/blobs/')) {
      response.writeHead(307, { location: `/storage/blob?${new URLSearchParams(SIGNED).toString()}` });
      return void response.end();
    }
    refuse(403);
  };
  const server = createServer((request, response) => {
    answer(request, response).catch(() => request.socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    get authorized() {
      return authorized;
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
