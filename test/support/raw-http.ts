import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { onTestFinished } from 'vitest';

/** A server that writes exactly the bytes of a test. */
export interface RawHttpServer {
  readonly url: URL;
  /** The head of each request, in order. */
  readonly requests: readonly string[];
  /** Every connection that was made. */
  readonly sockets: readonly Socket[];
}

/** Answers each request, whose head ends with an empty line, with `answer`. Closed with the test. */
export async function rawHttpServer(
  answer: (socket: Socket, number: number) => void | Promise<void>,
  tls?: TlsOptions,
): Promise<RawHttpServer> {
  const requests: string[] = [];
  const sockets: Socket[] = [];
  const connected = (socket: Socket): void => {
    sockets.push(socket);
    socket.on('error', () => undefined); // clients that go away are part of some tests
    socket.setNoDelay(true);
    let received = '';
    socket.on('data', (bytes: Buffer) => {
      received += bytes.toString('latin1');
      for (let end = received.indexOf('\r\n\r\n'); end >= 0; end = received.indexOf('\r\n\r\n')) {
        requests.push(received.slice(0, end));
        received = received.slice(end + 4);
        void answer(socket, requests.length);
      }
    });
  };
  const server: Server = tls === undefined ? createServer(connected) : createTlsServer(tls, connected);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  const { port } = server.address() as AddressInfo;
  return { url: new URL(`${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`), requests, sockets };
}

/** Writes `bytes` in pieces of `size`, each in its own packet as far as the kernel allows, with a turn of the event loop between them. */
export async function writeInPieces(socket: Socket, bytes: Uint8Array, size: number): Promise<void> {
  for (let at = 0; at < bytes.byteLength && !socket.destroyed; at += size) {
    const { promise, resolve } = Promise.withResolvers<void>();
    // called when the kernel has taken it, or when the connection has ended before
    socket.write(bytes.subarray(at, at + size), () => resolve());
    await promise;
    await new Promise((next) => setImmediate(next));
  }
}

/** `bytes` in HTTP chunks of at most `size`. */
export function inHttpChunks(bytes: Uint8Array, size: number, trailer = ''): Buffer {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.byteLength; at += size) {
    const chunk = bytes.subarray(at, at + size);
    parts.push(Buffer.from(`${chunk.byteLength.toString(16)}\r\n`), chunk, Buffer.from('\r\n'));
  }
  return Buffer.concat([...parts, Buffer.from(`0\r\n${trailer}\r\n`)]);
}
