import { once } from 'node:events';
import { createServer } from 'node:http';
import { Failure } from '../util/failure.ts';
import type { Clock } from '../util/clock.ts';

/** Answers on loopback whether the worker is well, for the health check of its container. */
export interface Health extends AsyncDisposable {
  /** Called whenever the worker did something that a worker that hangs would not do. */
  readonly alive: () => void;
  readonly port: number;
}

/** A worker asks for messages every 20 s, or extends those that it has in shorter times. */
const SILENT_MS = 90_000;

/** Answers 200 to every request while the worker has proved to be alive within the last 90 s, and 503 otherwise. `port` 0: any that is free. */
export async function startHealth(options: { readonly port: number; readonly clock: Clock }): Promise<Health> {
  let aliveMs = options.clock.now();
  const server = createServer((_, answer) => {
    const silentMs = options.clock.now() - aliveMs;
    const well = silentMs <= SILENT_MS;
    answer
      .writeHead(well ? 200 : 503, { 'content-type': 'application/json', connection: 'close' })
      .end(`${JSON.stringify({ well, silentSeconds: Math.round(silentMs / 1000) })}\n`);
  });
  server.listen(options.port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw new Failure(
      'INVALID',
      `answer health checks on port ${options.port}: it is taken; set TRANSSHIP_HEALTH_PORT`,
      {
        cause,
      },
    );
  }
  const address = server.address();
  return {
    alive: () => {
      aliveMs = options.clock.now();
    },
    port: typeof address === 'object' && address !== null ? address.port : options.port,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
