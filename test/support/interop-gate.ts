import { once } from 'node:events';
import { createServer, request, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A path to a registry that can be closed in the middle of a layer: at the same moment in every run, whatever the machine is doing. */
export interface Gate extends AsyncDisposable {
  /** `127.0.0.1:port`: the registry of references that pass the gate. */
  readonly host: string;
  /** Bytes of blobs that passed so far. */
  readonly passedBytes: number;
  /** Lets so many more bytes of blobs pass, and no more. Resolves when they have passed. */
  closeAfter(bytes: number): Promise<void>;
  /** Lets later requests pass. Held ones stay held. */
  open(): void;
}

/** Starts a gate before the registry at `host`. */
export async function startGate(host: string): Promise<Gate> {
  let passedBytes = 0;
  let limit = Infinity;
  let closed = Promise.withResolvers<void>();
  const [hostname = '', port = ''] = host.split(':');

  const serve = async (asked: IncomingMessage, answer: ServerResponse): Promise<void> => {
    const gone = new AbortController();
    answer.once('close', () => gone.abort());
    const forwarded = request({ hostname, port, method: asked.method, path: asked.url, headers: asked.headers });
    asked.pipe(forwarded);
    const [given] = (await once(forwarded, 'response')) as [IncomingMessage];
    answer.writeHead(given.statusCode ?? 500, given.headers);
    const isBlob = asked.method === 'GET' && /\/blobs\/sha256:/.test(asked.url ?? '');
    for await (const chunk of given as AsyncIterable<Buffer>) {
      const passing = isBlob ? chunk.subarray(0, limit - passedBytes) : chunk;
      if (isBlob) passedBytes += passing.length;
      if (!answer.write(passing)) await once(answer, 'drain', { signal: gone.signal });
      if (isBlob && passedBytes >= limit) {
        closed.resolve();
        return; // the answer stays open and unfinished, as if the network had gone quiet
      }
    }
    answer.end();
  };
  const server = createServer((asked, answer) => {
    // this gate exists for clients that are killed
    serve(asked, answer).catch(() => answer.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address() as AddressInfo;
  return {
    host: `127.0.0.1:${address.port}`,
    get passedBytes() {
      return passedBytes;
    },
    closeAfter: (bytes) => {
      limit = passedBytes + bytes;
      closed = Promise.withResolvers<void>();
      return closed.promise;
    },
    open: () => {
      limit = Infinity;
    },
    [Symbol.asyncDispose]: async () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
