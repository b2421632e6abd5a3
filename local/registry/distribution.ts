import { algorithmOf, digestOf, parseDigest, type Digest } from '../../worker/oci/digest.ts';
import {
  childrenOf,
  isForeign,
  isManifestType,
  MAX_MANIFEST_BYTES,
  MEDIA_TYPE,
  parseManifest,
  type Descriptor,
  type Manifest,
} from '../../worker/oci/manifest.ts';
import { isTag } from '../../worker/oci/reference.ts';
import type { Clock } from '../../worker/util/clock.ts';
import { isFailure } from '../../worker/util/failure.ts';
import { json, refuse, type Answer, type Exchange } from './exchange.ts';
import type { Route } from './route.ts';
import { Seal } from './seal.ts';
import { describeManifest, type RegistryStore, type StoredManifest, type StoredRepository } from './store.ts';
import type { Upload } from './upload.ts';

/** Where registries differ. Whatever a rule forbids it throws as a `Refusal`. */
export interface Rules {
  /** The repository; where it is missing, a registry may make it for a push. */
  repository(name: string, forPush: boolean): StoredRepository;
  /** What every Location begins with: the registry's own address, or nothing where they are relative. */
  readonly origin: () => string;
  /** Whether the Location of an upload has a query and changes with each answer: the next request must use it as it is. */
  readonly movingLocations: boolean;
  /** Whether `POST …/uploads/?digest=` brings the blob along; otherwise it begins an upload as any POST does. */
  readonly singlePost: boolean;
  /** Of the answer to a PATCH that was taken. */
  readonly chunkStatus: 201 | 202;
  /** The Range header that is to say how much of the upload there is. */
  rangeOf(upload: Upload): string;
  /** Bytes come; `from` is where they begin, if the request says so. */
  checkChunk(upload: Upload, from: number | undefined): void;
  /** All bytes have come. */
  checkComplete(upload: Upload): void;
  /** What is said when bytes are not those of the digest they came under. */
  digestMismatch(digest: Digest): Error;
  mayMount(to: StoredRepository, from: StoredRepository, digest: Digest): boolean;
  /** Gives a blob out. */
  blob(exchange: Exchange, repository: StoredRepository, digest: Digest, bytes: number): Answer;
  deleteBlob(repository: StoredRepository, digest: Digest): void;
  /** A manifest that can be read was pushed. */
  checkManifest(repository: StoredRepository, pushed: PushedManifest, manifest: Manifest): void;
  /** What is said when a manifest names what is not in its repository. */
  missingChildren(repository: StoredRepository, manifest: Manifest, missing: readonly Digest[]): Error;
  /** A manifest is about to be given out. */
  pulled(exchange: Exchange, repository: StoredRepository, manifest: StoredManifest): void;
  /** Removes what a tag or digest stands for. */
  deleteManifest(repository: StoredRepository, manifest: StoredManifest, tag: string | undefined): void;
  /** Which manifests refer to this one; absent where there is no referrers API. */
  referrers?(repository: StoredRepository, subject: Digest): readonly StoredManifest[];
  /** How many of a list are given at once; throws when more are asked for than may be. */
  pageSize(asked: number | undefined): number;
  /** Whether `last` is a cursor of the registry's own; otherwise it is the last item, and the registry's cursors are in `next`. */
  readonly opaqueLast: boolean;
  /** What is said to a list request whose parameter makes no sense. */
  invalidParameter(name: string): Error;
}

interface PushedManifest {
  readonly tag: string | undefined;
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Uint8Array;
}

/** https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md, over a store, as `rules` have it. */
export class Distribution {
  readonly #store: RegistryStore;
  readonly #rules: Rules;
  readonly #clock: Clock;
  /** Of upload locations and list cursors, which clients hand back but do not make. */
  readonly #seal = new Seal();

  constructor(store: RegistryStore, rules: Rules, clock: Clock) {
    this.#store = store;
    this.#rules = rules;
    this.#clock = clock;
  }

