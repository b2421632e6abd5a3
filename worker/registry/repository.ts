import { collect, nothing, once } from '../content/bytes.ts';
import type {
  AnswerOptions,
  ByteRange,
  Bytes,
  OpenOptions,
  ReferrersOptions,
  ResolveOptions,
  Source,
  TagOptions,
  Target,
} from '../content/content.ts';
import { isReferrersTag } from '../oci/derived-tag.ts';
import { shortDigest, type Digest } from '../oci/digest.ts';
import { isManifestType, MAX_MANIFEST_BYTES, parseManifest, type Descriptor } from '../oci/manifest.ts';
import { checkAborted, orAborted, type Abortable } from '../util/abort.ts';
import { Failure, isFailure } from '../util/failure.ts';
import type { RepositoryContext } from './context.ts';
import { Manifests } from './manifests.ts';
import { names } from './pages.ts';
import { Referrers } from './referrers.ts';
import { TagList } from './tag-list.ts';
import { decoded, encodingsOf } from './transport/content-encoding.ts';
import type { HttpAnswer } from './transport/layer.ts';
import { Uploads } from './upload.ts';

/**
 * The connections that the storage behind a registry serves well: that of ECR is S3, where one gives 80 to 100 MB/s. `readAhead` opens more than one
 * only where one is too slow, and goes on with one where the registry gives no ranges.
 */
const RANGES_AT_ONCE = 8;

/** A repository of a registry, to read from and write to. */
export class RegistryRepository implements Source, Target {
  readonly rangesAtOnce = RANGES_AT_ONCE;
  readonly #context: RepositoryContext;
  readonly #manifests: Manifests;
  readonly #referrers: Referrers;
  readonly #uploads: Uploads;
  readonly #tagList: TagList;
  /** ECR Public answers 401 to every HEAD of a blob: https://github.com/buildbuddy-io/buildbuddy/issues/12566 */
  #headsBlobs = true;
  #creating: Promise<void> | undefined;

  constructor(context: RepositoryContext) {
    this.#context = context;
    this.#manifests = new Manifests(context);
    this.#referrers = new Referrers(context, this.#manifests);
    this.#uploads = new Uploads(context);
    this.#tagList = new TagList(context);
  }

  async resolve(reference: string, options: ResolveOptions = {}): Promise<Descriptor> {
    return this.#manifests.resolve(reference, options);
  }

  async open(descriptor: Descriptor, options: OpenOptions = {}): Promise<Bytes> {
    if (!isManifestType(descriptor.mediaType)) return this.#openBlob(descriptor, options);
    if ((options.from ?? 0) > 0)
      throw new Failure(
        'UNSUPPORTED',
        `read manifest ${descriptor.digest} of ${this.#named}: registries give manifests whole`,
      );
    return this.#manifests.open(descriptor, options);
  }

  async *referrers(descriptor: Descriptor, options: ReferrersOptions = {}): AsyncIterable<Descriptor> {
    yield* this.#referrers.of(descriptor.digest, options);
  }

  /** The tags, without the fallback tags of the referrers API unless `all`: what those list is found by its subject. */
  async *tags(options: Abortable & { readonly all?: boolean } = {}): AsyncIterable<string> {
    const { transport, name, scopes, report } = this.#context;
    const what = `list tags of ${this.#named}`;
    const url = `/v2/${name}/tags/list`;
    const request = { what, operation: 'list-tags', url, member: 'tags', scopes, report } as const;
    const whole = options.all === true;
    for await (const tag of names(transport, { ...request, whole }, options))
      if (whole || !isReferrersTag(tag)) yield tag;
  }

  async listedTags(options: AnswerOptions = {}): Promise<ReadonlySet<string> | undefined> {
    return this.#tagList.read(options);
  }

