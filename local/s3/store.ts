import { randomUUID } from 'node:crypto';
import { closeSync, createReadStream, createWriteStream, ftruncateSync, openSync, writeSync } from 'node:fs';
import { mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Failure } from '../../worker/util/failure.ts';
import { DataReader, DataWriter, slice, type Segment } from './data.ts';
import { S3Error } from './error.ts';
import { compareKeys, firstAfter } from './keys.ts';
import { releaseLock, takeLock } from './lock.ts';
import type { Bucket, Change, CompletedUpload, Upload, Version } from './records.ts';

const JOURNAL = 'journal.ndjson';
const DATA = 'data';
/** Called with a change when it was made, and with the version that it replaced. */
type OnChange = (change: Change, before: Version | undefined) => void;

/** How many completed uploads are remembered for a repeated Complete. */
const MAX_COMPLETED = 10_000;

/**
 * Buckets in a folder: the bytes in `data/`, everything else in memory and in an append-only journal, one line a transaction. A line is
 * written before its change is visible and after its bytes are, so a killed process loses nothing it has answered for. (A machine
 * that loses power may: nothing is synced.) One process at a time.
 *
 * `commit` is synchronous: what is checked right before it, without an await in between, still holds when the change happens.
 */
export class S3Store implements AsyncDisposable {
  readonly #dir: string;
  readonly #onChange: OnChange | undefined;
  readonly #buckets = new Map<string, Bucket>();
  readonly #completed = new Map<string, CompletedUpload>();
  /** How many segments, and readers, need each data file. */
  readonly #uses = new Map<string, number>();
  readonly #removals = new Set<Promise<void>>();
  #journal = -1;
  #journalBytes = 0;
  #lastOrder = 0;

  private constructor(dir: string, onChange: OnChange | undefined) {
    this.#dir = dir;
    this.#onChange = onChange;
  }

  /**
   * Opens the folder, and creates it if it does not exist. CONFLICT when another server has it; CORRUPT when its journal is not of this program.
   * `onChange` is called for every change that is made from now on.
   */
  static async open(dir: string, onChange?: OnChange): Promise<S3Store> {
    const folder = resolve(dir);
    await mkdir(join(folder, DATA), { recursive: true });
    await takeLock(folder);
    const store = new S3Store(folder, onChange);
    try {
      await store.#replay();
      await store.#compact();
      await store.#removeOrphans();
    } catch (error) {
      await store.close();
      throw error;
    }
    return store;
  }