  async answer(exchange: Exchange, route: Route): Promise<Answer> {
    if ('repository' in route && (!NAME.test(route.repository) || route.repository.length > MAX_NAME)) {
      throw refuse(400, 'NAME_INVALID', `${JSON.stringify(route.repository)} is not a repository name`);
    }
    switch (route.kind) {
      case 'unknown':
      case 'token':
      case 'api':
      case 'layer-get':
      case 'layer-head':
        throw refuse(404, 'UNSUPPORTED', `a registry knows no ${exchange.method} ${exchange.url.pathname}`);
      case 'unsupported':
        throw refuse(405, 'UNSUPPORTED', `${exchange.method} is not supported here`, {
          headers: { allow: route.allow },
        });
      case 'base':
        return json({});
      case 'catalog-list':
        return this.#catalog(exchange);
      case 'tags-list':
        return this.#tags(exchange, this.#rules.repository(route.repository, false));
      case 'referrers-list':
        return this.#referrers(exchange, this.#rules.repository(route.repository, false), route.digest);
      case 'manifest-head':
      case 'manifest-get':
        return this.#manifest(exchange, this.#rules.repository(route.repository, false), route.reference);
      case 'manifest-put':
        return this.#putManifest(exchange, route.repository, route.reference);
      case 'manifest-delete':
        return this.#deleteManifest(this.#rules.repository(route.repository, false), route.reference);
      case 'blob-head':
      case 'blob-get': {
        const { r: repository, digest, bytes } = this.#findBlob(route);
        return this.#rules.blob(exchange, repository, digest, bytes);
      }
      case 'blob-delete': {
        const { r: repository, digest } = this.#findBlob(route);
        this.#rules.deleteBlob(repository, digest);
        return { status: 202 };
      }
      case 'upload-post':
        return this.#beginUpload(exchange, this.#rules.repository(route.repository, true));
      case 'upload-get':
        return this.#withUpload(exchange, route, async (repository, upload) => ({
          ...this.#accepted(repository, upload),
          status: 204,
        }));
      case 'upload-patch':
        return this.#withUpload(exchange, route, async (repository, upload) => {
          this.#checkLocation(exchange, upload);
          await this.#append(exchange, upload);
          return { ...this.#accepted(repository, upload), status: this.#rules.chunkStatus };
        });
      case 'upload-put':
        return this.#withUpload(exchange, route, async (repository, upload) => {
          this.#checkLocation(exchange, upload);
          return this.#receive(
            exchange,
            repository,
            upload,
            requireDigest(exchange.url.searchParams.get('digest') ?? ''),
          );
        });
      case 'upload-delete':
        return this.#withUpload(exchange, route, async (_, upload) => {
          await this.#store.discardUpload(upload);
          return { status: 204 };
        });
      default:
        return route satisfies never;
    }
  }

  // ---- lists

  #catalog(exchange: Exchange): Answer {
    const { page, headers } = this.#page(exchange, [...this.#store.repositories.keys()].sort(), (name) => name);
    return json({ repositories: page }, headers);
  }

  #tags(exchange: Exchange, repository: StoredRepository): Answer {
    const { page, headers } = this.#page(exchange, [...repository.tags.keys()].sort(lexically), (tag) => tag);
    return json({ name: repository.name, tags: page }, headers);
  }

  #referrers(exchange: Exchange, repository: StoredRepository, subject: Digest | undefined): Answer {
    if (this.#rules.referrers === undefined) throw refuse(404, 'UNSUPPORTED', 'this registry has no referrers API');
    if (subject === undefined) throw refuse(400, 'DIGEST_INVALID', 'expected a digest behind referrers/');
    const artifactType = exchange.url.searchParams.get('artifactType');
    const found = this.#rules
      .referrers(repository, subject)
      .filter((manifest) => artifactType === null || manifest.artifactType === artifactType)
      .sort((a, b) => lexically(a.digest, b.digest));
    const { page, headers } = this.#page(exchange, found, (manifest) => manifest.digest);
    const manifests = page.map(asDescriptor);
    return json(
      { schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests },
      {
        ...headers,
        'content-type': MEDIA_TYPE.ociIndex,
        ...(artifactType === null ? {} : { 'oci-filters-applied': 'artifactType' }),
      },
    );
  }

  /** The part of a sorted list that the request asks for, and the Link to what comes behind it, which only this registry can read. */
  #page<T>(
    exchange: Exchange,
    items: readonly T[],
    keyOf: (item: T) => string,
  ): { readonly page: readonly T[]; readonly headers: Readonly<Record<string, string>> } {
    const query = exchange.url.searchParams;
    const n = query.get('n');
    if (n !== null && !/^[0-9]{1,9}$/.test(n)) throw this.#rules.invalidParameter('n');
    const size = this.#rules.pageSize(n === null ? undefined : Number(n));
    const cursorName = this.#rules.opaqueLast ? 'last' : 'next';
    const cursor = query.get(cursorName);
    const after = cursor === null ? query.get('last') : this.#seal.open(cursor);
    if (after === undefined) throw this.#rules.invalidParameter(cursorName);
    const rest = after === null ? items : items.filter((item) => lexically(keyOf(item), after) > 0);
    const page = rest.slice(0, size);
    const last = page.at(-1);
    if (last === undefined || page.length === rest.length) return { page, headers: {} };
    const next = new URLSearchParams(query);
    next.delete('last');
    next.set(cursorName, this.#seal.close(keyOf(last)));
    return { page, headers: { link: `<${exchange.url.pathname}?${next.toString()}>; rel="next"` } };
  }

  // ---- manifests

  #manifest(exchange: Exchange, repository: StoredRepository, reference: string): Answer {
    const manifest = findManifest(repository, reference);
    const accept = exchange.headers.accept;
    if (accept !== undefined && !accepts(accept, manifest.mediaType)) {
      throw refuse(
        404,
        'MANIFEST_UNKNOWN',
        `the manifest is ${manifest.mediaType}, which the Accept header does not allow`,
      );
    }
    this.#rules.pulled(exchange, repository, manifest);
    const etag = `"${manifest.digest}"`;
    if (exchange.headers['if-none-match'] === etag) return { status: 304, headers: { etag } };
    return {
      status: 200,
      headers: { 'content-type': manifest.mediaType, 'docker-content-digest': manifest.digest, etag },
      body: { path: this.#store.path(manifest.digest), from: 0, bytes: manifest.bytes },
    };
  }

  async #putManifest(exchange: Exchange, repository: string, reference: string): Promise<Answer> {
    const tag = reference.includes(':') ? undefined : reference;
    if (tag !== undefined && !isTag(tag)) throw refuse(400, 'MANIFEST_INVALID', `${JSON.stringify(tag)} is not a tag`);
    const asked = tag === undefined ? requireDigest(reference) : undefined;
    const bytes = await exchange.bodyUpTo(MAX_MANIFEST_BYTES);
    if (bytes === undefined) {
      throw refuse(413, 'SIZE_INVALID', `a manifest has ${MAX_MANIFEST_BYTES} bytes at most`);
    }
    const digest = digestOf(bytes, asked === undefined ? 'sha256' : algorithmOf(asked));
    if (asked !== undefined && asked !== digest) {
      throw refuse(400, 'DIGEST_INVALID', `the manifest is ${digest}, not ${asked}`);
    }
    const mediaType = (exchange.headers['content-type'] ?? '').replace(/;.*$/s, '').trim();
    const pushed: PushedManifest = { tag, digest, mediaType, bytes };
    const manifest = readManifest(pushed);
    const r = this.#rules.repository(repository, true);
    this.#rules.checkManifest(r, pushed, manifest);
    const missing = missingIn(r, manifest);
    if (missing.length > 0) throw this.#rules.missingChildren(r, manifest, missing);
    const known = r.manifests.get(digest);
    const stored = describeManifest(manifest, bytes, digest, this.#clock.now());
    if (known === undefined || known.archivedAtMs !== undefined || known.mediaType !== mediaType) {
      this.#store.putManifest(r, stored, bytes);
    }
    if (tag !== undefined) this.#store.tag(r, tag, digest);
    const subject = this.#rules.referrers === undefined ? undefined : stored.subject;
    return {
      status: 201,
      headers: {
        location: `${this.#rules.origin()}/v2/${r.name}/manifests/${digest}`,
        'docker-content-digest': digest,
        ...(subject === undefined ? {} : { 'oci-subject': subject }),
      },
    };
  }

  #deleteManifest(repository: StoredRepository, reference: string): Answer {
    const manifest = findManifest(repository, reference);
    this.#rules.deleteManifest(repository, manifest, reference.includes(':') ? undefined : reference);
    return { status: 202 };
  }

  // ---- blobs

  #findBlob(route: { readonly repository: string; readonly reference: string }): {
    readonly r: StoredRepository;
    readonly digest: Digest;
    readonly bytes: number;
  } {
    const repository = this.#rules.repository(route.repository, false);
    const digest = requireDigest(route.reference);
    const bytes = repository.blobs.get(digest);
    if (bytes === undefined) throw refuse(404, 'BLOB_UNKNOWN', `${repository.name} has no blob ${digest}`);
    return { r: repository, digest, bytes };
  }

  async #beginUpload(exchange: Exchange, repository: StoredRepository): Promise<Answer> {
    const query = exchange.url.searchParams;
    const mount = query.get('mount');
    const from = query.get('from');
    if (mount !== null && from !== null) {
      const digest = requireDigest(mount);
      const source = this.#store.repositories.get(from);
      const bytes = source?.blobs.get(digest);
      if (source !== undefined && bytes !== undefined && this.#rules.mayMount(repository, source, digest)) {
        this.#store.linkBlob(repository, digest, bytes);
        return this.#created(repository, digest);
      }
    }
    const digest = query.get('digest');
    if (digest === null || !this.#rules.singlePost)
      return this.#accepted(repository, this.#store.beginUpload(repository));
    const expected = requireDigest(digest);
    return this.#receive(exchange, repository, this.#store.beginUpload(repository), expected);
  }

  /** Takes the last bytes of an upload, if there are any, and makes it a blob. */
  async #receive(exchange: Exchange, repository: StoredRepository, upload: Upload, digest: Digest): Promise<Answer> {
    await this.#append(exchange, upload);
    this.#rules.checkComplete(upload);
    if (!(await this.#store.finishUpload(repository, upload, digest))) throw this.#rules.digestMismatch(digest);
    return this.#created(repository, digest);
  }

  async #append(exchange: Exchange, upload: Upload): Promise<void> {
    const range = parseChunkRange(exchange.headers['content-range']);
    if (range === undefined && !exchange.hasBody) return;
    this.#rules.checkChunk(upload, range?.from);
    const start = upload.bytes;
    const length = exchange.headers['content-length'];
    if (range !== undefined && length !== undefined && Number(length) !== range.to - range.from) {
      throw refuse(400, 'SIZE_INVALID', 'Content-Length and Content-Range disagree');
    }
    await upload.append(exchange.body());
    if (range !== undefined && upload.bytes - start !== range.to - range.from) {
      await this.#store.discardUpload(upload);
      throw refuse(
        400,
        'SIZE_INVALID',
        `${upload.bytes - start} bytes came where Content-Range said ${range.to - range.from}`,
      );
    }
  }

  /** Runs `work` on the upload that the request is for, alone. */
  async #withUpload(
    exchange: Exchange,
    route: { readonly repository: string; readonly upload: string },
    work: (repository: StoredRepository, upload: Upload) => Promise<Answer>,
  ): Promise<Answer> {
    const repository = this.#rules.repository(route.repository, false);
    const find = (): Upload => {
      const upload = this.#store.upload(route.upload);
      if (upload?.repository !== repository.name) throw refuse(404, 'BLOB_UPLOAD_UNKNOWN', 'there is no such upload');
      if (!this.#rules.movingLocations || this.#isOurs(exchange, upload)) return upload;
      throw refuse(400, 'BLOB_UPLOAD_INVALID', 'use the Location as it was given, with its query');
    };
    // looked for again when its turn has come: the request before may have ended it
    return find().turn.run(async () => work(repository, find()), { signal: exchange.signal });
  }

  #isOurs(exchange: Exchange, upload: Upload): boolean {
    const [bytes, signature = ''] = stateOf(exchange);
    return this.#seal.isSigned(`${upload.id} ${bytes}`, signature);
  }

  /** A Location is of the bytes there were when it was given out; whoever was cut off asks for the newest with a GET. */
  #checkLocation(exchange: Exchange, upload: Upload): void {
    if (!this.#rules.movingLocations || Number(stateOf(exchange)[0]) === upload.bytes) return;
    throw refuse(416, 'BLOB_UPLOAD_INVALID', 'the upload has moved on: ask for its Location with a GET');
  }

  #accepted(repository: StoredRepository, upload: Upload): Answer {
    const state = this.#rules.movingLocations
      ? `?_state=${upload.bytes}.${this.#seal.sign(`${upload.id} ${upload.bytes}`)}`
      : '';
    return {
      status: 202,
      headers: {
        location: `${this.#rules.origin()}/v2/${repository.name}/blobs/uploads/${upload.id}${state}`,
        range: this.#rules.rangeOf(upload),
        'docker-upload-uuid': upload.id,
      },
    };
  }

  #created(repository: StoredRepository, digest: Digest): Answer {
    const location = `${this.#rules.origin()}/v2/${repository.name}/blobs/${digest}`;
    return { status: 201, headers: { location, 'docker-content-digest': digest } };
  }
}

