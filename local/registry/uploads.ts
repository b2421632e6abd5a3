import type { Digest } from '../../worker/oci/digest.ts';
import { refuse, requireDigest, type Answer, type Exchange } from './exchange.ts';
import type { Route } from './route.ts';
import type { Rules } from './rules.ts';
import { Seal } from './seal.ts';
import type { RegistryStore, StoredRepository } from './store.ts';
import type { Upload } from './upload.ts';

type UploadRoute = Extract<Route, { kind: `upload-${string}` }>;

/** The uploads of blobs: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-blobs */
export class Uploads {
  readonly #store: RegistryStore;
  readonly #rules: Rules;
  /** Seals upload locations, which clients hand back but do not make. */
  readonly #seal = new Seal();

  constructor(store: RegistryStore, rules: Rules) {
    this.#store = store;
    this.#rules = rules;
  }

  async answer(exchange: Exchange, route: UploadRoute): Promise<Answer> {
    switch (route.kind) {
      case 'upload-post':
        return this.#begin(exchange, this.#rules.repository(route.repository, true));
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

  async #begin(exchange: Exchange, repository: StoredRepository): Promise<Answer> {
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

  /** A Location stands for the bytes that were there when it was given out; a client that was cut off gets the newest with a GET. */
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

/** https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-a-blob-in-chunks; half open. */
function parseChunkRange(header: string | undefined): { readonly from: number; readonly to: number } | undefined {
  if (header === undefined) return undefined;
  const [, first, last] = /^([0-9]+)-([0-9]+)$/.exec(header) ?? [];
  if (first === undefined || last === undefined || Number(last) < Number(first)) {
    throw refuse(400, 'BLOB_UPLOAD_INVALID', 'Content-Range of a chunk is <first byte>-<last byte>');
  }
  return { from: Number(first), to: Number(last) + 1 };
}
