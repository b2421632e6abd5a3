import { LRUCache } from 'lru-cache';
import { etagOf, modifiedOf } from '../artifacts/listing.ts';
import { EMPTY, EMPTY_BYTES, NO_BYTES } from '../artifacts/names.ts';
import { contentOf, objectArtifact, type ObjectArtifact, type ObjectContent } from '../artifacts/object-artifact.ts';
import type { SnapshotEntry } from '../artifacts/snapshot.ts';
import { PROCESS_AHEAD } from '../content/ahead.ts';
import { bodyAt, once } from '../content/bytes.ts';
import type { Bytes, Readable, Source, Target } from '../content/content.ts';
import { progressOf } from '../content/paced.ts';
import { read, readUnnamed } from '../content/read.ts';
import { watched } from '../content/watch.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import { hexOf } from '../oci/digest.ts';
import type { Descriptor } from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, ifFound, isFailure, onSide } from '../util/failure.ts';
import { SharedPromise } from '../util/shared-promise.ts';
import type { OperationOptions } from './backends.ts';
import { readManifest } from './open-snapshot.ts';

/** Objects up to this size are read once and sent from memory; larger ones are read for their digest, and again to be sent. */
const KEPT_BYTES = 8 * 1024 * 1024;
/** Attempts to read an object that changes while it is read. */
const ATTEMPTS = 3;
/** Artifacts of this run that are remembered, so that equal objects are sent once. */
const REMEMBERED = 10_000;

export interface PublisherOptions extends OperationOptions {
  readonly store: ObjectStore;
  /** Where artifacts are looked up. */
  readonly source: Source;
  /** The same repository, written to. */
  readonly target: Target;
  /** The largest object that the registry takes, in bytes. Absent: any. */
  readonly maxBytes: number | undefined;
}