/** What an upload's Location carries: its bytes, and the signature of that. */
function stateOf(exchange: Exchange): readonly string[] {
  return (exchange.url.searchParams.get('_state') ?? '').split('.');
}

// https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests
const NAME = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const MAX_NAME = 255;

/** The order of lists: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags */
function lexically(a: string, b: string): number {
  const [x, y] = [a.toLowerCase(), b.toLowerCase()];
  if (x !== y) return x < y ? -1 : 1;
  return a === b ? 0 : a < b ? -1 : 1;
}

function findManifest(repository: StoredRepository, reference: string): StoredManifest {
  const digest = reference.includes(':') ? requireDigest(reference) : repository.tags.get(reference);
  const manifest = digest === undefined ? undefined : repository.manifests.get(digest);
  if (manifest === undefined) throw refuse(404, 'MANIFEST_UNKNOWN', `${repository.name} has no manifest ${reference}`);
  return manifest;
}

function asDescriptor(manifest: StoredManifest): Descriptor {
  return {
    mediaType: manifest.mediaType,
    digest: manifest.digest,
    size: manifest.bytes,
    ...(manifest.artifactType === undefined ? {} : { artifactType: manifest.artifactType }),
    ...(manifest.annotations === undefined ? {} : { annotations: manifest.annotations }),
  };
}

