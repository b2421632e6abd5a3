import type { S3Operation } from './operations.ts';

/** Which requests a fault waits for. */
export interface S3FaultMatch {
  /** Default: any. */
  readonly operation?: S3Operation;
  /** Default: any. */
  readonly key?: string;
  /** How many requests it happens to. Default 1; Infinity for all. */
  readonly times?: number;
  /** How many matching requests are served as usual before. Default 0. */
  readonly skip?: number;
}

export interface S3FaultAnswer {
  readonly status: number;
  /** As S3 writes it, e.g. `SlowDown`. */
  readonly code: string;
  readonly retryAfterSeconds?: number;
}

export type S3Fault =
  /** An error instead of doing anything. A status of 200 is an error inside a success, as CopyObject and Complete can answer. */
  | { readonly kind: 'answer'; readonly answer: S3FaultAnswer }
  /** The connection is cut after so many bytes of the answer's body. */
  | { readonly kind: 'cut-answer'; readonly afterBytes: number }
  /** The request waits, then is served as usual. */
  | { readonly kind: 'delay'; readonly delayMs: number }
  /** The connection is cut before anything happens, once so many bytes of the request's body have come. */
  | { readonly kind: 'drop-before'; readonly afterBytes: number }
  /** What was asked for happens, and the connection is cut instead of an answer. */
  | { readonly kind: 'drop-after' };

interface Queued {
  readonly fault: S3Fault;
  readonly match: S3FaultMatch;
  skip: number;
  left: number;
}

/** Faults that wait for requests. Of several of one kind the one queued first happens first. */
export class S3Faults {
  #queue: Queued[] = [];

  /** Answers with an error, 503 SlowDown by default, before anything happens. */
  answer(match: S3FaultMatch, answer: S3FaultAnswer = { status: 503, code: 'SlowDown' }): void {
    this.#add(match, { kind: 'answer', answer });
  }

  /** Sends `afterBytes` bytes of the body, then cuts the connection. */
  cutAnswer(match: S3FaultMatch, afterBytes: number): void {
    this.#add(match, { kind: 'cut-answer', afterBytes });
  }

  delay(match: S3FaultMatch, delayMs: number): void {
    this.#add(match, { kind: 'delay', delayMs });
  }

  /** Cuts the connection before anything happens, when `afterBytes` (default 0) of the request's body have come, or all of it. */
  dropBefore(match: S3FaultMatch, afterBytes = 0): void {
    this.#add(match, { kind: 'drop-before', afterBytes });
  }

  /** Does what was asked for, then cuts the connection without an answer: the client cannot know. */
  dropAfter(match: S3FaultMatch): void {
    this.#add(match, { kind: 'drop-after' });
  }

  clear(): void {
    this.#queue = [];
  }

  /** How many queued faults have not all happened yet. */
  get pending(): number {
    return this.#queue.length;
  }

  /** The faults that happen to this request: at most one of each kind. */
  take(operation: S3Operation | undefined, key: string): readonly S3Fault[] {
    const taken: S3Fault[] = [];
    for (const queued of this.#queue) {
      const { match, fault } = queued;
      if (match.operation !== undefined && match.operation !== operation) continue;
      if (match.key !== undefined && match.key !== key) continue;
      if (taken.some((other) => other.kind === fault.kind)) continue;
      if (queued.skip > 0) {
        queued.skip--;
        continue;
      }
      queued.left--;
      taken.push(fault);
    }
    this.#queue = this.#queue.filter((queued) => queued.left > 0);
    return taken;
  }

  #add(match: S3FaultMatch, fault: S3Fault): void {
    this.#queue.push({ fault, match, skip: match.skip ?? 0, left: match.times ?? 1 });
  }
}