  async has(descriptor: Descriptor, options: Abortable = {}): Promise<boolean> {
    if (!isManifestType(descriptor.mediaType)) return this.#hasBlob(descriptor, options);
    return (await this.#seen(descriptor.digest, options))?.size === descriptor.size;
  }

  async put(descriptor: Descriptor, open: () => Bytes, options: Abortable = {}): Promise<void> {
    if (isManifestType(descriptor.mediaType)) return this.#putManifest(descriptor.digest, descriptor, open, options);
    return this.#inRepository(async () => this.#uploads.put(descriptor, open, options), options);
  }

  async tag(name: string, descriptor: Descriptor, open: () => Bytes, options: TagOptions = {}): Promise<void> {
    // an immutable tag refuses even what it stands for already: https://github.com/aws/containers-roadmap/issues/2380
    if (options.skipLook !== true && (await this.#seen(name, options))?.digest === descriptor.digest) return;
    try {
      await this.#putManifest(name, descriptor, open, options);
    } catch (error) {
      if (!isFailure(error, 'CONFLICT')) throw error;
      const found = await this.#seen(name, options);
      if (found?.digest === descriptor.digest) return;
      const now = found === undefined ? '' : ` and stands for ${shortDigest(found.digest)}`;
      throw new Failure(
        'CONFLICT',
        `tag ${this.#named}:${name} as ${shortDigest(descriptor.digest)}: the tag is immutable${now}; use another tag, or exclude this one from immutability`,
        { cause: error, context: error.context },
      );
    }
  }

  async mount(descriptor: Descriptor, fromRepository: string, options: Abortable = {}): Promise<boolean> {
    try {
      return await this.#inRepository(async () => this.#uploads.mount(descriptor, fromRepository, options), options);
    } catch (error) {
      if (!isFailure(error) || error.code === 'ABORTED') throw error;
      return false;
    }
  }

  /** Gives up what is open at the registry. */
  async close(): Promise<void> {
    await this.#uploads.close();
  }

  async #openBlob(descriptor: Descriptor, options: Abortable & ByteRange): Promise<Bytes> {
    const { from = 0, to = descriptor.size } = options;
    const ranged = from > 0 || to < descriptor.size;
    if (ranged && from >= to) return nothing();
    const what = `read blob ${shortDigest(descriptor.digest)} of ${this.#named}`;
    const range = `bytes=${from}-${to < descriptor.size ? to - 1 : ''}`;
    const answer = await this.#context.transport.open(
      {
        what,
        operation: 'read-blob',
        method: 'GET',
        url: this.#blobUrl(descriptor.digest),
        headers: ranged ? { range } : {},
        accept: ranged ? [200, 206, 416] : [200, 206],
        scopes: this.#context.scopes,
        // `read` tries again, from where it broke
        attempts: 1,
        reuseRedirect: true,
      },
      options,
    );
    if (!ranged && descriptor.size <= MAX_MANIFEST_BYTES && encodingsOf(answer).length > 0)
      return smallBlob(what, answer, descriptor);
    if (!ranged || (answer.status === 200 && from === 0)) return answer.body;
    const start = /^bytes (\d+)-/.exec(answer.header('content-range') ?? '')?.[1];
    if (answer.status === 206 && start === String(from)) return answer.body;
    answer.discard();
    const [, total] = /^bytes \*\/(\d+)$/.exec(answer.header('content-range') ?? '') ?? [];
    if (answer.status === 416 && total !== undefined && Number(total) <= from)
      throw new Failure('CORRUPT', `${what}: the registry has ${total} bytes of it instead of ${descriptor.size}`);
    throw new Failure('UNSUPPORTED', `${what}: the registry does not answer with the range ${range}`);
  }

  async #hasBlob(descriptor: Descriptor, options: Abortable): Promise<boolean> {
    const { transport, scopes, ecr } = this.#context;
    const what = `look for blob ${shortDigest(descriptor.digest)} in ${this.#named}`;
    const request = { what, url: this.#blobUrl(descriptor.digest), scopes, operation: 'find-blob' } as const;
    if (this.#headsBlobs) {
      try {
        const head = await transport.send({ ...request, method: 'HEAD', accept: [200, 404] }, options);
        const length = head.header('content-length');
        // a proxy that compresses gives the length of what it would send
        const isLength = length !== undefined && encodingsOf(head).length === 0;
        return head.status === 200 && (!isLength || Number(length) === descriptor.size);
      } catch (error) {
        // also where storage refuses the HEAD of a URL that was signed for GET
        if (ecr !== undefined || !isFailure(error, 'UNAUTHENTICATED', 'DENIED', 'UNSUPPORTED', 'INVALID')) throw error;
        this.#headsBlobs = false;
      }
    }
    const headers = { range: 'bytes=0-0' };
    // 416: an empty blob has no first byte
    const answer = await transport.open({ ...request, method: 'GET', headers, accept: [200, 206, 404, 416] }, options);
    answer.discard();
    return answer.status !== 404;
  }

  async #putManifest(reference: string, descriptor: Descriptor, open: () => Bytes, options: Abortable): Promise<void> {
    checkAborted(options);
    const bytes = await manifestBytes(descriptor, open);
    const manifest = parseManifest(bytes, descriptor.mediaType);
    const answer = await this.#inRepository(
      async () => this.#manifests.put(reference, descriptor.mediaType, bytes, options),
      options,
    );
    if (manifest.subject === undefined) return;
    await this.#referrers.register(
      manifest.subject.digest,
      descriptor,
      manifest,
      answer.header('oci-subject') !== undefined,
      options,
    );
  }

  /**
   * What a tag or digest stands for; undefined when it does not exist, or when we may write but not read: some registries answer 403 for what
   * does not exist (https://github.com/sigstore/cosign/issues/2973). The push decides.
   */
  async #seen(reference: string, options: Abortable): Promise<Descriptor | undefined> {
    try {
      return await this.#manifests.find(reference, options);
    } catch (error) {
      if (isFailure(error, 'DENIED', 'UNAUTHENTICATED', 'UNSUPPORTED')) return undefined;
      throw error;
    }
  }

  /** Does `work`, once more when it failed because ECR does not have the repository and it could be created. */
  async #inRepository<T>(work: () => Promise<T>, options: Abortable): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const { ecr, create, name } = this.#context;
      if (ecr === undefined || !isMissingRepository(error)) throw error;
      if (create === undefined) {
        const hint = 'create it first, or let it be created';
        throw new Failure('NOT_FOUND', `${error.message}; ${hint}`, { cause: error, context: error.context });
      }
      // for all that are pushed into it now
      this.#creating ??= ecr.create(name, create, {}).finally(() => (this.#creating = undefined));
      await orAborted(this.#creating, options);
      return work();
    }
  }

  #blobUrl(digest: Digest): string {
    return `/v2/${this.#context.name}/blobs/${digest}`;
  }

  get #named(): string {
    return `${this.#context.host}/${this.#context.name}`;
  }
}

