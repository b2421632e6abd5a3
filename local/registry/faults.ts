import type { Digest } from '../../worker/oci/digest.ts';
import { Failure } from '../../worker/util/failure.ts';
import type { RequestKind, Route } from './route.ts';

/** What goes wrong with one request. */
export type RegistryFault =
  /** The connection breaks after `afterBytes` bytes of the answer's body; 0 is after its head. An answer without a body does not come at all. */
  | { readonly type: 'cut'; readonly afterBytes: number }
  /** The connection breaks after `afterBytes` bytes of the request's body were taken; they count as received. */
  | { readonly type: 'cut-request'; readonly afterBytes: number }
  /** The request is carried out, then the connection breaks instead of the answer. */
  | { readonly type: 'accept-then-cut' }
  /** Answered with this status, before anything else is looked at. */
  | { readonly type: 'status'; readonly status: 429 | 500 | 502 | 503 | 504; readonly retryAfterSeconds?: number }
  /** Served after a wait. */
  | { readonly type: 'delay'; readonly ms: number }
  /** Every token issued so far has expired when this request is looked at. */
  | { readonly type: 'expire-token' }
  /** The body has the right length and other bytes. */
  | { readonly type: 'lie-digest' }
  /** Body and Content-Length (of a HEAD too) are `byBytes` longer or, when negative, shorter than they should be. */
  | { readonly type: 'lie-size'; readonly byBytes: number };

/** Which requests a fault waits for. */
export interface FaultTarget {
  readonly on: RequestKind;
  /** Only requests about this digest. Uploads name theirs in the POST that mounts and the PUT that closes. */
  readonly digest?: Digest;
  /** With `api`: only calls of this operation. */
  readonly operation?: string;
  /** How many such requests pass unharmed first. Default 0. */
  readonly after?: number;
  /** How many are hit then. Default 1. */
  readonly times?: number;
}

/** Faults in the order they were queued; a request takes the first that waits for it, one at most. */
export class RegistryFaults {
  #queue: { readonly target: FaultTarget; readonly fault: RegistryFault; pass: number; left: number }[] = [];

  queue(target: FaultTarget, fault: RegistryFault): void {
    const { after = 0, times = 1 } = target;
    if (times < 1) throw new Failure('BUG', `a fault that strikes ${times} times never strikes`);
    this.#queue.push({ target, fault, pass: after, left: times });
  }

  /** How often faults have still to strike: 0 when every one that was queued has. */
  get pending(): number {
    return this.#queue.reduce((sum, queued) => sum + queued.left, 0);
  }

  clear(): void {
    this.#queue = [];
  }

  /** The fault that strikes this request. */
  take(route: Route): RegistryFault | undefined {
    for (const queued of this.#queue) {
      if (!isMeant(queued.target, route)) continue;
      if (queued.pass > 0) {
        queued.pass--;
        continue;
      }
      queued.left--;
      if (queued.left === 0) this.#queue = this.#queue.filter((other) => other !== queued);
      return queued.fault;
    }
    return undefined;
  }
}

function isMeant(target: FaultTarget, route: Route): boolean {
  const digest = 'digest' in route ? route.digest : undefined;
  const operation = 'operation' in route ? route.operation : undefined;
  return (
    target.on === route.kind &&
    (target.digest === undefined || target.digest === digest) &&
    (target.operation === undefined || target.operation === operation)
  );
}
