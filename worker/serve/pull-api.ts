import { LRUCache } from 'lru-cache';
import { read, readAll, readPart } from '../content/read.ts';
import type { ServedImages, ServedRepository } from '../images/served-images.ts';
import { parseDigest, type Digest } from '../oci/digest.ts';
import { compareListed } from '../oci/list-order.ts';
import {
  MAX_MANIFEST_BYTES,
  MEDIA_TYPE,
  mediaTypeByBytes,
  parseManifest,
  referrerEntry,
  type Descriptor,
} from '../oci/manifest.ts';
import { isRepositoryName, isTag } from '../oci/reference.ts';
import { parseRange } from '../util/byte-range.ts';
import type { Clock } from '../util/clock.ts';
import type { Report } from '../util/events.ts';
import { isFailure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import { quote } from '../util/text.ts';
import { CurrentImages } from './current-images.ts';
import { json, NO_BODY, Refusal, type Answer, type ErrorCode } from './answer.ts';
import { pageOf } from './list-page.ts';
import type { PullRoute } from './pull-route.ts';

/** A request whose sender may read. */
export interface PullRequest {
  readonly method: 'GET' | 'HEAD';
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: {
    readonly range?: string | undefined;
    readonly 'if-range'?: string | undefined;
    readonly 'if-none-match'?: string | undefined;
  };
  readonly signal: AbortSignal;
}

export interface PullApiOptions {
  readonly clock: Clock;
  readonly report?: Report | undefined;
  /** Whether blobs are answered with a redirect to S3, where they are objects there. Default false. */
  readonly redirect?: boolean | undefined;
}

type ContentRoute = Extract<PullRoute, { readonly repository: string }>;

/** Manifests that are kept: many nodes pull the same image. */
const MANIFEST_CACHE_BYTES = 32 * 1024 * 1024;
/** Repositories whose sorted tags are kept. */
const TAG_LISTS = 16;
/** Manifests of referrers that are read at once. */
const MANIFESTS_AT_ONCE = 8;
const NO_STORE = { 'cache-control': 'no-store' };

/**
 * The pull part of the distribution API over the images of a backup. A blob is hashed while it is sent, and a manifest before.
 * https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pull
 */
export class PullApi {
  readonly #images: CurrentImages;
  readonly #options: PullApiOptions;
  readonly #manifests = new LRUCache<Digest, Uint8Array>({
    maxSize: MANIFEST_CACHE_BYTES,
    sizeCalculation: (bytes) => Math.max(1, bytes.byteLength),
  });
  readonly #tags = new LRUCache<ServedRepository, readonly string[]>({ max: TAG_LISTS });

  /** INVALID where two repositories of `images` would have one name. */
  constructor(images: ServedImages, options: PullApiOptions) {
    this.#images = new CurrentImages(images, options);
    this.#options = options;
  }

  /** The names of the repositories, in the order of lists. */
  get repositories(): readonly string[] {
    return this.#images.names;
  }

  /** Throws a Refusal for what is not there or makes no sense, and failures of the backup itself. */
  async answer(request: PullRequest, route: PullRoute): Promise<Answer> {
    try {
      return await this.#answer(request, route);
    } catch (error) {
      // what is missing may have been backed up since
      const isMissing = 'repository' in route && error instanceof Refusal && error.answer.status === 404;
      if (!isMissing || !(await this.#images.lookAgain())) throw error;
      return this.#answer(request, route);
    }
  }

  async #answer(request: PullRequest, route: PullRoute): Promise<Answer> {
    switch (route.kind) {
      case 'unknown':
        throw new Refusal(404, 'UNSUPPORTED', 'a registry does not have this path');
      case 'write':
        throw new Refusal(405, 'UNSUPPORTED', 'this registry is a backup: it is only read', { allow: 'GET, HEAD' });
      case 'base':
        return json({});
      case 'catalog': {
        const { page, headers } = pageOf(this.#images.names, (name) => name, request);
        return json({ repositories: page }, headers);
      }
      case 'tags':
      case 'manifest':
      case 'blob':
      case 'referrers':
        return this.#content(request, route, this.#repository(request, route.repository));
      default:
        return route satisfies never;
    }
  }

  #repository({ query }: PullRequest, name: string): ServedRepository {
    if (!isRepositoryName(name)) throw new Refusal(400, 'NAME_INVALID', `${quote(name)} is not a repository name`);
    const found = this.#images.find(name, query.get('ns') ?? undefined);
    if (found === undefined) throw new Refusal(404, 'NAME_UNKNOWN', `this backup does not have ${name}`);
    return found;
  }

  async #content(request: PullRequest, route: ContentRoute, repository: ServedRepository): Promise<Answer> {
    switch (route.kind) {
      case 'tags': {
        const { page, headers } = pageOf(await this.#tagsOf(repository, request), (tag) => tag, request);
        return json({ name: route.repository, tags: page }, headers);
      }
      case 'manifest':
        return this.#manifest(request, repository, route.reference);
      case 'blob':
        return this.#blob(request, repository, requireDigest(route.digest));
      case 'referrers':
        return referrersAnswer(request, await this.#referrers(request, repository, requireDigest(route.digest)));
      default:
        return route satisfies never;
    }
  }

  async #tagsOf(repository: ServedRepository, { signal }: PullRequest): Promise<readonly string[]> {
    const known = this.#tags.get(repository);
    if (known !== undefined) return known;
    const tags = (await repository.tags({ signal })).toSorted(compareListed);
    this.#tags.set(repository, tags);
    return tags;
  }

  async #manifest(request: PullRequest, repository: ServedRepository, reference: string): Promise<Answer> {
    if (!isTag(reference)) requireDigest(reference);
    const descriptor = await orUnknown('MANIFEST_UNKNOWN', repository.manifest(reference, request));
    const { digest } = descriptor;
    const etag = `"${digest}"`;
    const headers = { etag, 'docker-content-digest': digest };
    if (matchesEtag(request.headers['if-none-match'], etag)) return { status: 304, headers, body: NO_BODY };
    const bytes = this.#manifests.get(digest) ?? (await this.#readManifest(request, repository, descriptor));
    return {
      status: 200,
      headers: { ...headers, 'content-type': mediaTypeByBytes(bytes, descriptor.mediaType) },
      body: bytes,
    };
  }

  /** The entries of a list of referrers, with the annotations of their manifests. One that cannot be read is listed as the backup names it. */
  async #referrers(
    request: PullRequest,
    repository: ServedRepository,
    subject: Digest,
  ): Promise<readonly Descriptor[]> {
    const { signal } = request;
    const entries: Descriptor[] = [];
    const listed = await repository.referrers(subject, { signal });
    await forEachOf(
      listed,
      MANIFESTS_AT_ONCE,
      async (descriptor) => {
        try {
          const bytes =
            this.#manifests.get(descriptor.digest) ?? (await this.#readManifest(request, repository, descriptor));
          entries.push(referrerEntry(descriptor, parseManifest(bytes, mediaTypeByBytes(bytes, descriptor.mediaType))));
        } catch (error) {
          if (!(error instanceof Refusal) && !isFailure(error, 'CORRUPT', 'INVALID', 'UNSUPPORTED')) throw error;
          this.#options.report?.({
            type: 'warning',
            message: `${descriptor.digest}, which refers to ${subject}, cannot be read: ${error.message}`,
          });
          entries.push(descriptor);
        }
      },
      { signal },
    );
    return entries;
  }

  async #readManifest(
    { signal }: PullRequest,
    repository: ServedRepository,
    descriptor: Descriptor,
  ): Promise<Uint8Array> {
    const { clock, report } = this.#options;
    const reading = readAll(repository, descriptor, MAX_MANIFEST_BYTES, { signal, clock, report });
    const bytes = await orUnknown('MANIFEST_UNKNOWN', reading);
    this.#manifests.set(descriptor.digest, bytes);
    return bytes;
  }

  async #blob(request: PullRequest, repository: ServedRepository, digest: Digest): Promise<Answer> {
    const { signal } = request;
    const descriptor = await orUnknown('BLOB_UNKNOWN', repository.blob(digest, { signal }));
    const { size } = descriptor;
    const etag = `"${digest}"`;
    const common = { etag, 'docker-content-digest': digest };
    if (matchesEtag(request.headers['if-none-match'], etag)) return { status: 304, headers: common, body: NO_BODY };
    if (this.#options.redirect === true && repository.presigned !== undefined && request.method === 'GET') {
      const location = await repository.presigned(descriptor, { signal });
      return { status: 307, headers: { ...NO_STORE, location }, body: NO_BODY };
    }
    const range = rangeIn(request, etag, size);
    if (range === 'none')
      throw new Refusal(416, 'UNKNOWN', `the blob has ${size} bytes`, { 'content-range': `bytes */${size}` });
    const { clock, report } = this.#options;
    const options = { signal, clock, report };
    const { from, to } = range ?? { from: 0, to: size };
    const isWhole = from === 0 && to === size;
    return {
      status: range === undefined ? 200 : 206,
      headers: {
        ...common,
        'content-type': 'application/octet-stream',
        'accept-ranges': 'bytes',
        ...(range === undefined ? {} : { 'content-range': `bytes ${from}-${to - 1}/${size}` }),
      },
      body: {
        size: to - from,
        waitsForTurn: repository.isPacked?.(digest) === true,
        open: () =>
          isWhole ? read(repository, descriptor, options) : readPart(repository, descriptor, { from, to }, options),
      },
    };
  }
}

