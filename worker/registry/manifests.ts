import { once } from '../content/bytes.ts';
import type { Bytes, OpenOptions, ResolveOptions } from '../content/content.ts';
import { algorithmOf, digestOf, parseDigest, type Digest } from '../oci/digest.ts';
import {
  isManifestType,
  MANIFEST_MEDIA_TYPES,
  MAX_MANIFEST_BYTES,
  mediaTypeByBytes,
  mediaTypeOf,
  type Descriptor,
} from '../oci/manifest.ts';
import { isTag } from '../oci/reference.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, ifFound, isFailure } from '../util/failure.ts';
import { retry } from '../util/retry.ts';
import type { RepositoryContext } from './context.ts';
import { encodingsOf } from './transport/content-encoding.ts';
import type { HttpAnswer } from './transport/layer.ts';

const ACCEPT = { accept: MANIFEST_MEDIA_TYPES.join(', ') };
/**
 * Tags that are mostly asked for in vain: those under which others keep what refers to an image, and those of published objects, of which
 * each is looked for before it is pushed.
 */
const OFTEN_MISSING = /^(?:sha(?:256|512)-[0-9a-f]{64}|[0-9a-f]{64}$)/;

/** The manifests of one repository. */
export class Manifests {
  readonly #context: RepositoryContext;

  constructor(context: RepositoryContext) {
    this.#context = context;
  }

  /** What a tag or digest stands for. NOT_FOUND when nothing does. */
  async resolve(reference: string, options: ResolveOptions): Promise<Descriptor> {
    try {
      const { clock, resolvedTags } = this.#context;
      const key = this.#named(reference);
      const known = resolvedTags.get(key);
      if (known !== undefined && known.askedMs >= (options.answersSinceMs ?? Infinity)) return known.descriptor;
      const askedMs = clock.now();
      const descriptor = await this.#ask(reference, options);
      if (isTag(reference)) resolvedTags.set(key, { descriptor, askedMs });
      return descriptor;
    } catch (error) {
      if (isFailure(error, 'NOT_FOUND') && options.saysWhy !== false)
        throw await this.#notFound(error, reference, options);
      throw error;
    }
  }

  /** As `resolve`, but undefined when nothing does. DENIED where a HEAD is: a push may do without the answer. */
  async find(reference: string, options: Abortable): Promise<Descriptor | undefined> {
    return ifFound(this.#look(reference, options, isUnknownHead));
  }

  /** Reads a manifest, verified against the digest where the reference is one. */
  async get(
    reference: string,
    options: Abortable,
  ): Promise<{ readonly descriptor: Descriptor; readonly bytes: Uint8Array }> {
    const what = `read manifest ${this.#named(reference)}`;
    const { clock, report } = this.#context;
    const pull = async (): Promise<HttpAnswer & { readonly bytes: Buffer }> =>
      this.#pull(reference, what, MAX_MANIFEST_BYTES, options);
    const answer = await retry(what, pull, { clock, report, signal: options.signal });
    const { bytes } = answer;
    const wanted = isTag(reference) ? undefined : parseDigest(reference);
    const digest = digestOf(bytes, wanted === undefined ? 'sha256' : algorithmOf(wanted));
    if (wanted !== undefined && digest !== wanted)
      throw new Failure('CORRUPT', `${what}: the registry gave bytes that do not match the digest`);
    // GET by tag may be a translation, which is another image: https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-manifest-formats.html
    checkSaid(what, answer, digest);
    const mediaType = this.#mediaTypeOf(what, answer, bytes);
    this.#context.keptManifests.set(this.#keyOf(digest), bytes);
    return { descriptor: { mediaType, digest, size: bytes.byteLength }, bytes };
  }

  /** The raw bytes, for `read`, which verifies and retries. */
  async open(descriptor: Descriptor, options: OpenOptions): Promise<Bytes> {
    const kept = this.#context.keptManifests.get(this.#keyOf(descriptor.digest));
    if (kept !== undefined) return once(kept);
    const what = `read manifest ${this.#named(descriptor.digest)}`;
    const limit = Math.max(descriptor.size, MAX_MANIFEST_BYTES);
    try {
      const { bytes } = await this.#pull(descriptor.digest, what, limit, options);
      options.onAnswered?.();
      return once(bytes);
    } catch (error) {
      if (isFailure(error, 'NOT_FOUND')) throw await this.#notFound(error, descriptor.digest, options);
      throw error;
    }
  }

  /** Stores a manifest under its digest or a tag. */
  async put(reference: string, mediaType: string, bytes: Uint8Array, options: Abortable): Promise<HttpAnswer> {
    const { pace, resolvedTags } = this.#context;
    const what = `push manifest ${this.#named(reference)}`;
    const pushed = this.#context.transport.send(
      {
        what,
        operation: 'write-manifest',
        method: 'PUT',
        url: this.#url(reference),
        headers: { 'content-type': mediaType },
        body: bytes,
        accept: [200, 201, 202, 204],
        scopes: this.#context.scopes,
        admit: pace === undefined ? undefined : async (taskOptions) => pace.take(taskOptions),
      },
      options,
    );
    // also when it fails: the registry may have moved the tag
    const answer = await pushed.finally(() => resolvedTags.delete(this.#named(reference)));
    if (isTag(reference)) checkSaid(what, answer, digestOf(bytes));
    else checkSaid(what, answer, parseDigest(reference));
    return answer;
  }

  async #ask(reference: string, options: ResolveOptions): Promise<Descriptor> {
    if (options.willRead === true) {
      try {
        return (await this.get(reference, options)).descriptor;
      } catch (error) {
        // what cannot be read may be named all the same
        if (!isFailure(error, 'CORRUPT', 'UNSUPPORTED', 'INVALID')) throw error;
      }
    }
    // a 403 may be that of AWS for the sign-in to ECR
    const forgives = this.#context.ecr === undefined ? isRefusedHead : isUnknownHead;
    return this.#look(reference, options, forgives);
  }

  /** By a HEAD, which is free at Docker Hub; by a GET where a registry's HEAD lacks what is needed or fails with what `forgives` accepts. */
  async #look(reference: string, options: Abortable, forgives: (error: unknown) => boolean): Promise<Descriptor> {
    try {
      const head = await this.#head(reference, options);
      if (head !== undefined) return head;
    } catch (error) {
      if (!forgives(error)) throw error;
    }
    const { descriptor } = await this.get(reference, options);
    return descriptor;
  }

