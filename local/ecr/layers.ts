import { basename } from 'node:path/posix';
import { parseDigest, type Digest } from '../../worker/oci/digest.ts';
import type { Clock } from '../../worker/util/clock.ts';
import { answerRange, Refusal, type Answer, type Exchange } from '../registry/exchange.ts';
import type { Route } from '../registry/route.ts';
import { Seal } from '../registry/seal.ts';
import type { RegistryStore } from '../registry/store.ts';

const HOUR_SECONDS = 3600;

/** Which bucket request this is: its paths end in a digest. */
export function parseLayerRoute(method: string, url: URL): Route {
  const digest = digestIn(url.pathname);
  if (method === 'GET') return { kind: 'layer-get', ...(digest === undefined ? {} : { digest }) };
  if (method === 'HEAD') return { kind: 'layer-head', ...(digest === undefined ? {} : { digest }) };
  return { kind: 'unsupported', allow: 'GET' };
}

/** The answers of S3 when it is too busy, or broken: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html */
export function bucketTrouble(status: number, code: string | undefined): Refusal {
  const busy = status === 503 || status === 429;
  return busy
    ? refuse(status, code ?? 'SlowDown', 'Please reduce your request rate.')
    : refuse(status, code ?? 'InternalError', 'try later');
}

/**
 * The S3 bucket, at an address of its own, that ECR keeps its layers in: it gives them to every caller with a presigned URL. Its answers are
 * those of S3: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
 */
export class LayerBucket {
  readonly #store: RegistryStore;
  readonly #clock: Clock;
  readonly #region: string;
  readonly #lifetimeSeconds: number;
  readonly #seal = new Seal();

  constructor(store: RegistryStore, clock: Clock, region: string, lifetimeSeconds = HOUR_SECONDS) {
    this.#store = store;
    this.#clock = clock;
    this.#region = region;
    this.#lifetimeSeconds = lifetimeSeconds;
  }

  /** Where the layer can be had for a while, by a GET without credentials. */
  presign(origin: string, digest: Digest): string {
    const path = `/prod-${this.#region}-starport-layer-bucket/${digest}`;
    const date = amazonDate(this.#clock.now());
    const query = new URLSearchParams({
      'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
      'X-Amz-Credential': `ASIALOCAL/${date.slice(0, 8)}/${this.#region}/s3/aws4_request`,
      'X-Amz-Date': date,
      'X-Amz-Expires': String(this.#lifetimeSeconds),
      'X-Amz-SignedHeaders': 'host',
    });
    query.set('X-Amz-Signature', this.#seal.sign(signed('GET', path, query)));
    return `${origin}${path}?${query.toString()}`;
  }

  answer(exchange: Exchange, route: Route): Answer {
    if (route.kind !== 'layer-get' && route.kind !== 'layer-head') {
      throw refuse(405, 'MethodNotAllowed', 'The specified method is not allowed against this resource.');
    }
    const query = new URLSearchParams(exchange.url.searchParams);
    const signature = query.get('X-Amz-Signature');
    if (signature !== null && exchange.headers.authorization !== undefined) {
      throw refuse(
        400,
        'InvalidArgument',
        'Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified',
      );
    }
    if (signature === null) throw refuse(403, 'AccessDenied', 'Access Denied');
    query.delete('X-Amz-Signature');
    // the method is part of what is signed: a HEAD with the URL of a GET is refused
    if (!this.#seal.isSigned(signed(exchange.method, exchange.url.pathname, query), signature)) {
      throw refuse(
        403,
        'SignatureDoesNotMatch',
        'The request signature we calculated does not match the signature you provided. Check your key and signing method.',
      );
    }
    const signedMs = parseAmazonDate(query.get('X-Amz-Date') ?? '');
    if (signedMs + Number(query.get('X-Amz-Expires')) * 1000 <= this.#clock.now()) {
      throw refuse(403, 'AccessDenied', 'Request has expired');
    }
    const bytes = route.digest === undefined ? undefined : this.#sizeOf(route.digest);
    if (route.digest === undefined || bytes === undefined) {
      throw refuse(404, 'NoSuchKey', 'The specified key does not exist.');
    }
    const file = { path: this.#store.path(route.digest), from: 0, bytes };
    const answer = answerRange(exchange, file, `"${route.digest}"`, { 'content-type': 'application/octet-stream' });
    if (answer !== undefined) return answer;
    throw refuse(416, 'InvalidRange', 'The requested range is not satisfiable', {
      'content-range': `bytes */${bytes}`,
    });
  }

  #sizeOf(digest: Digest): number | undefined {
    for (const repository of this.#store.repositories.values()) {
      const bytes = repository.blobs.get(digest);
      if (bytes !== undefined) return bytes;
    }
    return undefined;
  }
}

function signed(method: string, path: string, query: URLSearchParams): string {
  return `${method} ${path}?${query.toString()}`;
}

/** `20261121T001500Z`. */
function amazonDate(ms: number): string {
  return new Date(ms).toISOString().replaceAll(/[-:]|\.[0-9]+/g, '');
}

function parseAmazonDate(text: string): number {
  return Date.parse(text.replace(/^(....)(..)(..T..)(..)(..Z)$/, '$1-$2-$3:$4:$5'));
}

function digestIn(path: string): Digest | undefined {
  try {
    return parseDigest(decodeURIComponent(basename(path)));
  } catch {
    return undefined;
  }
}

function refuse(
  status: number,
  code: string,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): Refusal {
  const body = `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  return new Refusal(message, { status, headers: { 'content-type': 'application/xml', ...headers }, body });
}