/** https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers */
function referrersAnswer(request: PullRequest, all: readonly Descriptor[]): Answer {
  const artifactType = request.query.get('artifactType');
  const wanted = artifactType === null ? all : all.filter((one) => one.artifactType === artifactType);
  const sorted = wanted.toSorted((a, b) => compareListed(a.digest, b.digest));
  const { page, headers } = pageOf(sorted, ({ digest }) => digest, request);
  return json(
    { schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests: page },
    {
      ...headers,
      'content-type': MEDIA_TYPE.ociIndex,
      ...(artifactType === null ? {} : { 'oci-filters-applied': 'artifactType' }),
    },
  );
}

/** https://www.rfc-editor.org/rfc/rfc9110.html#section-13.1.5 */
function rangeIn({ method, headers }: PullRequest, etag: string, size: number): ReturnType<typeof parseRange> {
  const ifRange = headers['if-range'];
  return method === 'GET' && (ifRange === undefined || ifRange === etag) ? parseRange(headers.range, size) : undefined;
}

/** Whether an If-None-Match names `etag`. https://www.rfc-editor.org/rfc/rfc9110.html#section-13.1.2 */
function matchesEtag(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  return header.trim() === '*' || header.split(',').some((one) => one.trim().replace(/^W\//, '') === etag);
}

function requireDigest(text: string): Digest {
  try {
    return parseDigest(text);
  } catch (error) {
    if (isFailure(error)) throw new Refusal(400, 'DIGEST_INVALID', error.message);
    throw error;
  }
}

/** What `work` gives; a Refusal with 404 where it is not there. */
async function orUnknown<T>(code: ErrorCode, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (isFailure(error, 'NOT_FOUND')) throw new Refusal(404, code, error.message);
    throw error;
  }
}
