import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { isRecord } from '../../worker/util/record.ts';
import type { Faults, RequestFault } from '../faults.ts';
import { listen, stopListening, type ListenOptions } from './listen.ts';

/** One call of an API that speaks AWS JSON 1.0. */
export interface Call {
  /** E.g. `SendMessage`. */
  readonly action: string;
  readonly input: Readonly<Record<string, unknown>>;
  /** The input as it came. */
  readonly text: string;
  /** The client's Authorization header, with the signature. */
  readonly authorization: string;
  /** Fires when the client is gone, and when the front closes. */
  readonly signal: AbortSignal;
}

/** The answer to a call that succeeded. */
export interface CallAnswer {
  /** A string is the body itself; anything else is sent as JSON. */
  readonly body: string | Readonly<Record<string, unknown>>;
  /** Undoes the call when the client was gone before it had the answer. */
  readonly undo?: () => Promise<void>;
}

/** The refusal of a call, as the service answers it. */
export class CallRefusal extends Error {
  readonly status: number;
  readonly code: string;
  /** Members of the body beside code and message. */
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

export interface FrontOptions extends ListenOptions {
  /** The part before the action in `X-Amz-Target`: `AmazonSQS`. */
  readonly target: string;
  /** What stands before the code in errors: `com.amazonaws.sqs`. */
  readonly namespace: string;
  readonly faults: Faults;
  /** The service's answer when there are too many calls. */
  readonly throttled: { readonly status: number; readonly code: string };
  readonly errorHeaders?: (refusal: CallRefusal) => Readonly<Record<string, string>>;
  /** Answers a call, or throws a CallRefusal. */
  readonly answer: (call: Call) => Promise<CallAnswer>;
}

/** A running front of one service. */
export interface Front {
  /** `http://127.0.0.1:port`. */
  readonly url: string;
  /** The newest 10,000, in order of arrival. */
  readonly calls: readonly CallRecord[];
  /** Cuts every connection, ends calls that wait, and resolves when no call runs any more. */
  close(): Promise<void>;
}

const MAX_RECORDS = 10_000;
/** DynamoDB takes 16 MB: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html */
const MAX_BODY_BYTES = 17 * 1024 * 1024;
const CONTENT_TYPE = 'application/x-amz-json-1.0';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Serves an AWS JSON API, with faults. Throws as `listen` does. */
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
  const { url } = await listen(server, options);
  return {
    url,
    calls,
    close: async () => {
      closing.abort();
      await stopListening(server);
      await Promise.all(running);
    },
  };
}

/** Ends a call with its connection. */
class Cut extends Error {}

/** Throws when the service is away: for calls that wait. */
export function checkThere(faults: Faults): void {
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
  // known here: a request that was abandoned midway does not have one
  const { socket } = request;
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  try {
    const fault = options.faults.take({ operations: [record.action] });
    const text = await readBody(request, fault);
    const { authorization = '' } = request.headers;
    const signal = AbortSignal.any([gone.signal, closing]);
    const call = { action: record.action, text, authorization, signal };
    const answer = await answerOf(call, fault, options);
    const isThere = !signal.aborted && (await send(response, answer, record, fault));
    if (!isThere) await answer.undo?.();
  } catch {
    // a fault, a client that is gone, or the server closes; anything else was answered
    socket.resetAndDestroy();
  }
}

type Answered = CallAnswer & { readonly status: number; readonly headers: Readonly<Record<string, string>> };

async function answerOf(
  call: Omit<Call, 'input'>,
  fault: RequestFault | undefined,
  options: FrontOptions,
): Promise<Answered> {
  try {
    if (fault?.kind === 'delay') await delay(fault.ms, undefined, { signal: call.signal });
    if (fault?.kind === 'answer') return refusedBy(fault, options);
    const answer = await options.answer({ ...call, input: parseInput(call) });
    if (fault?.kind === 'lose-answer') throw new Cut();
    return { ...answer, status: 200, headers: {} };
  } catch (error) {
    if (error instanceof Cut || call.signal.aborted) throw error;
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return refused(error instanceof CallRefusal ? error : new CallRefusal(500, 'InternalFailure', why), options);
  }
}

/** What a fault answers instead of the service. */
function refusedBy(fault: Extract<RequestFault, { kind: 'answer' }>, options: FrontOptions): Answered {
  const { status = options.throttled.status, code = options.throttled.code, retryAfterSeconds } = fault;
  const why = fault.status === undefined ? 'Rate exceeded' : 'as was asked for';
  const answer = code === '' ? { status, headers: {}, body: '' } : refused(new CallRefusal(status, code, why), options);
  if (retryAfterSeconds === undefined) return answer;
  return { ...answer, headers: { ...answer.headers, 'retry-after': String(retryAfterSeconds) } };
}

function refused(refusal: CallRefusal, options: FrontOptions): Answered {
  const { status, code, message, more } = refusal;
  return {
    status,
    headers: options.errorHeaders?.(refusal) ?? {},
    body: { __type: `${options.namespace}#${code}`, message, ...more },
  };
}

/** Whether the client was there to take all of it. */
async function send(
  response: ServerResponse,
  answer: Answered,
  record: Mutable<CallRecord>,
  fault: RequestFault | undefined,
): Promise<boolean> {
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
    if (fault?.kind === 'cut-answer') response.write(body.subarray(0, fault.afterBytes), () => resolve());
    else response.end(body, resolve);
  });
  if (fault?.kind === 'cut-answer') throw new Cut();
  return response.writableFinished;
}

async function readBody(request: IncomingMessage, fault: RequestFault | undefined): Promise<string> {
  const limit = fault?.kind === 'cut-request' ? (fault.afterBytes ?? 0) : Infinity;
  const chunks: Buffer[] = [];
  let bytes = 0;
  if (limit === 0) throw new Cut();
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.byteLength;
    if (bytes > MAX_BODY_BYTES || bytes >= limit) throw new Cut();
    chunks.push(chunk);
  }
  if (fault?.kind === 'cut-request') throw new Cut();
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
