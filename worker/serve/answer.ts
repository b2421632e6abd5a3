import type { Bytes } from '../content/content.ts';

/** What a request is answered with. For a HEAD the same answer as for a GET: its body is not sent. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array | StreamedBody;
}

/** A body that is read while it is sent. */
interface StreamedBody {
  /** Bytes that it has. */
  readonly size: number;
  /** Whether it waits for a turn of its own to be read. Then it takes no place among the bodies that are read at once. */
  readonly waitsForTurn?: boolean;
  /** Exactly so many bytes, or the iteration throws. Called once at most. */
  open(): Bytes;
}

/** https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes */
export type ErrorCode =
  | 'BLOB_UNKNOWN'
  | 'DENIED'
  | 'DIGEST_INVALID'
  | 'MANIFEST_UNKNOWN'
  | 'NAME_INVALID'
  | 'NAME_UNKNOWN'
  | 'TOOMANYREQUESTS'
  | 'UNAUTHORIZED'
  | 'UNSUPPORTED'
  /** Not in the specification; what distribution answers where no other code fits. */
  | 'UNKNOWN';

/** Thrown to answer a request with an error. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly answer: Answer;

  constructor(status: number, code: ErrorCode, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.answer = { ...json({ errors: [{ code, message }] }, headers), status };
  }
}

/** `value` as JSON, with status 200. */
export function json(value: unknown, headers: Readonly<Record<string, string>> = {}): Answer {
  return {
    status: 200,
    headers: { 'content-type': 'application/json', ...headers },
    body: Buffer.from(JSON.stringify(value)),
  };
}

/** The body of an answer without one. */
export const NO_BODY: Uint8Array = new Uint8Array();
