import type { Bytes } from '../../content/content.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';

/**
 * One concern of the transport. Layers wrap each other: a layer may change a request, send it again, look at the answer or refuse it, and
 * leaves the rest to the layer that it wraps.
 */
export interface Layer<Request = HttpRequest, Result = Answer> {
  /** Sends one request. Rejects with a Failure. */
  send(request: Request, options: Abortable): Promise<Result>;
}

/** What a request is for; decides which permission is missing when it is refused. */
export type Operation =
  | 'read-manifest'
  | 'read-blob'
  | 'find-blob'
  | 'begin-upload'
  | 'mount-blob'
  | 'upload-blob'
  | 'write-manifest'
  | 'delete-manifest'
  | 'list-tags'
  | 'list-repositories'
  | 'sign-in';

/** A body that is produced while it is sent, and anew for each try. */
export interface StreamedBody {
  readonly open: () => Bytes;
  readonly size: number;
}

/** A request as the wire needs it. */
export interface WireRequest {
  /** For messages: what we are doing, and to what. */
  readonly what: string;
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path below the registry, or a whole URL that the registry gave. */
  readonly url: string | URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | StreamedBody | undefined;
  /** How long the answer may take to begin. Default: a minute, and more for a streamed body. */
  readonly answerTimeoutMs?: number;
  /** The Authorization header. It is sent to the registry's own origin only. */
  readonly authorization?: string | undefined;
}

/** A request to the transport. */
export interface HttpRequest extends WireRequest {
  readonly operation: Operation;
  /** The statuses that the caller expects. Every other is a Failure. */
  readonly accept: readonly number[];
  /** The access that a token must allow: https://distribution.github.io/distribution/spec/auth/scope/ */
  readonly scopes: readonly string[];
  /** Attempts in all. Default 6; a request with a streamed body has one. */
  readonly attempts?: number;
  /** Whether the next request for the same URL may go straight to where a redirect led. Default false. */
  readonly reuseRedirect?: boolean;
  /** Resolves when the request may be sent: a rate that the service imposes. Awaited before each attempt. */
  readonly admit?: ((options: Abortable) => Promise<void>) | undefined;
}

/** The head of an answer. */
export interface HttpAnswer {
  readonly status: number;
  /** A header by its name in lower case. */
  readonly header: (name: string) => string | undefined;
  /** Where the answer came from. */
  readonly url: URL;
}

/** An answer that has begun. Its body must be read or discarded: it occupies a connection until then. */
export interface Answer extends HttpAnswer {
  /** Iterated once. */
  readonly body: Bytes;
  /** Gives the rest of the body up. */
  readonly discard: () => void;
  /** The beginning of the body as a string, at most 64 KiB; the rest is given up. Every call returns the same. Rejects when the body breaks off. */
  readonly text: () => Promise<string>;
  /** Resolves when the exchange is over, however it ended. */
  readonly ended: Promise<void>;
  /** Whether the credentials were renewed because of this answer: a new request may do better. */
  readonly renewed?: boolean;
}

/** Whether a body is produced while it is sent. */
export function isStreamed(body: WireRequest['body']): body is StreamedBody {
  return body !== undefined && !(body instanceof Uint8Array);
}

/** Whether the request names the status of the answer as one that it expects. */
export function isAccepted(request: HttpRequest, answer: HttpAnswer): boolean {
  return request.accept.includes(answer.status);
}

/** The text of the body of a refusal, as far as it arrives. Rejects only with ABORTED. */
export async function refusalText(
  answer: Answer,
  options: Abortable,
): Promise<{ readonly text: string; readonly brokeOff: boolean }> {
  try {
    return { text: await answer.text(), brokeOff: false };
  } catch {
    checkAborted(options);
    return { text: '', brokeOff: true };
  }
}