/** Makes artifacts of objects, one for all that have the same bytes. */
export class ObjectPublisher {
  readonly #options: PublisherOptions;
  readonly #empty = new SharedPromise<void>();
  /** By the tag. */
  readonly #stored = new LRUCache<string, Promise<Descriptor>>({ max: REMEMBERED });

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  /**
   * Makes the registry hold the object's artifact. Undefined where there is no such object any more. Idempotent. INVALID where the registry
   * takes no object of that size, UNSUPPORTED where the store lists the object and does not find it, CONFLICT where the object changes while it is read, three times, or where its tag is something else.
   */
  async publish(key: string, options: Abortable): Promise<SnapshotEntry | undefined> {
    for (let attempt = 1; ; attempt++) {
      try {
        const info = await onSide('source', this.#options.store.stat(key, options));
        this.#checkSize(info);
        return await this.#publishAs(info, options);
      } catch (error) {
        if (!isFailure(error) || error.context.side !== 'source') throw error;
        if (error.code === 'NOT_FOUND' && !(await onSide('source', this.#isListed(key, options)))) return undefined;
        if (!isFailure(error, 'CONFLICT', 'CORRUPT', 'NOT_FOUND')) throw error;
        if (attempt === ATTEMPTS) throw stillChanging(this.#options.store.describe(key), error);
      }
    }
  }

  async #isListed(key: string, options: Abortable): Promise<boolean> {
    for await (const listed of this.#options.store.list(key, options)) return listed.key === key;
    return false;
  }

  async #publishAs(info: ObjectInfo, options: Abortable): Promise<SnapshotEntry> {
    const { key, size, version, contentType, metadata } = info;
    const content = contentIn(this.#options.store, info);
    const name = this.#options.store.describe(key);
    const { clock, report } = this.#options;
    const reading = { ...options, clock, report, ahead: PROCESS_AHEAD };
    const { digest, bytes } =
      size === 0
        ? { digest: NO_BYTES, bytes: EMPTY_BYTES }
        : await onSide('source', readUnnamed(content, { name, size, keep: KEPT_BYTES }, reading));
    const blob = { mediaType: 'application/octet-stream', digest, size };
    const open = (): Bytes => (bytes === undefined ? bodyAt('source', read(content, blob, reading)) : once(bytes));
    const { descriptor, isNew } = await this.#accepted({ key, digest, size, contentType }, open, options);
    report?.({ type: 'object-published', key, digest, bytes: size, outcome: isNew ? 'copied' : 'exists' });
    const [etag, modified] = [etagOf(info.etag), modifiedOf(info.modified)];
    return { key, digest, size, etag, modified, version, contentType, metadata, artifact: descriptor };
  }

  /** Stores the object's artifact; without its content type where the registry refuses that. */
  async #accepted(
    object: ObjectContent,
    open: () => Bytes,
    options: Abortable,
  ): Promise<{ readonly descriptor: Descriptor; readonly isNew: boolean }> {
    const artifact = objectArtifact(object);
    const plain = objectArtifact({ ...object, contentType: undefined });
    try {
      return await this.#shared(artifact, open, options);
    } catch (error) {
      const isRefused = isFailure(error, 'UNSUPPORTED', 'INVALID') && error.context.side === 'target';
      if (!isRefused || artifact.layer.mediaType === plain.layer.mediaType) throw error;
      return this.#shared(plain, open, options);
    }
  }

  /** Stores the artifact, unless another object with the same bytes has it stored or is storing it. */
  async #shared(
    artifact: ObjectArtifact,
    open: () => Bytes,
    options: Abortable,
  ): Promise<{ readonly descriptor: Descriptor; readonly isNew: boolean }> {
    const other = this.#stored.get(artifact.tag);
    if (other !== undefined) {
      try {
        return { descriptor: await other, isNew: false };
      } catch (error) {
        // that object may have changed on the way: this one has bytes of its own
        if (!isFailure(error) || error.context.side !== 'source') throw error;
      }
    }
    let isNew = false;
    const storing = (async () => {
      const found = await this.#find(artifact, options);
      if (found !== undefined) return found;
      await this.#store(artifact, open, options);
      isNew = true;
      return artifact.descriptor;
    })();
    this.#stored.set(artifact.tag, storing);
    try {
      return { descriptor: await storing, isNew };
    } catch (error) {
      if (this.#stored.peek(artifact.tag) === storing) this.#stored.delete(artifact.tag);
      throw error;
    }
  }

  /** The artifact with the same content that the tag stands for. CONFLICT where it stands for something else. */
  async #find({ tag, descriptor }: ObjectArtifact, options: Abortable): Promise<Descriptor | undefined> {
    const { source } = this.#options;
    const found = await onSide('target', ifFound(source.resolve(tag, options)));
    if (found === undefined || found.digest === descriptor.digest) return found;
    const manifest = await onSide('target', readManifest(source, found, { ...this.#options, ...options }));
    const content = contentOf(manifest);
    if (content !== undefined && hexOf(content.digest) === tag) return found;
    throw new Failure(
      'CONFLICT',
      `the tag ${tag} stands for something else, ${found.digest}: remove that tag, or publish to a repository of its own`,
      { context: { side: 'target' } },
    );
  }

  /** Blobs before the manifest, which is stored by its tag. */
  async #store(artifact: ObjectArtifact, open: () => Bytes, options: Abortable): Promise<void> {
    const { target } = this.#options;
    const { layer, descriptor, tag } = artifact;
    const putEmpty = async (): Promise<void> => this.#put(EMPTY, () => once(EMPTY_BYTES), options);
    await this.#empty.get(async () => {
      if (!(await onSide('target', target.has(EMPTY, options)))) await putEmpty();
    });
    const isEmpty = layer.digest === EMPTY.digest;
    if (!isEmpty && !(await onSide('target', target.has(layer, options)))) await this.#put(layer, open, options);
    const push = async (): Promise<void> =>
      onSide(
        'target',
        target.tag(tag, descriptor, () => once(artifact.bytes), options),
      );
    try {
      await push();
    } catch (error) {
      if (!isFailure(error, 'NOT_FOUND')) throw error;
      // the registry reported a blob as present that it does not have
      await putEmpty();
      if (!isEmpty) await this.#put(layer, open, options);
      await push();
    }
  }

  async #put(blob: Descriptor, open: () => Bytes, options: Abortable): Promise<void> {
    const { target, report, clock } = this.#options;
    const { digest, size: bytes } = blob;
    const started = (): Bytes => {
      report?.({ type: 'blob-started', digest, bytes });
      return watched(open(), progressOf(blob, report, clock));
    };
    await onSide('target', target.put(blob, started, options));
    report?.({ type: 'blob-done', digest, bytes, outcome: 'copied' });
  }

  #checkSize({ key, size }: ObjectInfo): void {
    const { maxBytes = Infinity, store } = this.#options;
    if (size <= maxBytes) return;
    throw new Failure(
      'INVALID',
      `${store.describe(key)} has ${size} bytes, and the registry takes layers of ${maxBytes} bytes at most: split it, or leave it out of the prefix`,
      { context: { side: 'source', location: store.describe(key) } },
    );
  }
}

/** The object as it was when it was looked at: CONFLICT once it has changed. */
function contentIn(store: ObjectStore, { key, size, etag }: ObjectInfo): Readable {
  return {
    ...(store.rangesAtOnce === undefined ? {} : { rangesAtOnce: store.rangesAtOnce }),
    open: async (_, { signal, from = 0, to = size } = {}) =>
      store.read(key, {
        signal,
        ifMatch: etag,
        ...(from === 0 && to === size ? {} : { offset: from, length: to - from }),
      }),
  };
}

function stillChanging(name: string, cause: Failure): Failure {
  const { code, message, context } = cause;
  // some servers list keys that they do not find
  if (code === 'NOT_FOUND')
    return new Failure(
      'UNSUPPORTED',
      `${message}, though it is listed: this store does not serve objects of such keys`,
      { cause, context },
    );
  return new Failure(
    'CONFLICT',
    `read ${name}: it changed while it was read, ${ATTEMPTS} times in a row: publish it when its writers are done`,
    { cause, context },
  );
}
