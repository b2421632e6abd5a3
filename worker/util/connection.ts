/** What became of a connection, by the code of the error. `%` stands for the host. */
const SENTENCES: Readonly<Record<string, string>> = {
  ENOTFOUND: 'there is no host %',
  EAI_AGAIN: 'the name of % could not be looked up',
  ECONNREFUSED: '% refused the connection',
  EHOSTUNREACH: 'there is no route to %',
  ENETUNREACH: 'there is no route to %',
  ETIMEDOUT: '% did not take the connection in time',
  ECONNRESET: '% closed the connection',
  ECONNABORTED: '% closed the connection',
  EPIPE: '% closed the connection',
  CONNECT_TIMEOUT: '% did not take the connection in time',
  ANSWER_TIMEOUT: '% did not answer in time',
  STALLED: '% stopped sending',
  CLOSED: '% closed the connection',
  BROKEN_OFF: '% broke off the answer',
  MALFORMED: '% sent an answer that is not HTTP',
  UND_ERR_CONNECT_TIMEOUT: '% did not take the connection in time',
  UND_ERR_HEADERS_TIMEOUT: '% did not answer in time',
  UND_ERR_BODY_TIMEOUT: '% stopped sending',
  UND_ERR_SOCKET: '% closed the connection',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: '% broke off the answer',
};

/** The code of a network error. Of several attempts to connect it is that of the first. */
export function networkCode(error: unknown): string | undefined {
  const { code } = firstOf(error);
  return typeof code === 'string' ? code : undefined;
}

/**
 * The sentence for a connection that was not made or broke, the same for registries and every service of AWS:
 * `127.0.0.1:5000 refused the connection`. `host` stands for a host that the error does not name. Undefined for an
 * error without the code of a network error.
 */
export function connectionSentence(error: unknown, host: string): string | undefined {
  const code = networkCode(error);
  if (code === undefined || !(code in SENTENCES || /^E[A-Z]+$|^UND_ERR_/.test(code))) return undefined;
  // the codes of the HTTP client mean nothing to a reader
  const otherwise = code.startsWith('UND_ERR_') ? 'the connection to % broke' : `the connection to % broke (${code})`;
  return (SENTENCES[code] ?? otherwise).replace('%', () => hostOf(firstOf(error)) ?? host);
}

interface NetworkError {
  readonly code?: unknown;
  readonly hostname?: unknown;
  readonly address?: unknown;
  readonly port?: unknown;
}

function firstOf(error: unknown): NetworkError {
  const first: unknown = error instanceof AggregateError ? (error.errors[0] ?? error) : error;
  return typeof first === 'object' && first !== null ? first : {};
}

/** The host that the error of a socket names: that of a name that was looked up, or the address with its port. */
function hostOf({ hostname, address, port }: NetworkError): string | undefined {
  if (typeof hostname === 'string') return hostname;
  if (typeof address !== 'string') return undefined;
  const named = address.includes(':') ? `[${address}]` : address;
  return typeof port === 'number' ? `${named}:${port}` : named;
}
