import { once } from 'node:events';
import { createServer, request as proxied } from 'node:http';

/** Requests that the registry after this front receives, by method and kind. */
export interface Counter extends AsyncDisposable {
  readonly host: string;
  /** The requests since the last call, by method and kind: `GET manifests`. */
  take(): Readonly<Record<string, number>>;
  /** Blobs uploaded since the start, each with its repository, and how often. */
  readonly uploads: ReadonlyMap<string, number>;
}

/** A front of a plain registry that forwards and counts every request. */
export async function countRequests(host: string): Promise<Counter> {
  let counts: Record<string, number> = {};
  const uploads = new Map<string, number>();
  const server = createServer((asked, answer) => {
    const kind = /\/(blobs|manifests|tags|referrers|_catalog)\b/.exec(asked.url ?? '')?.[1] ?? 'other';
    const name = `${asked.method} ${kind}`;
    counts[name] = (counts[name] ?? 0) + 1;
    // the request that ends an upload names its digest
    const [, repository, digest] = /^\/v2\/(.+)\/blobs\/uploads\/.*[?&]digest=([^&]+)/.exec(asked.url ?? '') ?? [];
    if (digest !== undefined) {
      const blob = `${repository}@${decodeURIComponent(digest)}`;
      uploads.set(blob, (uploads.get(blob) ?? 0) + 1);
    }
    const onward = proxied(
      `http://${host}${asked.url}`,
      { method: asked.method ?? 'GET', headers: asked.headers },
      (got) => {
        answer.writeHead(got.statusCode ?? 502, got.headers);
        got.pipe(answer);
      },
    );
    asked.pipe(onward);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return {
    host: `127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`,
    uploads,
    take: () => {
      const taken = counts;
      counts = {};
      return taken;
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
