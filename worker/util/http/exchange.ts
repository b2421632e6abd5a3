import { MalformedAnswer, MAX_HEAD_BYTES, parseAnswerHead, type AnswerHead } from './answer-head.ts';
import { ChunkedBody } from './chunked-body.ts';
import { ConnectionError, type Connection, type Receiver } from './connection.ts';
import { LentBody } from './lent-body.ts';

export interface ExchangeOptions {
  readonly method: 'GET' | 'HEAD';
  /** How long the answer may take to begin once the request is sent. */
  readonly answerTimeoutMs: number;
  /** How long the body may bring no bytes while there is room for them. */
  readonly stallTimeoutMs: number;
  /** What the caller rejects with for an error of the connection. */
  readonly explain: (error: Error) => Error;
}

/** What an exchange needs of its connection. */
export type ExchangeConnection = Pick<Connection, 'send' | 'limit' | 'resume' | 'destroy'>;

/** A rest up to this is read and thrown away, so that the connection can be used again. */
const DISCARD_BYTES = 256 * 1024;
/** Heads before that of the answer (https://www.rfc-editor.org/rfc/rfc9110#section-15.2): more are an attack. */
const MAX_INTERIM = 16;

/** One GET or HEAD on a connection, and its answer. The body is read once, or given up. */
export class GetExchange implements Receiver {
  /** Rejects when the connection ends before the head of the answer is there. */
  readonly answered: Promise<AnswerHead>;
  /** Resolves when nothing of the exchange runs any more, with how long the connection may be idle before the next; 0: it ended. */
  readonly ended: Promise<number>;
  readonly body: LentBody;
  readonly #connection: ExchangeConnection;
  readonly #options: ExchangeOptions;
  readonly #answer = Promise.withResolvers<AnswerHead>();
  readonly #over = Promise.withResolvers<number>();
  #state: 'head' | 'body' | 'over' = 'head';
  #head: Buffer = Buffer.alloc(0);
  #interim = 0;
  #keepAliveMs = 0;
  /** What is left of a body whose length is known. */
  #left = Infinity;
  #chunks: ChunkedBody | undefined;
  /** How much more is read only to be thrown away; undefined while the body has a reader. */
  #discardBytes: number | undefined;

