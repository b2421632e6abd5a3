import type { Bytes } from '../../content/content.ts';
import type { Abortable } from '../../util/abort.ts';
import type { DeletableStore, Doomed, NotRemoved } from '../deletable.ts';
import type {
  ObjectInfo,
  ObjectStore,
  ReadOptions,
  Upload,
  UploadOptions,
  VersionOptions,
  WriteOptions,
} from '../objects.ts';
import { RANGES_AT_ONCE } from './ranges-at-once.ts';
import type { openS3, S3StoreOptions } from './store.ts';

type S3 = ReturnType<typeof openS3>;

/** As `openS3`, but its code and the SDK are loaded with the first call: most copies reach no bucket. */
export function openS3Late(options: S3StoreOptions): S3 {
  return new LateStore(options);
}

class LateStore implements ObjectStore, DeletableStore, AsyncDisposable {
  readonly rangesAtOnce = RANGES_AT_ONCE;
  readonly #options: S3StoreOptions;
  #opened: Promise<S3> | undefined;

  constructor(options: S3StoreOptions) {
    this.#options = options;
  }

  async #open(): Promise<S3> {
    const { openS3 } = await import('./store.ts');
    return openS3(this.#options);
  }

  get #store(): Promise<S3> {
    return (this.#opened ??= this.#open());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const opened = await this.#opened;
    await opened?.[Symbol.asyncDispose]();
  }

  describe(key: string): string {
    return `s3://${this.#options.bucket}/${key}`;
  }

  async stat(key: string, options?: VersionOptions): Promise<ObjectInfo> {
    return (await this.#store).stat(key, options);
  }

  async read(key: string, options?: ReadOptions): Promise<Bytes> {
    return (await this.#store).read(key, options);
  }

  async presigned(key: string, options: Abortable & { readonly seconds: number }): Promise<string> {
    return (await this.#store).presigned(key, options);
  }

  async write(key: string, body: Uint8Array, options?: WriteOptions): Promise<ObjectInfo> {
    return (await this.#store).write(key, body, options);
  }

  async stream(key: string, body: Bytes, options?: WriteOptions): Promise<ObjectInfo> {
    return (await this.#store).stream(key, body, options);
  }

  async *list(prefix: string, options?: Abortable): AsyncIterable<ObjectInfo> {
    yield* (await this.#store).list(prefix, options);
  }

  async upload(key: string, size: number, options: UploadOptions): Promise<Upload> {
    return (await this.#store).upload(key, size, options);
  }

  async remove(items: readonly Doomed[], options?: Abortable): Promise<readonly NotRemoved[]> {
    return (await this.#store).remove(items, options);
  }
}
