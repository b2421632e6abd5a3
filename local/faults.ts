import type { Digest } from '../worker/oci/digest.ts';
import { Failure } from '../worker/util/failure.ts';

/** What goes wrong with a request. Every server of the stack knows these. */
export type RequestFault =
  /**
   * The server refuses the request before anything happens. Without a status and a code it answers as the service does to one request too
   * many. A status of 200 is an error inside a success, as some operations of S3 can answer. An empty code is an answer without a body, as
   * what stands between can give (AWS services only).
   */
  | { readonly kind: 'answer'; readonly status?: number; readonly code?: string; readonly retryAfterSeconds?: number }
  /** The request waits, then is served as usual. */
  | { readonly kind: 'delay'; readonly ms: number }
  /**
   * The connection is cut when `afterBytes` bytes of the request's body have arrived (default 0), or all of it, and nothing happens. A registry
   * keeps those bytes of an upload, as it does when a client breaks off.
   */
  | { readonly kind: 'cut-request'; readonly afterBytes?: number }
  /** The request is carried out, and the connection is cut instead of an answer: the client cannot know. */
  | { readonly kind: 'lose-answer' }
  /** The connection is cut after `afterBytes` bytes of the answer's body. An answer without a body does not come at all. */
  | { readonly kind: 'cut-answer'; readonly afterBytes: number };

/** What goes wrong with a request to a registry, too. */
export type RegistryFault =
  | RequestFault
  /** Every token issued so far has expired when this request is looked at. */
  | { readonly kind: 'expire-token' }
  /** The body has the right length and other bytes. */
  | { readonly kind: 'lie-digest' }
  /** Body and Content-Length (of a HEAD too) are `byBytes` longer or, when negative, shorter than they should be. */
  | { readonly kind: 'lie-size'; readonly byBytes: number };

/** What standard queues may do to a message. */
type DeliveryFault =
  /** A copy of the message, with the same id and a receipt handle of its own, is visible at once. */
  | { readonly kind: 'duplicate' }
  /** The message moves to the end of the queue instead of being delivered, once at most. A share of 0.5 mixes a queue well. */
  | { readonly kind: 'reorder' }
  /**
   * The message is visible again `afterSeconds` after its delivery (default 0; fractions are fine). Until then extending is accepted and does
   * nothing; then the delivery is not in flight any more, and deleting by its handle has no effect.
   */
  | { readonly kind: 'reappear'; readonly afterSeconds?: number };

/** Which requests a fault waits for, and how often it happens. Without members: the next one. */
export interface FaultMatch<Operation extends string> {
  /** `PutObject` of S3, `ReceiveMessage` of SQS, `manifest-get` of a registry, `DescribeImages` of ECR. Default: any. */
  readonly operation?: Operation;
  /** S3: only requests about the object of this key. */
  readonly key?: string;
  /** Registries: only requests about this digest. Uploads name theirs in the POST that mounts and the PUT that closes. */
  readonly digest?: Digest;
  /** How many matching requests pass first, unharmed by this fault. Default 0. */
  readonly skip?: number;
  /** How many requests the fault happens to. Default 1, or Infinity with a share. */
  readonly times?: number;
  /** The share of the matching requests that the fault happens to, from 0 to 1, by seeded chance. Default 1. */
  readonly share?: number;
}

/** A request as faults match it. */
export interface MatchedRequest {
  /** The names of its operation. Any of them matches. */
  readonly operations: readonly string[];
  readonly key?: string;
  readonly digest?: Digest;
}

/** The faults of the messages of queues. */
export type DeliveryFaults = Faults<never, DeliveryFault>;

/** `reset`: connections are cut. `unavailable`: requests are answered with 503. `silent`: requests are taken, and served a minute later. */
export type Away = 'reset' | 'unavailable' | 'silent';

type AwayFault = Extract<RequestFault, { kind: 'answer' | 'cut-request' | 'delay' }>;

const SILENT_MS = 60_000;

interface Queued<Fault> {
  readonly match: FaultMatch<string>;
  readonly fault: Fault;
  skip: number;
  left: number;
}

/**
 * The faults that wait for the requests of one server, or for the messages of its queues. A request takes the first of those that wait for
 * it, one at most. Equal seeds and equal requests give equal faults. Without a call of `add` or `goAway`: none.
 */
export class Faults<Operation extends string = string, Fault = RequestFault> {
  #queue: Queued<Fault>[] = [];
  #away: Away | undefined;
  #state: number;

  constructor(options: { readonly seed?: number } = {}) {
    this.#state = (options.seed ?? 1) | 0;
  }

  /** Queues a fault. Returns a function that removes the occurrences that have not happened yet. Throws BUG for a fault that can never happen. */
  add(match: FaultMatch<Operation>, fault: Fault): () => void {
    const { skip = 0, share = 1 } = match;
    const left = match.times ?? (share < 1 ? Infinity : 1);
    if (!(left >= 1)) throw new Failure('BUG', `a fault that happens ${left} times never happens`);
    const queued = { match, fault, skip, left };
    this.#queue.push(queued);
    return () => {
      this.#queue = this.#queue.filter((one) => one !== queued);
    };
  }

  /** Makes the server unreachable until `comeBack`, for requests that are waiting too. */
  goAway(how: Away = 'reset'): void {
    this.#away = how;
  }

  /** Makes the server reachable again. */
  comeBack(): void {
    this.#away = undefined;
  }

  get away(): Away | undefined {
    return this.#away;
  }

  /** How often queued faults have still to happen: 0 when all have. */
  get pending(): number {
    return this.#queue.reduce((sum, { left }) => sum + left, 0);
  }

  /** Removes every fault, and makes the server reachable again. */
  clear(): void {
    this.#queue = [];
    this.comeBack();
  }

  /** The fault of one request. Each request is looked at once. */
  take(request: MatchedRequest): Fault | AwayFault | undefined {
    if (this.#away === 'reset') return { kind: 'cut-request' };
    if (this.#away === 'silent') return { kind: 'delay', ms: SILENT_MS };
    if (this.#away === 'unavailable') return { kind: 'answer', status: 503, code: 'ServiceUnavailable' };
    let taken: Queued<Fault> | undefined;
    for (const queued of this.#queue) {
      const { share = 1 } = queued.match;
      if (!isMeant(queued.match, request)) continue;
      if (queued.skip > 0) queued.skip--;
      else if (taken === undefined && (share >= 1 || this.#random() < share)) taken = queued;
    }
    if (taken === undefined) return undefined;
    taken.left--;
    if (taken.left === 0) this.#queue = this.#queue.filter((queued) => queued !== taken);
    return taken.fault;
  }

  /** mulberry32 */
  #random(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
}

function isMeant({ operation, key, digest }: FaultMatch<string>, request: MatchedRequest): boolean {
  return (
    (operation === undefined || request.operations.includes(operation)) &&
    (key === undefined || key === request.key) &&
    (digest === undefined || digest === request.digest)
  );
}
