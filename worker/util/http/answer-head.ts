/** Where the body of an answer ends: after a number of bytes, with the last of its chunks, or with the connection. */
type Framing = { readonly bytes: number } | 'chunked' | 'connection';

/** The status line and the headers of an answer in HTTP/1.1, and what follows from them. */
export interface AnswerHead {
  readonly status: number;
  /** By names in lower case. Several of one name are joined by commas. */
  readonly headers: ReadonlyMap<string, string>;
  readonly framing: Framing;
  /** For how long the connection may be idle before it is used again; 0: it is used for this answer alone. */
  readonly keepAliveMs: number;
}

/** The most bytes of a head: as undici and Node, https://nodejs.org/docs/latest-v24.x/api/http.html#httpmaxheadersize */
export const MAX_HEAD_BYTES = 16 * 1024;
/** A connection is given up this long before the server closes it, since a request could be under way then. */
const EARLIER_MS = 2000;

const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9]\d{2})(?: .*)?$/;
/** https://www.rfc-editor.org/rfc/rfc9110#section-5.1 */
const HEADER = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):(.*)$/;
/** What no line of a head may have: https://www.rfc-editor.org/rfc/rfc9110#section-5.5 */
// oxlint-disable-next-line no-control-regex
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f]/;

/** An answer that is not HTTP/1.1. */
export class MalformedAnswer extends Error {
  readonly code = 'MALFORMED';
}

/**
 * The head of an answer to `method`, from `bytes`, which end with its empty line. Throws MalformedAnswer for everything that two readers could
 * understand in two ways: a line without CR, a folded line, several lengths, a length beside chunks
 * (https://www.rfc-editor.org/rfc/rfc9112#section-11.2).
 */
export function parseAnswerHead(bytes: Buffer, method: 'GET' | 'HEAD'): AnswerHead {
  const [first = '', ...lines] = bytes.toString('utf8', 0, bytes.byteLength - 4).split('\r\n');
  const [, minor, digits] = STATUS_LINE.exec(first) ?? [];
  if (digits === undefined || CONTROL.test(first))
    throw new MalformedAnswer('the answer does not begin as one of HTTP/1.1');
  const headers = new Map<string, string>();
  for (const line of lines) {
    const [, name, spaced = ''] = HEADER.exec(line) ?? [];
    if (name === undefined || CONTROL.test(line))
      throw new MalformedAnswer('the answer has a header that is malformed');
    const key = name.toLowerCase();
    const value = spaced.trim();
    const before = headers.get(key);
    headers.set(key, before === undefined ? value : `${before}, ${value}`);
  }
  const status = Number(digits);
  const announced = framingOf(status, headers);
  const framing = method === 'HEAD' ? { bytes: 0 } : announced;
  const persists = framing !== 'connection' && isPersistent(minor === '1', headers);
  return { status, headers, framing, keepAliveMs: persists ? keepAliveMsOf(headers) : 0 };
}

/** https://www.rfc-editor.org/rfc/rfc9112#section-6.3 */
function framingOf(status: number, headers: ReadonlyMap<string, string>): Framing {
  const coding = headers.get('transfer-encoding');
  const length = headers.get('content-length');
  if (coding !== undefined && length !== undefined)
    throw new MalformedAnswer('the answer has a length, and is sent in chunks');
  if (length !== undefined && !(/^\d{1,16}$/.test(length) && Number.isSafeInteger(Number(length))))
    throw new MalformedAnswer('the answer has a length that is not a number');
  if (coding !== undefined && coding.toLowerCase() !== 'chunked')
    throw new MalformedAnswer('the answer is sent in another way than in chunks');
  if (status < 200 || status === 204 || status === 304) return { bytes: 0 };
  if (coding !== undefined) return 'chunked';
  return length === undefined ? 'connection' : { bytes: Number(length) };
}

function isPersistent(isDefault: boolean, headers: ReadonlyMap<string, string>): boolean {
  const options = headers.get('connection') ?? '';
  const has = (option: RegExp): boolean => options.split(',').some((one) => option.test(one.trim()));
  return isDefault ? !has(/^close$/i) : has(/^keep-alive$/i);
}

/** What `Keep-Alive: timeout=5` allows; without it, no limit of the server is known. */
function keepAliveMsOf(headers: ReadonlyMap<string, string>): number {
  const seconds = /(?:^|[,; ])timeout=(\d{1,6})\b/i.exec(headers.get('keep-alive') ?? '')?.[1];
  return seconds === undefined ? Infinity : Math.max(0, Number(seconds) * 1000 - EARLIER_MS);
}
