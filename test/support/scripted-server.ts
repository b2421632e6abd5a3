import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** One answer. */
export interface Reply {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: string | Uint8Array;
  /** Sends no length: the body is chunked. */
  readonly unsized?: true;
  /** Breaks the connection after so many bytes of the body. */
  readonly cutAfter?: number;
  /** Breaks the connection instead of answering; the request's body is read first. */
  readonly drop?: true;
  /** Never answers. */
  readonly hang?: true;
  /** Answers without waiting for the request's body. */
  readonly early?: true;
}

interface SeenRequest {
  /** `GET /v2/app/tags/list?n=1000`. */
  readonly line: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** By `METHOD /path?query`: the answers in order, each used once. A function computes one from the request. */
export type Script = Readonly<Record<string, readonly (Reply | ((request: SeenRequest) => Reply))[]>>;

/** A server with an exact script of requests. Disposing fails when there were more requests, or fewer. */
export interface ScriptedServer extends AsyncDisposable {
  /** `http://127.0.0.1:port`. */
  readonly url: string;
  readonly host: string;
  readonly requests: readonly SeenRequest[];
  /** The requests, in order. */
  readonly lines: readonly string[];
  /** The number of connections. */
  readonly connections: number;
  /** Adds to the script, for answers that name the server's own address. */
  expect(script: Script): void;
}

export async function scriptedServer(script: Script = {}): Promise<ScriptedServer> {
  const left = new Map<string, (Reply | ((request: SeenRequest) => Reply))[]>();
  const requests: SeenRequest[] = [];
  const unexpected: string[] = [];
  let connections = 0;
  const expect = (more: Script): void => {
    for (const [line, replies] of Object.entries(more)) left.set(line, [...(left.get(line) ?? []), ...replies]);
  };
  expect(script);

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const line = `${request.method} ${request.url}`;
    const reply = left.get(line)?.shift();
    if (reply === undefined) unexpected.push(line);
    const isEarly = typeof reply === 'object' && reply.early === true;
    const chunks: Buffer[] = [];
    if (!isEarly) for await (const chunk of request) chunks.push(chunk as Buffer);
    const seen = { line, headers: request.headers, body: Buffer.concat(chunks) };
    requests.push(seen);
    const given = typeof reply === 'function' ? reply(seen) : (reply ?? { status: 599, body: 'not in the script' });
    if (given.hang === true) return;
    if (given.drop === true) return void request.socket.destroy();
    const body = Buffer.from(given.body ?? '');
    response.writeHead(given.status, {
      ...(given.unsized === true ? {} : { 'content-length': String(body.byteLength) }),
      ...(given.headers as Record<string, string | string[]> | undefined),
    });
    if (given.cutAfter !== undefined) {
      response.write(body.subarray(0, given.cutAfter), () => request.socket.resetAndDestroy());
      return;
    }
    response.end(request.method === 'HEAD' ? undefined : body);
    if (isEarly) request.resume();
  };
  const server = createServer((request, response) => {
    // clients that disconnect in the middle are part of some tests
    answer(request, response).catch(() => request.socket.destroy());
  });
  server.on('connection', () => connections++);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: `http://${host}`,
    host,
    requests,
    get lines() {
      return requests.map(({ line }) => line);
    },
    get connections() {
      return connections;
    },
    expect,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
      const unused = [...left].flatMap(([line, replies]) => replies.map(() => line));
      assert.deepEqual({ unexpected, unused }, { unexpected: [], unused: [] });
    },
  };
}