  async #head(reference: string, options: Abortable): Promise<Descriptor | undefined> {
    const what = `resolve ${this.#named(reference)}`;
    const answer = await this.#context.transport.send(
      {
        what,
        operation: 'read-manifest',
        method: 'HEAD',
        url: this.#url(reference),
        headers: ACCEPT,
        accept: [200],
        scopes: this.#context.scopes,
      },
      options,
    );
    const length = answer.header('content-length') ?? '';
    const mediaType = contentType(answer);
    // some proxies answer HEAD with 0, or with the length of the compressed document
    const isLength = /^\d+$/.test(length) && Number(length) > 0 && encodingsOf(answer).length === 0;
    if (!isLength || mediaType === undefined || !isManifestType(mediaType)) return undefined;
    const size = Number(length);
    if (!isTag(reference)) {
      const digest = parseDigest(reference);
      checkSaid(what, answer, digest);
      return { mediaType, digest, size };
    }
    const digest = saidDigest(answer);
    return digest === undefined ? undefined : { mediaType, digest, size };
  }

  /** One try. */
  async #pull(
    reference: string,
    what: string,
    limit: number,
    options: Abortable,
  ): Promise<HttpAnswer & { readonly bytes: Buffer }> {
    const { pulls, transport, scopes } = this.#context;
    if (pulls.stale) await this.#head(reference, options);
    const done = pulls.admit(what);
    try {
      return await transport.send(
        {
          what,
          operation: 'read-manifest',
          method: 'GET',
          url: this.#url(reference),
          headers: ACCEPT,
          accept: [200],
          scopes,
          attempts: 1,
        },
        { ...options, limit },
      );
    } catch (error) {
      // Hub reports its pull limit by 429 as well; waiting for it here is of no use
      if (isFailure(error, 'THROTTLED') && pulls.spent) throw pulls.exhausted(what);
      throw error;
    } finally {
      done();
    }
  }

  /** An archived image of ECR is answered as one that is missing: https://docs.aws.amazon.com/AmazonECR/latest/userguide/archive-image.html */
  async #notFound(error: Failure, reference: string, options: Abortable): Promise<Failure> {
    const { ecr, name } = this.#context;
    if (ecr === undefined || OFTEN_MISSING.test(reference)) return error;
    const id = isTag(reference) ? { imageTag: reference } : { imageDigest: reference };
    if (!(await ecr.isArchived(name, id, options))) return error;
    return new Failure(
      'NOT_FOUND',
      `read ${this.#named(reference)}: it is archived and cannot be pulled; restore it to the STANDARD storage class first`,
      { cause: error, context: { ...error.context, archived: true } },
    );
  }

  #mediaTypeOf(what: string, answer: HttpAnswer, bytes: Uint8Array): string {
    const said = contentType(answer);
    const byBytes = mediaTypeByBytes(bytes, said);
    if (byBytes !== undefined && isManifestType(byBytes)) return byBytes;
    if (said?.startsWith('application/vnd.docker.distribution.manifest.v1') === true)
      throw new Failure('UNSUPPORTED', `${what}: it is of docker's schema 1, which is obsolete; push the image anew`);
    const own = mediaTypeOf(bytes) ?? said;
    if (own === undefined) throw new Failure('UNSUPPORTED', `${what}: the registry does not say what kind it is of`);
    return own;
  }

  #named(reference: string): string {
    return `${this.#context.host}/${this.#context.name}${isTag(reference) ? ':' : '@'}${reference}`;
  }

  #keyOf(digest: Digest): string {
    return `${this.#context.name}@${digest}`;
  }

  #url(reference: string): string {
    return `/v2/${this.#context.name}/manifests/${reference}`;
  }
}

/** Whether a HEAD failed because the registry does not know how to answer it. */
function isUnknownHead(error: unknown): boolean {
  return isFailure(error, 'UNSUPPORTED', 'INVALID');
}

/** As `isUnknownHead`, or the registry itself forbids it, as some do that allow the GET. Other DENIED failures are about the credentials. */
function isRefusedHead(error: unknown): boolean {
  return isUnknownHead(error) || (isFailure(error, 'DENIED') && error.context.status === 403);
}

function contentType(answer: HttpAnswer): string | undefined {
  return answer.header('content-type')?.split(';')[0]?.trim().toLowerCase();
}

function saidDigest(answer: HttpAnswer): Digest | undefined {
  try {
    return parseDigest(answer.header('docker-content-digest'));
  } catch {
    return undefined;
  }
}

/** CORRUPT when the registry names another digest than the one that was meant; of another algorithm it may name what it likes. */
function checkSaid(what: string, answer: HttpAnswer, digest: Digest): void {
  const said = saidDigest(answer);
  if (said === undefined || said === digest || algorithmOf(said) !== algorithmOf(digest)) return;
  throw new Failure('CORRUPT', `${what}: the registry answered with ${said} instead of ${digest}`);
}