function readManifest(pushed: PushedManifest): Manifest {
  try {
    return parseManifest(pushed.bytes, pushed.mediaType);
  } catch (error) {
    if (isFailure(error)) throw refuse(400, 'MANIFEST_INVALID', error.message);
    throw error;
  }
}

/** What the manifest names that its repository has not. Layers that stay elsewhere are not asked for. */
function missingIn(repository: StoredRepository, manifest: Manifest): readonly Digest[] {
  return childrenOf(manifest)
    .filter((child) => {
      if (isForeign(child)) return false;
      if (manifest.kind !== 'index') return !repository.blobs.has(child.digest);
      return (
        !repository.manifests.has(child.digest) &&
        (isManifestType(child.mediaType) || !repository.blobs.has(child.digest))
      );
    })
    .map((child) => child.digest);
}

/** https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-a-blob-in-chunks; half open. */
function parseChunkRange(header: string | undefined): { readonly from: number; readonly to: number } | undefined {
  if (header === undefined) return undefined;
  const [, first, last] = /^([0-9]+)-([0-9]+)$/.exec(header) ?? [];
  if (first === undefined || last === undefined || Number(last) < Number(first)) {
    throw refuse(400, 'BLOB_UPLOAD_INVALID', 'Content-Range of a chunk is <first byte>-<last byte>');
  }
  return { from: Number(first), to: Number(last) + 1 };
}

function requireDigest(text: string): Digest {
  try {
    return parseDigest(text);
  } catch (error) {
    if (isFailure(error)) throw refuse(400, 'DIGEST_INVALID', error.message);
    throw error;
  }
}

/** https://www.rfc-editor.org/rfc/rfc9110.html#section-12.5.1, without weights. */
function accepts(accept: string, mediaType: string): boolean {
  const type = mediaType.slice(0, mediaType.indexOf('/'));
  return accept.split(',').some((part) => {
    const range = part.replace(/;.*$/s, '').trim();
    return range === mediaType || range === '*/*' || range === `${type}/*`;
  });
}
