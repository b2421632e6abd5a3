import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** What each connection is held to, in either direction. */
export interface Shape {
  readonly bytesPerSecond: number;
  /** Milliseconds that every byte is under way. */
  readonly delayMs: number;
}

/** `20MB/s,10ms`. */
export function parseShape(text: string): Shape {
  const [, megabytes, ms] = /^(\d+(?:\.\d+)?)MB\/s,(\d+)ms$/.exec(text) ?? [];
  if (megabytes === undefined || ms === undefined) throw new Error(`${text} is no shape: 20MB/s,10ms`);
  return { bytesPerSecond: Number(megabytes) * 1_000_000, delayMs: Number(ms) };
}

/** A front of `host` (address:port) on loopback, each of whose connections is slow by itself. */
export async function shaped(host: string, shape: Shape): Promise<AsyncDisposable & { readonly host: string }> {
  const [address = '', port = ''] = host.split(':');
  const open = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect({ host: address, port: Number(port), noDelay: true });
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        open.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    void pass(client, upstream, shape);
    void pass(upstream, client, shape);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const bound = server.address();
  return {
    host: `127.0.0.1:${typeof bound === 'object' && bound !== null ? bound.port : 0}`,
    [Symbol.asyncDispose]: async () => {
      for (const socket of open) socket.destroy();
      server.close();
    },
  };
}

/** Each chunk goes on no sooner than the rate allows, and `delayMs` after it came. */
async function pass(from: Socket, to: Socket, { bytesPerSecond, delayMs }: Shape): Promise<void> {
  let freeAtMs = 0;
  try {
    for await (const chunk of from as AsyncIterable<Buffer>) {
      const nowMs = performance.now();
      freeAtMs = Math.max(freeAtMs, nowMs) + (chunk.byteLength / bytesPerSecond) * 1000;
      const at = freeAtMs + delayMs;
      setTimeout(() => to.write(chunk), at - nowMs);
      // what is under way is bounded by what the rate lets pass in the time of the delay
      if (freeAtMs - nowMs > 5) await delay(freeAtMs - nowMs);
    }
    setTimeout(() => to.end(), delayMs + Math.max(0, freeAtMs - performance.now()));
  } catch {
    to.destroy();
  }
}