  constructor(connection: ExchangeConnection, request: Buffer, options: ExchangeOptions) {
    this.answered = this.#answer.promise;
    this.answered.catch(() => undefined); // the sender awaits it, or has given up
    this.ended = this.#over.promise;
    this.#connection = connection;
    this.#options = options;
    this.body = new LentBody({ resume: () => this.#resume(), leave: () => this.#leave() });
    connection.limit(options.answerTimeoutMs);
    connection.send(request, this);
  }

  /** Breaks off with `error`, whatever is under way. */
  abort(error: Error): void {
    if (this.#state === 'over') return;
    this.#end(0, error, 'at once');
    this.#connection.destroy();
  }

  room(): Buffer | undefined {
    return this.#state === 'body' && this.#discardBytes === undefined ? this.body.room() : undefined;
  }

  received(bytes: Buffer): 'more' | 'pause' | 'over' | Error {
    try {
      return this.#state === 'head' ? this.#takeHead(bytes) : this.#takeBody(bytes);
    } catch (error) {
      const broken = error instanceof Error ? error : new MalformedAnswer(String(error));
      this.#end(0, broken, 'at the end');
      return broken;
    }
  }

  closed(error: Error | undefined): void {
    if (this.#state === 'over') return;
    const isWhole =
      error === undefined && this.#state === 'body' && this.#chunks === undefined && this.#left === Infinity;
    if (isWhole) return this.#end(0);
    const begun = this.#state === 'body';
    const how = new ConnectionError(begun ? 'BROKEN_OFF' : 'CLOSED', 'the server closed the connection');
    this.#end(0, error ?? how, 'at the end');
  }

  timedOut(): void {
    const code = this.#state === 'head' ? 'ANSWER_TIMEOUT' : 'STALLED';
    this.abort(new ConnectionError(code, 'the server sent nothing for too long'));
  }

  #takeHead(bytes: Buffer): 'more' | 'pause' | 'over' {
    const searched = Math.max(0, this.#head.byteLength - 3);
    this.#head = Buffer.concat([this.#head, bytes]);
    let from = searched;
    for (;;) {
      const end = this.#head.indexOf('\r\n\r\n', from) + 4;
      if ((end < 4 ? this.#head.byteLength : end) > MAX_HEAD_BYTES)
        throw new MalformedAnswer(`the head of the answer is longer than ${MAX_HEAD_BYTES} bytes`);
      if (end < 4) return 'more';
      const head = parseAnswerHead(this.#head.subarray(0, end), this.#options.method);
      this.#head = this.#head.subarray(end);
      from = 0;
      if (head.status >= 200) return this.#beginBody(head);
      if (head.status === 101 || ++this.#interim > MAX_INTERIM)
        throw new MalformedAnswer('too many interim answers come before the answer');
    }
  }

  #beginBody(head: AnswerHead): 'more' | 'pause' | 'over' {
    this.#state = 'body';
    this.#keepAliveMs = head.keepAliveMs;
    if (head.framing === 'chunked') this.#chunks = new ChunkedBody();
    else if (head.framing !== 'connection') this.#left = head.framing.bytes;
    this.#connection.limit(this.#options.stallTimeoutMs);
    const rest = this.#head;
    this.#head = Buffer.alloc(0);
    this.#answer.resolve(head);
    if (rest.byteLength === 0 && this.#left > 0) return 'more';
    const room = rest.byteLength === 0 ? rest : this.body.room().subarray(0, rest.byteLength);
    rest.copy(room);
    return this.#takeBody(room);
  }

  /** Takes bytes of the body that are in its room. */
  #takeBody(bytes: Buffer): 'more' | 'pause' | 'over' {
    const { decoded, taken, isWhole } = this.#decode(bytes);
    if (this.#discardBytes !== undefined) {
      this.#discardBytes -= bytes.byteLength;
      if (this.#discardBytes < 0 && !isWhole) throw new ConnectionError('CLOSED', 'the rest is not wanted');
    }
    const goesOn = this.#discardBytes !== undefined || decoded === 0 || this.body.filled(decoded);
    // bytes after the end answer no request: the next answer on this connection could be a wrong one
    if (isWhole) this.#end(taken === bytes.byteLength ? this.#keepAliveMs : 0);
    if (isWhole) return 'over';
    if (!goesOn) this.#connection.limit(0);
    return goesOn ? 'more' : 'pause';
  }

  #decode(bytes: Buffer): { readonly decoded: number; readonly taken: number; readonly isWhole: boolean } {
    if (this.#chunks !== undefined) return { ...this.#chunks.decode(bytes), isWhole: this.#chunks.isEnded };
    const taken = Math.min(bytes.byteLength, this.#left);
    this.#left -= taken;
    return { decoded: taken, taken, isWhole: this.#left === 0 };
  }

  #resume(): void {
    if (this.#state === 'over') return;
    this.#connection.limit(this.#options.stallTimeoutMs);
    this.#connection.resume();
  }

  #leave(): void {
    if (this.#state === 'over') return;
    const left = this.#left === Infinity ? 0 : this.#left;
    if (left > DISCARD_BYTES || this.#state === 'head') {
      this.#end(0);
      this.#connection.destroy();
      return;
    }
    this.#discardBytes = DISCARD_BYTES;
    this.#resume();
  }

  #end(idleMs: number, error?: Error, when: 'at once' | 'at the end' = 'at the end'): void {
    this.#state = 'over';
    if (error === undefined) {
      this.body.complete();
    } else {
      const explained = this.#options.explain(error);
      this.#answer.reject(explained);
      this.body.fail(explained, when);
    }
    this.#over.resolve(idleMs);
  }
}
