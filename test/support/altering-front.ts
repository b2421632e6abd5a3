import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { request as ask } from 'undici';
import { listenForTest } from './listen-for-test.ts';

export interface FrontAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

/** Changes an answer in transit. `line` is `GET /v2/app/manifests/v1`. */
export type Alter = (line: string, answer: FrontAnswer) => FrontAnswer;

/** A reverse proxy before a real server, which changes some of its answers. Returns its host. It is closed with the test. */
export async function alteringFront(url: string, alter: Alter): Promise<string> {
  const pass = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const sent: Buffer[] = [];
    for await (const chunk of request) sent.push(chunk as Buffer);
    const { host: _, connection: __, 'transfer-encoding': ___, ...headers } = request.headers;
    const method = request.method as 'GET';
    const body = sent.length === 0 ? {} : { body: Buffer.concat(sent) };
    const inner = await ask(new URL(request.url ?? '/', url), { method, headers, ...body });
    const answer = alter(`${method} ${request.url}`, {
      status: inner.statusCode,
      headers: inner.headers,
      body: Buffer.from(await inner.body.arrayBuffer()),
    });
    const { connection: ____, 'keep-alive': _____, 'transfer-encoding': ______, ...passed } = answer.headers;
    const length = request.method === 'HEAD' ? {} : { 'content-length': String(answer.body.byteLength) };
    response.writeHead(answer.status, { ...passed, ...length });
    response.end(answer.body);
  };
  const server = createServer((request, response) => {
    pass(request, response).catch(() => request.socket.destroy());
  });
  return listenForTest(server);
}