/**
 * The body of a small blob, such as a config, whose answer has a Content-Encoding that was not asked for. A body of the blob's own size is the
 * blob, which may be stored compressed and with that header. Any other is decoded.
 */
async function smallBlob(
  what: string,
  answer: HttpAnswer & { readonly body: Bytes },
  { size }: Descriptor,
): Promise<Bytes> {
  const tooLarge = (): Failure =>
    new Failure('UNSUPPORTED', `${what}: the answer is longer than ${MAX_MANIFEST_BYTES} bytes`);
  const bytes = await collect(answer.body, MAX_MANIFEST_BYTES, tooLarge);
  return once(bytes.byteLength === size ? bytes : await decoded(what, answer, bytes, MAX_MANIFEST_BYTES));
}

function isMissingRepository(error: unknown): error is Failure {
  return isFailure(error, 'NOT_FOUND') && error.context['registryCode'] === 'NAME_UNKNOWN';
}

/** INVALID when it is larger than registries take: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests */
async function manifestBytes({ digest, size }: Descriptor, open: () => Bytes): Promise<Uint8Array> {
  const tooLarge = (): Failure =>
    new Failure('INVALID', `${digest}: a manifest of ${size} bytes is larger than registries take`);
  if (size > MAX_MANIFEST_BYTES) throw tooLarge();
  return collect(open(), MAX_MANIFEST_BYTES, tooLarge);
}
