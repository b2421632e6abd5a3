import { redacted } from './text.ts';

/**
 * Why something failed, as a closed set that programs may switch on.
 *
 * - `NOT_FOUND`        the thing asked for is not there
 * - `UNAUTHENTICATED`  no credentials, or wrong ones
 * - `DENIED`           credentials without the permission
 * - `CONFLICT`         something else is there already (immutable tag, a key taken by another writer)
 * - `INVALID`          input that can never work: a reference, a manifest, a setting
 * - `UNSUPPORTED`      correct input that this side cannot serve
 * - `CORRUPT`          bytes that do not match their descriptor
 * - `THROTTLED`        asked too often; `context.retryAfterMs` when the server states how long to wait
 * - `UNAVAILABLE`      the other side did not answer, or broke off; the same call may succeed later
 * - `ABORTED`          the caller's signal fired
 * - `BUG`              a broken promise of this program
 */
export type Code = (typeof CODES)[number];

/** Every code, in the order of docs/failures.md, which has a chapter for each. */
export const CODES = [
  'NOT_FOUND',
  'UNAUTHENTICATED',
  'DENIED',
  'CONFLICT',
  'INVALID',
  'UNSUPPORTED',
  'CORRUPT',
  'THROTTLED',
  'UNAVAILABLE',
  'ABORTED',
  'BUG',
] as const;

/** The side of a copy. */
export type Side = 'source' | 'target';

/** Facts about a failure for logs and programs. Never secrets, never a URL's query. */
export interface FailureContext {
  /** Which side of a copy failed. */
  readonly side?: Side | undefined;
  /** What the message names, in the words of the object store: `s3://bucket/key`, a path. */
  readonly location?: string | undefined;
  /** The location of the image that is broken. */
  readonly image?: string | undefined;
  /** How long the server asked to wait. */
  readonly retryAfterMs?: number | undefined;
  /** HTTP status, where there was one. */
  readonly status?: number | undefined;
  readonly [name: string]: unknown;
}

/**
 * The one error class. The message names what we were doing, then what went wrong, then what to do about it, lowercase. `describeFailure` adds the
 * side and the image that the context names.
 */
export class Failure extends Error {
  override readonly name = 'Failure';
  readonly code: Code;
  readonly context: FailureContext;

  constructor(code: Code, message: string, options: { cause?: unknown; context?: FailureContext } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.context = options.context ?? {};
  }

  /** Whether the same call may succeed later although nothing was changed. */
  get retryable(): boolean {
    return RETRYABLE[this.code];
  }
}

const RETRYABLE: Readonly<Record<Code, boolean>> = {
  NOT_FOUND: false,
  UNAUTHENTICATED: false,
  DENIED: false,
  CONFLICT: false,
  INVALID: false,
  UNSUPPORTED: false,
  CORRUPT: false,
  THROTTLED: true,
  UNAVAILABLE: true,
  ABORTED: false,
  BUG: false,
};

/** Whether `error` is a Failure, of one of `codes` when any are given. */
export function isFailure(error: unknown, ...codes: readonly Code[]): error is Failure {
  return error instanceof Failure && (codes.length === 0 || codes.includes(error.code));
}

/** `error` as a Failure; what is not one already is a BUG with `error` as its cause. */
export function toFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  const text =
    typeof error === 'object' && error !== null ? 'something that is not an error was thrown' : String(error);
  const message = error instanceof Error ? error.message : text;
  return new Failure('BUG', message, { cause: error });
}

/** The same failure, marked with the side it happened on. A side that is set already stays. */
export function atSide(side: Side, error: unknown): Failure {
  const failure = toFailure(error);
  if (failure.context.side !== undefined || failure.code === 'ABORTED') return failure;
  return new Failure(failure.code, failure.message, { cause: failure.cause, context: { ...failure.context, side } });
}

/**
 * The whole sentence of a failure, for a person: the side and the image of its context, then its message, without secrets. All text that leaves
 * the program (an error, a warning, a fault, the reason of a dead letter) is made here.
 */
export function describeFailure(error: unknown): string {
  const { message, context } = toFailure(error);
  return redacted([context.side, context.image, message].filter((part) => part !== undefined).join(': '));
}

/** What `work` resolves to. Its failures are marked with the side, as by `atSide`. */
export async function onSide<T>(side: Side, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw atSide(side, error);
  }
}

/** What `found` resolves to; undefined where it fails with NOT_FOUND. */
export async function ifFound<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    if (isFailure(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
}
