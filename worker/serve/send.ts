import type { ServerResponse } from 'node:http';
import { anyOf, orAborted } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { Failure } from '../util/failure.ts';
import { deadline } from '../util/deadline.ts';
import type { Answer } from './answer.ts';

/** For how long a client may take none of the bytes that wait for it. With the socket's buffers that is less than some KiB a second. */
const STALLED_MS = 60_000;

export interface SendOptions {
  readonly clock: Clock;
  /** Fires when the connection is gone. */
  readonly signal: AbortSignal;
  readonly isHead: boolean;
  /** Called with the bytes of the body that are passed to the connection. */
  readonly onSent: (bytes: number) => void;
}

/**
 * Sends an answer, as fast as the client takes it: what is held is one chunk and the buffers of the socket. The first chunk is read before the
 * head is sent. Rejects with the failure of the body; where the head was sent by then the connection is broken, so that no client takes
 * what it has for the whole.
 */
export async function sendAnswer(response: ServerResponse, answer: Answer, options: SendOptions): Promise<void> {
  const { status, headers, body } = answer;
  const isWhole = body instanceof Uint8Array;
  const length = { 'content-length': String(isWhole ? body.byteLength : body.size) };
  const bodiless = status === 304;
  if (isWhole || options.isHead) {
    response.writeHead(status, { ...headers, ...(bodiless ? {} : length) });
    if (isWhole && !options.isHead) options.onSent(body.byteLength);
    await ended(response, options, isWhole && !options.isHead && !bodiless ? body : undefined);
    return;
  }
  const chunks = body.open()[Symbol.asyncIterator]();
  try {
    let next = await chunks.next();
    response.writeHead(status, { ...headers, ...length });
    while (next.done !== true) {
      options.signal.throwIfAborted();
      options.onSent(next.value.byteLength);
      await written(response, next.value, options);
      next = await chunks.next();
    }
    await ended(response, options, undefined);
  } catch (error) {
    if (response.headersSent) response.destroy();
    throw error;
  } finally {
    await chunks.return?.();
  }
}

/** Resolves when the connection has taken the chunk, which is lent until the next one is asked for. */
async function written(response: ServerResponse, chunk: Uint8Array, options: SendOptions): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  // an error means that the connection is gone, which the signal reports
  response.write(chunk, () => resolve());
  await inTime(promise, options);
}

async function ended(response: ServerResponse, options: SendOptions, last: Uint8Array | undefined): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  response.end(last, resolve);
  await inTime(promise, options);
}

async function inTime(work: Promise<void>, { clock, signal }: SendOptions): Promise<void> {
  const late = (): Failure => new Failure('UNAVAILABLE', `the client took no bytes for ${STALLED_MS / 1000} seconds`);
  await using end = deadline(STALLED_MS, late, clock);
  await orAborted(work, { signal: anyOf(signal, end.signal) });
}
