import { connectionSentence } from '../../util/connection.ts';
import { Failure, isFailure } from '../../util/failure.ts';
import { ADDRESS_REFUSED } from './address.ts';

/** https://nodejs.org/docs/latest-v24.x/api/tls.html#x509-certificate-error-codes */
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_(?:GET|VERIFY)|HOSTNAME_MISMATCH|ERR_TLS/;

/** What became of a request that has no answer, as a Failure; one that is a Failure already stays as it is. */
export function connectionFailure(
  what: string,
  to: { readonly host: string; readonly proxy: string | undefined },
  error: Error,
): Failure {
  if (error instanceof Failure) return error;
  const refused = to.proxy === undefined ? undefined : refusedByProxy(what, { ...to, proxy: to.proxy }, error);
  if (refused !== undefined) return refused;
  const cause = error instanceof AggregateError && error.errors[0] instanceof Error ? error.errors[0] : error;
  const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : cause.name;
  const host = hostFor(to, code);
  // nothing that a further try would change
  if (code === 'DESTROYED' || code === 'UND_ERR_DESTROYED' || code === 'UND_ERR_CLOSED')
    return new Failure('ABORTED', `${what}: the registry was closed meanwhile`, { cause: error });
  if (code === 'UNSENDABLE') return new Failure('UNSUPPORTED', `${what}: ${error.message}`, { cause: error });
  if (code === ADDRESS_REFUSED) {
    return new Failure('UNSUPPORTED', `${what}: the registry sent us to ${cause.message}; refused`, { cause: error });
  }
  if (code.includes('CERTIFICATE_REQUIRED')) {
    const how = `put client.cert and client.key into certs.d/${to.host}`;
    return new Failure('UNAUTHENTICATED', `${what}: ${host} requires a client certificate; ${how}`, {
      cause: error,
    });
  }
  if (CERTIFICATE.test(code)) {
    return new Failure(
      'UNSUPPORTED',
      `${what}: ${host} has a certificate that is not trusted (${code}); put its authority into certs.d/${to.host}/ca.crt, or name the file in SSL_CERT_FILE or NODE_EXTRA_CA_CERTS`,
      { cause: error },
    );
  }
  if (code === 'EPROTO' || code.startsWith('ERR_SSL')) {
    return new Failure(
      'UNSUPPORTED',
      `${what}: ${host} does not speak TLS as we do (${code}); if it serves plain HTTP, pass --src-plain-http or --dest-plain-http`,
      { cause: error },
    );
  }
  const why = connectionSentence({ code }, host) ?? `the connection to ${host} broke`;
  return new Failure('UNAVAILABLE', `${what}: ${why}`, { cause: error });
}

/** Whether a request by https failed because the server answered the handshake with something else than TLS, as plain HTTP servers do. */
export function isPlainAnswer(error: unknown): boolean {
  if (!isFailure(error, 'UNSUPPORTED')) return false;
  const { cause } = error;
  return cause instanceof Error && 'code' in cause && cause.code === 'ERR_SSL_WRONG_VERSION_NUMBER';
}

/** The failure of a request that the proxy refused to pass on; undefined for another error. */
function refusedByProxy(
  what: string,
  { host, proxy }: { readonly host: string; readonly proxy: string },
  error: Error,
): Failure | undefined {
  const status = Number(/^Proxy (?:response|Authentication Required) \((\d{3})\)/.exec(error.message)?.[1]);
  if (Number.isNaN(status)) return undefined;
  if (status === 407) {
    const how = 'put them into its address, http://user:password@host:port';
    return new Failure('UNAUTHENTICATED', `${what}: the proxy ${proxy} asks for other credentials (407); ${how}`, {
      cause: error,
    });
  }
  const message = `${what}: the proxy ${proxy} did not connect to ${host} (${status})`;
  if (status >= 500 || status === 429) return new Failure('UNAVAILABLE', message, { cause: error });
  const how = 'allow the host there, or name it in NO_PROXY';
  return new Failure('DENIED', `${message}; ${how}`, { cause: error });
}

/** Codes of a lookup or a connection that failed. With a proxy only its own name is looked up, and only it is connected to. */
const BEFORE_PROXY: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'ETIMEDOUT',
]);

/** The host that a sentence is about. */
function hostFor({ host, proxy }: { readonly host: string; readonly proxy: string | undefined }, code: string): string {
  if (proxy === undefined) return host;
  // its sentence is about a name
  if (code === 'ENOTFOUND') return `${proxy} (the proxy to ${host})`;
  return BEFORE_PROXY.has(code) ? `the proxy ${proxy} (to ${host})` : `${host} (through the proxy ${proxy})`;
}
