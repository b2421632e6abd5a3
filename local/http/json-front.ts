import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Failure } from '../../worker/util/failure.ts';
import { isRecord } from '../../worker/util/record.ts';
import type { CallFaults } from './call-faults.ts';

/** One call of an API that speaks AWS JSON 1.0. */
export interface Call {
  /** E.g. `SendMessage`. */
  readonly action: string;
  readonly input: Readonly<Record<string, unknown>>;
  /** The input as it came. */
  readonly text: string;
  /** Of the client, with the signature. */
  readonly authorization: string;
  /** Fires when the client is gone, and when the front closes. */
  readonly signal: AbortSignal;
}

export interface CallAnswer {
  /** Becomes the body as it is when it is text, as JSON otherwise. */
  readonly body: string | Readonly<Record<string, unknown>>;
  /** Takes the effect back, when the client was gone before it had the answer. */
  readonly undo?: () => Promise<void>;
}

/** What a service answers when it refuses a call. */
export class CallRefusal extends Error {
  readonly status: number;
  readonly code: string;
  /** What the body has beside code and message. */
  readonly more: Readonly<Record<string, unknown>>;

  constructor(status: number, code: string, message: string, more: Readonly<Record<string, unknown>> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.more = more;
  }
}

/** One call that was made, for budgets in tests. */
export interface CallRecord {
  readonly action: string;
  /** 0 while it has not been answered, and for ever when the connection was cut instead. */
  readonly status: number;
}

export interface FrontOptions {
  /** What stands before the action in `X-Amz-Target`: `AmazonSQS`. */
  readonly target: string;
  /** What stands before the code in errors: `com.amazonaws.sqs`. */
  readonly namespace: string;
  readonly faults: CallFaults;
  /** What the service says to one call too many. */
  readonly throttled: { readonly status: number; readonly code: string };
  readonly errorHeaders?: (refusal: CallRefusal) => Readonly<Record<string, string>>;
  /** Answers a call, or throws a CallRefusal. */
  readonly answer: (call: Call) => Promise<CallAnswer>;
}

export interface Front {
  /** `http://127.0.0.1:port`. */
  readonly url: string;
  /** In the order they came; of the newest 10,000. */
  readonly calls: readonly CallRecord[];
  /** Cuts every connection, ends calls that wait, and resolves when no call runs any more. */
  close(): Promise<void>;
}

const MAX_RECORDS = 10_000;
/** DynamoDB takes 16 MB: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html */
const MAX_BODY_BYTES = 17 * 1024 * 1024;
const CONTENT_TYPE = 'application/x-amz-json-1.0';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Serves an AWS JSON API on a port of 127.0.0.1 that was free, with faults. */
export async function openFront(options: FrontOptions): Promise<Front> {
  const calls: CallRecord[] = [];
  const running = new Set<Promise<void>>();
  const closing = new AbortController();
  const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    const record: Mutable<CallRecord> = { action: actionOf(request, options.target), status: 0 };
    calls.push(record);
    if (calls.length > MAX_RECORDS) calls.shift();
    const served = serve(request, response, record, closing.signal, options);
    running.add(served);
    void served.finally(() => running.delete(served));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Failure('BUG', 'listen on 127.0.0.1: no port');
  return {
    url: `http://127.0.0.1:${address.port}`,
    calls,
    close: async () => {
      closing.abort();
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
      await Promise.all(running);
    },
  };
}

/** Ends a call with its connection. */
class Cut extends Error {}

/** Throws when the service is away: for calls that wait. */
export function checkThere(faults: CallFaults): void {
  if (faults.away === 'reset') throw new Cut();
  if (faults.away === 'unavailable') throw new CallRefusal(503, 'ServiceUnavailable', 'away, as was asked for');
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  record: Mutable<CallRecord>,
  closing: AbortSignal,
  options: FrontOptions,
): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  try {
    const text = await readBody(request);
    const { authorization = '' } = request.headers;
    const signal = AbortSignal.any([gone.signal, closing]);
    const call = { action: record.action, text, authorization, signal };
    const answer = await answerOf(call, options);
    const isThere = !signal.aborted && (await send(response, answer, record));
    if (!isThere) await answer.undo?.();
  } catch {
    // a fault, a client that is gone, or the server closes; anything else was answered
    request.socket.resetAndDestroy();
  }
}

type Answered = CallAnswer & { readonly status: number; readonly headers: Readonly<Record<string, string>> };

async function answerOf(call: Omit<Call, 'input'>, options: FrontOptions): Promise<Answered> {
  try {
    checkThere(options.faults);
    const fault = options.faults.take(call.action);
    if (fault?.kind === 'drop-before') throw new Cut();
    const { status, code } = options.throttled;
    if (fault?.kind === 'throttle') throw new CallRefusal(status, fault.code ?? code, 'Rate exceeded');
    const answer = await options.answer({ ...call, input: parseInput(call) });
    if (fault?.kind === 'drop-after') throw new Cut();
    return { ...answer, status: 200, headers: {} };
  } catch (error) {
    if (error instanceof Cut || call.signal.aborted) throw error;
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const refusal = error instanceof CallRefusal ? error : new CallRefusal(500, 'InternalFailure', why);
    const { status, code, message } = refusal;
    return {
      status,
      headers: options.errorHeaders?.(refusal) ?? {},
      body: { __type: `${options.namespace}#${code}`, message, ...refusal.more },
    };
  }
}

/** Whether the client was there to take all of it. */
async function send(response: ServerResponse, answer: Answered, record: Mutable<CallRecord>): Promise<boolean> {
  const body = Buffer.from(typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body));
  record.status = answer.status;
  response.writeHead(answer.status, {
    'content-type': CONTENT_TYPE,
    'content-length': String(body.byteLength),
    'x-amzn-requestid': randomUUID(),
    ...answer.headers,
  });
  await new Promise<void>((resolve) => {
    response.once('close', resolve);
    response.end(body, resolve);
  });
  return response.writableFinished;
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.byteLength;
    if (bytes > MAX_BODY_BYTES) throw new Cut();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function actionOf(request: IncomingMessage, target: string): string {
  const named = String(request.headers['x-amz-target'] ?? '');
  return named.startsWith(`${target}.`) ? named.slice(target.length + 1) : '';
}

function parseInput({ text, action }: Omit<Call, 'input'>): Call['input'] {
  if (action === '') throw unknownAction('a call without an X-Amz-Target that is known');
  let input: unknown;
  try {
    input = JSON.parse(text);
  } catch {
    // falls through
  }
  if (!isRecord(input)) throw new CallRefusal(400, 'SerializationException', 'the body is no JSON object');
  return input;
}

/** For everything that the service does and this one does not: loud, so that no test passes by accident. */
export function unknownAction(action: string): CallRefusal {
  return new CallRefusal(501, 'NotImplemented', `the local service does not know ${action}`);
}
