import { once } from 'node:events';
import { createServer, request as httpRequest } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';

/** An HTTP proxy that connects to one server, whatever host is requested: so tests can use names that do not exist. */
export interface TestProxy extends AsyncDisposable {
  /** `http://127.0.0.1:port` */
  readonly url: URL;
  /** `CONNECT host:port`, `GET http://host/path`, in order. */
  readonly lines: readonly string[];
  /** The credentials of each, `user:password`. */
  readonly credentials: readonly (string | undefined)[];
}

/** A proxy to the server at `to`. With `status` it answers every request with that status. */
export async function startProxy(options: { readonly to: string; readonly status?: number }): Promise<TestProxy> {
  const lines: string[] = [];
  const credentials: (string | undefined)[] = [];
  const sockets = new Set<Socket>();
  const [hostname = '', port] = options.to.split(':');
  const saw = (line: string, authorization: string | undefined): void => {
    lines.push(line);
    credentials.push(authorization && Buffer.from(authorization.replace('Basic ', ''), 'base64').toString());
  };
  const server = createServer((request, response) => {
    saw(`${request.method} ${request.url}`, request.headers['proxy-authorization']);
    if (options.status !== undefined) {
      response.writeHead(options.status).end();
      return;
    }
    const { pathname, search } = new URL(request.url ?? '');
    const { method, headers } = request;
    const onward = httpRequest({ hostname, port, method, path: `${pathname}${search}`, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    request.pipe(onward);
  });
  server.on('connection', (socket) => sockets.add(socket));
  server.on('connect', (request, socket: Socket) => {
    saw(`CONNECT ${request.url}`, request.headers['proxy-authorization']);
    socket.on('error', () => undefined);
    if (options.status !== undefined) {
      socket.end(`HTTP/1.1 ${options.status} no\r\ncontent-length: 0\r\n\r\n`);
      return;
    }
    const onward = connect(Number(port), hostname, () => {
      socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      socket.pipe(onward).pipe(socket);
    });
    sockets.add(onward);
    onward.on('error', () => socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
    lines,
    credentials,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
