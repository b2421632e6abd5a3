import { Failure, type Code } from '../../util/failure.ts';
import { redacted } from '../../util/text.ts';

/** An answer that is not what was asked for. */
export interface Refusal {
  /** What we were doing, and to what. */
  readonly what: string;
  readonly method: string;
  readonly status: number;
  /** Host that answered, when it is not the registry itself: a redirect led there. */
  readonly elsewhere?: string | undefined;
  readonly header: (name: string) => string | undefined;
  /** The body, as far as it was read. */
  readonly text: string;
  readonly nowMs: number;
  /** Whether the credentials were renewed since: a new request may do better. */
  readonly renewed: boolean;
  /** What to do about it, by what kind of failure it is. */
  readonly hint?: ((code: Code) => string | undefined) | undefined;
}

/** How much of an error's body is read. */
export const MAX_REFUSAL_BYTES = 64 * 1024;

/** A HEAD is answered without a body, which would say it. */
const NOT_THERE = 'it does not have this: check the repository, and the tag or digest';

/** The Failure for a refusal: its code from the body, else from the status; a message with all that helps and no secrets. */
export function failureOf(refusal: Refusal): Failure {
  const said = parseRefusal(refusal.text);
  const code = codeOf(refusal, said);
  const who = refusal.elsewhere === undefined ? 'the registry' : `${refusal.elsewhere}, where the registry sent us,`;
  const what = [String(refusal.status), ...(said.code === undefined ? [] : [said.code])].join(' ');
  const message = said.message ?? (refusal.method === 'HEAD' && code === 'NOT_FOUND' ? NOT_THERE : undefined);
  const why = message === undefined ? '' : `: ${message}`;
  const hint = refusal.hint?.(code);
  return new Failure(code, `${refusal.what}: ${who} answered ${what}${why}${hint === undefined ? '' : `; ${hint}`}`, {
    context: {
      status: refusal.status,
      ...(said.code === undefined ? {} : { registryCode: said.code }),
      ...(refusal.renewed ? { renewed: true } : {}),
      retryAfterMs: retryAfterMs(refusal.header('retry-after'), refusal.nowMs),
    },
  });
}

/** The code and message in the body of a refusal: the first of the spec's errors, S3's XML, or plain text as ECR sends it. HTML has neither. */
export function parseRefusal(text: string): { readonly code?: string; readonly message?: string } {
  const trimmed = text.trim();
  if (trimmed.startsWith('{')) return parseJson(trimmed);
  if (/<Error>/.test(trimmed)) {
    const code = /<Code>([^<]{1,100})<\/Code>/.exec(trimmed)?.[1];
    const message = /<Message>([^<]{1,1000})<\/Message>/.exec(trimmed)?.[1];
    return { ...(code === undefined ? {} : { code }), ...presentable(message) };
  }
  return trimmed.startsWith('<') ? {} : presentable(trimmed);
}

/** Milliseconds that a Retry-After asks for, be it seconds or a date. */
export function retryAfterMs(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d{1,9}$/.test(header)) return Number(header) * 1000;
  // a day and a date, or else: Date.parse makes a date of nearly anything
  const offset = /^[A-Za-z]{3,9},? \d/.test(header) ? Date.parse(header) : NaN;
  return Number.isNaN(offset) ? undefined : Math.max(0, offset - nowMs);
}

function parseJson(text: string): { readonly code?: string; readonly message?: string } {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    // the beginning of a document that was cut off helps no reader
    return {};
  }
  // https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes
  const list = field(body, 'errors');
  const error: unknown = Array.isArray(list) ? list[0] : body;
  const code = field(error, 'code');
  const detail = field(error, 'detail');
  const message = [
    field(error, 'message'),
    field(error, 'error_description'),
    field(error, 'details'),
    field(error, 'error'),
  ]
    .concat(typeof detail === 'string' ? detail : factsOf(detail))
    .filter((part): part is string => typeof part === 'string' && part !== '')
    .filter((part, i, all) => all.indexOf(part) === i);
  return {
    ...(typeof code === 'string' && code !== '' ? { code: presentable(code).message ?? code } : {}),
    ...presentable(message.join(', ')),
  };
}

