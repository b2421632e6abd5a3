import { connect as connectPlain, isIP, type LookupFunction, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';
import { preferredCiphers } from './ciphers.ts';

/** Where the bytes of a connection go while an answer is read from it. */
export interface Receiver {
  /** Where the next bytes go; undefined: anywhere. */
  room(): Buffer | undefined;
  /** Takes bytes that were received, into `room` where there was one when the bytes before were taken. */
  received(bytes: Buffer): 'more' | 'pause' | 'over' | Error;
  /** The connection ended: by an error, or because the server closed it. */
  closed(error: Error | undefined): void;
  /** Nothing moved for as long as was allowed. */
  timedOut(): void;
}

export interface ConnectionSettings {
  /** `http://host:port` or `https://…`. */
  readonly origin: URL;
  readonly lookup?: LookupFunction | undefined;
  readonly tls?: ConnectionOptions | undefined;
  /** How long it may take to connect, with the handshake of TLS. */
  readonly connectTimeoutMs: number;
  /** The TLS session of an earlier connection to the same host, which saves a part of the handshake. */
  readonly session: Buffer | undefined;
  readonly onSession: (session: Buffer) => void;
  /** Called when the connection cannot be used any more. */
  readonly onClose: () => void;
}

/** An error of a connection, with a code. */
export class ConnectionError extends Error {
  readonly code:
    'CONNECT_TIMEOUT' | 'ANSWER_TIMEOUT' | 'STALLED' | 'CLOSED' | 'BROKEN_OFF' | 'DESTROYED' | 'UNSENDABLE';

  constructor(code: ConnectionError['code'], message: string) {
    super(message);
    this.code = code;
    // the AWS SDK and our own code recognize a timeout by this name
    if (code === 'CONNECT_TIMEOUT' || code === 'ANSWER_TIMEOUT' || code === 'STALLED') this.name = 'TimeoutError';
  }
}

const KEEP_ALIVE_DELAY_MS = 60_000;
/**
 * Where bytes go that no receiver has room for: the heads of answers, and what is thrown away. All connections share it, because Node hands
 * bytes over right after it has filled them in.
 */
const SHARED = Buffer.allocUnsafeSlow(16 * 1024);

/**
 * A connection to a server that is read by `onread`: into a buffer that is there already, not into a new one for each read
 * (https://nodejs.org/docs/latest-v24.x/api/net.html#socketconnectoptions-connectlistener). One request at a time.
 */
export class Connection {
  readonly #socket: Socket;
  readonly #connected: Promise<void>;
  #receiver: Receiver | undefined;
  #isPaused = false;
  #error: Error | undefined;

  constructor(options: ConnectionSettings) {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#connected = promise;
    this.#connected.catch(() => undefined); // the sender awaits it, or has given up
    this.#socket = this.#connect(options);
    const timer = setTimeout(
      () => this.destroy(new ConnectionError('CONNECT_TIMEOUT', 'the connection was not made in time')),
      options.connectTimeoutMs,
    );
    this.#socket.once(options.origin.protocol === 'https:' ? 'secureConnect' : 'connect', () => {
      clearTimeout(timer);
      resolve();
    });
    this.#socket.on('error', (error) => (this.#error ??= error));
    this.#socket.on('end', () => this.#close(undefined));
    this.#socket.on('timeout', () => (this.#receiver === undefined ? this.destroy() : this.#receiver.timedOut()));
    this.#socket.on('close', () => {
      clearTimeout(timer);
      reject(this.#error ?? new ConnectionError('CLOSED', 'the connection was closed'));
      this.#close(this.#error);
      options.onClose();
    });
  }

  get isUsable(): boolean {
    return !this.#socket.destroyed && !this.#socket.readableEnded;
  }

  /** Resolves when the connection is made. */
  async connected(): Promise<void> {
    await this.#connected;
  }

  /** Sends a request; `receiver` gets all that comes from now on, until it is `over`. */
  send(request: Buffer, receiver: Receiver): void {
    this.#receiver = receiver;
    this.#socket.ref();
    this.#socket.write(request);
  }

  /** Reads again after a pause. */
  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#socket.resume();
  }

  /** Sets how long nothing may move in either direction; 0: no limit. */
  limit(idleMs: number): void {
    this.#socket.setTimeout(idleMs);
  }

  /** Keeps the connection for another request, for at most `idleMs`. It does not keep the process running. */
  idle(idleMs: number): void {
    this.limit(idleMs);
    this.#socket.unref();
    this.resume();
  }

  destroy(error?: Error): void {
    this.#error ??= error;
    this.#socket.destroy();
  }

  #connect({ origin, lookup, tls, session, onSession }: ConnectionSettings): Socket {
    const host = origin.hostname.replace(/^\[|\]$/g, '');
    const isTls = origin.protocol === 'https:';
    const options = {
      host,
      port: Number(origin.port === '' ? (isTls ? 443 : 80) : origin.port),
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS,
      ...(lookup === undefined ? {} : { lookup }),
      onread: {
        buffer: () => this.#receiver?.room() ?? SHARED,
        callback: (bytes: number, buffer: Uint8Array) => this.#received(bytes, buffer),
      },
    };
    if (!isTls) return connectPlain(options);
    const servername = isIP(host) === 0 ? host : '';
    const known = session === undefined ? {} : { session };
    const secured = { ciphers: preferredCiphers(), ...tls, ...known, servername, ALPNProtocols: ['http/1.1'] };
    return connectTls({ ...options, ...secured }).on('session', onSession);
  }

  #received(bytes: number, { buffer, byteOffset }: Uint8Array): boolean {
    // no request is under way: these bytes would be taken for the answer to the next one
    if (this.#receiver === undefined) {
      this.destroy();
      return false;
    }
    const next = this.#receiver.received(Buffer.from(buffer, byteOffset, bytes));
    if (next instanceof Error) {
      this.destroy(next);
      return false;
    }
    if (next === 'over') this.#receiver = undefined;
    // TLS hands out all records that it has, also after a pause: what the later ones come to does not read on
    if (next === 'pause') this.#isPaused = true;
    else if (next === 'more' && this.#isPaused) setImmediate(() => this.resume());
    return !this.#isPaused;
  }

  #close(error: Error | undefined): void {
    const receiver = this.#receiver;
    this.#receiver = undefined;
    receiver?.closed(error);
  }
}
