import type { Server } from 'node:http';
import { Failure } from '../../worker/util/failure.ts';

export interface ListenOptions {
  /** What the server is called in messages: `S3`. */
  readonly name: string;
  /** Default 0: a free port. */
  readonly port?: number | undefined;
  /** Default 127.0.0.1, which other machines cannot reach. */
  readonly host?: string | undefined;
}

/** Where a server listens. */
export interface Address {
  /** `127.0.0.1:18000`. */
  readonly host: string;
  /** `http://127.0.0.1:18000`. */
  readonly url: string;
}

/** Listens. Throws INVALID where the port is taken, or where this user may not listen on it; UNAVAILABLE for other reasons. */
export async function listen(server: Server, options: ListenOptions): Promise<Address> {
  const { name, port = 0, host = '127.0.0.1' } = options;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(port, host, resolve);
  try {
    await promise;
  } catch (cause) {
    throw refusal(`start ${name} on port ${port} of ${host}`, cause);
  } finally {
    server.off('error', reject);
  }
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Failure('BUG', `start ${name} on ${host}: no port`);
  const authority = `${host.includes(':') ? `[${host}]` : host}:${address.port}`;
  return { host: authority, url: `http://${authority}` };
}

/** Cuts every connection, and resolves when the server listens no more. */
export async function stopListening(server: Server): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeAllConnections();
  await closed;
}

function refusal(what: string, cause: unknown): Failure {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  if (code === 'EADDRINUSE') {
    const why = 'another program listens there: choose another port, or end that program';
    return new Failure('INVALID', `${what}: ${why}`, { cause });
  }
  if (code === 'EACCES')
    return new Failure('INVALID', `${what}: this user may not listen there: choose a port above 1023`, { cause });
  const why = cause instanceof Error ? cause.message : String(cause);
  return new Failure('UNAVAILABLE', `${what}: ${why}`, { cause });
}