  get buckets(): readonly Bucket[] {
    return [...this.#buckets.values()].sort((a, b) => compareKeys(a.name, b.name));
  }

  findBucket(name: string): Bucket | undefined {
    return this.#buckets.get(name);
  }

  bucket(name: string): Bucket {
    const bucket = this.#buckets.get(name);
    if (bucket !== undefined) return bucket;
    throw new S3Error('NoSuchBucket', { elements: { BucketName: name } });
  }

  /** The newest version, which may be a delete marker. */
  current(bucket: string, key: string): Version | undefined {
    return this.bucket(bucket).versions.get(key)?.[0];
  }

  completed(uploadId: string): CompletedUpload | undefined {
    return this.#completed.get(uploadId);
  }

  /** Higher than every one before, in this process and those before it. */
  nextOrder(): number {
    return ++this.#lastOrder;
  }

  /** Makes the changes durable, then visible, all or none of them. */
  commit(...changes: readonly Change[]): void {
    const line = Buffer.from(`${JSON.stringify(changes)}\n`);
    try {
      for (let done = 0; done < line.length;) done += writeSync(this.#journal, line, done);
    } catch (error) {
      ftruncateSync(this.#journal, this.#journalBytes);
      throw error;
    }
    this.#journalBytes += line.length;
    for (const change of changes) {
      const before = this.#replacedBy(change);
      this.#apply(change);
      this.#onChange?.(change, before);
    }
  }

  #replacedBy(change: Change): Version | undefined {
    if (change.type !== 'version') return undefined;
    const versions = this.bucket(change.bucket).versions.get(change.key);
    return versions?.find(({ versionId }) => versionId === change.version.versionId);
  }

  /** A new data file. It is kept only when a commit refers to it, and otherwise has to be discarded. */
  async create(): Promise<DataWriter> {
    const file = randomUUID();
    return new DataWriter(file, await open(this.#path(file), 'wx'), () => this.#unlink(file));
  }

  /** Reads `bytes` from `offset` of the concatenation of `segments`, which stay readable until it is disposed, whatever is deleted meanwhile. */
  read(segments: readonly Segment[], offset: number, bytes: number): DataReader {
    const runs = slice(segments, offset, bytes);
    for (const run of runs) this.#use(run.file);
    return new DataReader(
      runs,
      (file) => this.#path(file),
      () => runs.forEach((run) => this.#release(run.file)),
    );
  }

  async close(): Promise<void> {
    if (this.#journal >= 0) closeSync(this.#journal);
    this.#journal = -1;
    await Promise.all(this.#removals);
    await releaseLock(this.#dir);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #path(file: string): string {
    return join(this.#dir, DATA, file);
  }

  #apply(change: Change): void {
    switch (change.type) {
      case 'bucket': {
        const { name, createdMs, settings } = change;
        this.#buckets.set(name, { name, createdMs, settings, keys: [], versions: new Map(), uploads: new Map() });
        return;
      }
      case 'bucket-settings':
        this.bucket(change.name).settings = change.settings;
        return;
      case 'bucket-removed':
        for (const upload of this.bucket(change.name).uploads.values()) this.#releaseParts(upload);
        this.#buckets.delete(change.name);
        return;
      case 'version':
        this.#putVersion(this.bucket(change.bucket), change.key, change.version);
        return;
      case 'version-removed':
        this.#removeVersion(this.bucket(change.bucket), change.key, change.versionId);
        return;
      case 'upload':
        this.#lastOrder = Math.max(this.#lastOrder, change.upload.order);
        this.bucket(change.bucket).uploads.set(change.upload.id, { ...change.upload, parts: new Map() });
        return;
      case 'part': {
        const parts = this.bucket(change.bucket).uploads.get(change.uploadId)?.parts;
        const before = parts?.get(change.part.number);
        this.#useAll(change.part.segments);
        parts?.set(change.part.number, change.part);
        this.#releaseAll(before?.segments ?? []);
        return;
      }
      case 'upload-removed': {
        const { uploads } = this.bucket(change.bucket);
        const upload = uploads.get(change.uploadId);
        uploads.delete(change.uploadId);
        if (upload !== undefined) this.#releaseParts(upload);
        return;
      }
      case 'upload-completed': {
        this.#completed.set(change.completed.uploadId, change.completed);
        const [oldest] = this.#completed.keys();
        if (this.#completed.size > MAX_COMPLETED && oldest !== undefined) this.#completed.delete(oldest);
        return;
      }
      default:
        change satisfies never;
    }
  }

  #putVersion(bucket: Bucket, key: string, version: Version): void {
    this.#lastOrder = Math.max(this.#lastOrder, version.order);
    if (version.kind === 'object') this.#useAll(version.segments);
    this.#removeVersion(bucket, key, version.versionId);
    const versions = bucket.versions.get(key);
    if (versions === undefined) {
      bucket.versions.set(key, [version]);
      bucket.keys.splice(firstAfter(bucket.keys, key), 0, key);
      return;
    }
    const offset = versions.findIndex((other) => other.order < version.order);
    versions.splice(offset < 0 ? versions.length : offset, 0, version);
  }

  #removeVersion(bucket: Bucket, key: string, versionId: string): void {
    const versions = bucket.versions.get(key);
    const offset = versions?.findIndex((version) => version.versionId === versionId) ?? -1;
    if (versions === undefined || offset < 0) return;
    const [removed] = versions.splice(offset, 1);
    if (removed?.kind === 'object') this.#releaseAll(removed.segments);
    if (versions.length > 0) return;
    bucket.versions.delete(key);
    bucket.keys.splice(firstAfter(bucket.keys, key) - 1, 1);
  }

  #releaseParts(upload: Upload): void {
    for (const part of upload.parts.values()) this.#releaseAll(part.segments);
  }

  #useAll(segments: readonly Segment[]): void {
    for (const segment of segments) this.#use(segment.file);
  }

  #releaseAll(segments: readonly Segment[]): void {
    for (const segment of segments) this.#release(segment.file);
  }

  #use(file: string): void {
    this.#uses.set(file, (this.#uses.get(file) ?? 0) + 1);
  }

  #release(file: string): void {
    const left = (this.#uses.get(file) ?? 0) - 1;
    if (left > 0) {
      this.#uses.set(file, left);
      return;
    }
    this.#uses.delete(file);
    // while the journal is replayed a later line may use the file again; what is left over is removed at the end
    if (this.#journal >= 0) void this.#unlink(file);
  }

  /** Never rejects: a file that stays is an orphan, and removed at the next start. */
  async #unlink(file: string): Promise<void> {
    const removal = unlink(this.#path(file)).catch(() => undefined);
    this.#removals.add(removal);
    await removal;
    this.#removals.delete(removal);
  }

  async #replay(): Promise<void> {
    const path = join(this.#dir, JOURNAL);
    const lines = createInterface({ input: createReadStream(path, { flags: 'a+' }), crlfDelay: Infinity });
    let torn: string | undefined;
    for await (const line of lines) {
      if (torn !== undefined)
        throw new Failure('CORRUPT', `open ${path}: a line in the middle is not a transaction; remove the folder`);
      const changes = parseLine(line);
      if (changes === undefined)
        torn = line; // the process was killed while it wrote its last line, and had not answered
      else for (const change of changes) this.#apply(change);
    }
  }

  /** Writes the state as a journal of its own, so that the journal's length is that of the state. */
  async #compact(): Promise<void> {
    const path = join(this.#dir, JOURNAL);
    await pipeline(Readable.from(this.#lines()), createWriteStream(`${path}.new`));
    this.#journalBytes = (await stat(`${path}.new`)).size;
    await rename(`${path}.new`, path);
    this.#journal = openSync(path, 'a');
  }

  *#lines(): Generator<string> {
    for (const change of this.#state()) yield `${JSON.stringify([change])}\n`;
  }

  *#state(): Generator<Change> {
    for (const { name, createdMs, settings, keys, versions, uploads } of this.#buckets.values()) {
      yield { type: 'bucket', name, createdMs, settings };
      for (const key of keys)
        for (const version of versions.get(key) ?? []) yield { type: 'version', bucket: name, key, version };
      for (const { parts, ...upload } of uploads.values()) {
        yield { type: 'upload', bucket: name, upload };
        for (const part of parts.values()) yield { type: 'part', bucket: name, uploadId: upload.id, part };
      }
    }
    for (const completed of this.#completed.values()) yield { type: 'upload-completed', completed };
  }

  async #removeOrphans(): Promise<void> {
    for (const file of await readdir(join(this.#dir, DATA))) if (!this.#uses.has(file)) await this.#unlink(file);
  }
}

/** `undefined` for a line that is not one whole transaction. */
function parseLine(line: string): readonly Change[] | undefined {
  try {
    return JSON.parse(line) as readonly Change[];
  } catch {
    return undefined;
  }
}