/** Facts of a detail that a message names, and how deep they are looked for. */
const MOST_FACTS = 4;
const DEEPEST = 3;
/** Members whose values are not for messages. */
const SECRET_MEMBER = /token|secret|password|signature|credential|key/i;

/** The facts in a structured detail, as `digest=sha256:… Name=team/app`. Undefined for a detail without facts. */
function factsOf(detail: unknown): string | undefined {
  const facts: string[] = [];
  const collect = (value: unknown, depth: number): void => {
    if (typeof value !== 'object' || value === null || depth > DEEPEST) return;
    for (const [name, member] of Object.entries(value)) {
      if (facts.length === MOST_FACTS) return;
      const isScalar = (typeof member === 'string' && member !== '') || typeof member === 'number';
      if (isScalar && Array.isArray(value)) facts.push(String(member));
      else if (isScalar && !SECRET_MEMBER.test(name)) facts.push(`${name}=${member}`);
      else collect(member, depth + 1);
    }
  };
  collect(detail, 0);
  return facts.length === 0 ? undefined : facts.join(' ');
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>)[name] : undefined;
}

/** `text` as a message may carry it: one line, not long, without the queries of URLs (they sign) and without credentials. */
function presentable(text: string | undefined): { readonly message?: string } {
  const message = redacted((text ?? '').replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\s]+/gu, ' ')).trim();
  if (message === '') return {};
  return { message: message.length > 400 ? `${message.slice(0, 400)}…` : message };
}

function codeOf(refusal: Refusal, said: { readonly code?: string; readonly message?: string }): Code {
  const { status } = refusal;
  const { code = '', message = '' } = said;
  // a blob's storage speaks for itself, not in the registry's codes
  if (refusal.elsewhere !== undefined || status === 401) return byStatus(refusal);
  // ECR: "None of the provided layer digests match …" is about the bytes, everything else about the session
  if (code === 'BLOB_UPLOAD_INVALID') return /digests? .*match/i.test(message) ? 'CORRUPT' : 'UNAVAILABLE';
  if (code === 'TAG_INVALID') return /immutable|already exists/i.test(message) ? 'CONFLICT' : 'INVALID';
  // ECR, of children that an index names and of layers that a manifest names
  if (status === 400 && /required for pushing image .*do(?:es)? not exist/i.test(message)) return 'NOT_FOUND';
  return BY_REGISTRY_CODE.get(code) ?? byStatus(refusal);
}

/** https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes */
const BY_REGISTRY_CODE: ReadonlyMap<string, Code> = new Map([
  ['MANIFEST_UNKNOWN', 'NOT_FOUND'],
  ['MANIFEST_BLOB_UNKNOWN', 'NOT_FOUND'],
  ['BLOB_UNKNOWN', 'NOT_FOUND'],
  ['NAME_UNKNOWN', 'NOT_FOUND'],
  ['TOOMANYREQUESTS', 'THROTTLED'],
  ['DIGEST_INVALID', 'CORRUPT'],
  ['BLOB_UPLOAD_UNKNOWN', 'UNAVAILABLE'],
  ['RANGE_INVALID', 'UNAVAILABLE'],
  ['UNSUPPORTED', 'UNSUPPORTED'],
]);

function byStatus(refusal: Refusal): Code {
  switch (refusal.status) {
    case 401:
      return 'UNAUTHENTICATED';
    case 402:
    case 403:
      return 'DENIED';
    case 404:
    case 410:
      return 'NOT_FOUND';
    case 409:
    case 412: // Harbor, of immutable tags
      return 'CONFLICT';
    case 416:
      // for an upload, the session is at another offset; for a download, there are fewer bytes than the descriptor states
      return refusal.method === 'GET' ? 'CORRUPT' : 'UNAVAILABLE';
    case 408:
    case 500:
    case 502:
    case 503:
    case 504:
      return 'UNAVAILABLE';
    case 429:
      return 'THROTTLED';
    // ECR answers 405 for parameters it does not take: https://github.com/google/go-containerregistry/issues/681
    case 405:
    case 406:
    case 411:
    case 413:
    case 415:
    case 501:
    case 505:
      return 'UNSUPPORTED';
    default:
      if (refusal.status >= 500) return 'UNAVAILABLE';
      return refusal.status >= 400 ? 'INVALID' : 'UNSUPPORTED';
  }
}
