import { once } from 'node:events';
import { createServer } from 'node:http';
import { Failure } from '../util/failure.ts';
import type { Clock } from '../util/clock.ts';

/** A worker that tells on loopback whether it is well, for the health check of its container. */
export interface Health extends AsyncDisposable {
  /** Called whenever the worker did something that one that hangs would not do. */
  readonly alive: () => void;
  readonly port: number;
}

/** A worker asks for messages every 20 s, or extends those that it has in shorter times. */
const SILENT_MS = 90_000;

/** Answers 200 to every request while the worker has proved to be alive within the last 90 s, and 503 otherwise. `port` 0: any that is free. */
export async function startHealth(o: { readonly port: number; readonly clock: Clock }): Promise<Health> {
  let aliveMs = o.clock.now();
  const server = createServer((_, answer) => {
    const silentMs = o.clock.now() - aliveMs;
    const well = silentMs <= SILENT_MS;
    answer
      .writeHead(well ? 200 : 503, { 'content-type': 'application/json', connection: 'close' })
      .end(`${JSON.stringify({ well, silentSeconds: Math.round(silentMs / 1000) })}\n`);
  });
  server.listen(o.port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw new Failure('INVALID', `answer health checks on port ${o.port}: it is taken; set TRANSSHIP_HEALTH_PORT`, {
      cause,
    });
  }
  const address = server.address();
  return {
    alive: () => {
      aliveMs = o.clock.now();
    },
    port: typeof address === 'object' && address !== null ? address.port : o.port,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
