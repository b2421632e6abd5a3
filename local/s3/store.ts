import { randomUUID } from 'node:crypto';
import { closeSync, createReadStream, createWriteStream, ftruncateSync, openSync, writeSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Failure } from '../../worker/util/failure.ts';
import type { ChecksumAlgorithm, ChecksumType } from './checksum.ts';
import { DataReader, DataWriter, slice, type Segment } from './data.ts';
import { S3Error } from './error.ts';

export interface Checksum {
  readonly algorithm: ChecksumAlgorithm;
  readonly type: ChecksumType;
  /** Base64; a composite one ends in `-<parts>`. */
  readonly value: string;
}

export interface Retention {
  readonly mode: 'GOVERNANCE' | 'COMPLIANCE';
  readonly untilMs: number;
}

/** What is said about an object when it is created, or when its upload is. */
export interface Description {
  /** Sent back with the object as they are: content type, user metadata and the like. */
  readonly headers: Readonly<Record<string, string>>;
  readonly storageClass: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly retention?: Retention | undefined;
  readonly legalHold: boolean;
}

export interface PartSummary {
  readonly number: number;
  readonly bytes: number;
  readonly checksum?: string | undefined;
}

export interface ObjectVersion extends Description {
  readonly kind: 'object';
  /** `null`, as text, for what was written without versioning. */
  readonly versionId: string;
  /** The version with the highest is the current one. Of multipart uploads it is the moment of their beginning. */
  readonly order: number;
  readonly modifiedMs: number;
  readonly bytes: number;
  /** Without quotes. */
  readonly etag: string;
  readonly checksum?: Checksum | undefined;
  readonly segments: readonly Segment[];
  /** Of an object that was uploaded in parts. */
  readonly parts?: readonly PartSummary[] | undefined;
}

interface DeleteMarker {
  readonly kind: 'marker';
  readonly versionId: string;
  readonly order: number;
  readonly modifiedMs: number;
}

export type Version = ObjectVersion | DeleteMarker;

export interface Part extends PartSummary {
  readonly etag: string;
  readonly modifiedMs: number;
  readonly segments: readonly Segment[];
}

export interface UploadStart extends Description {
  readonly id: string;
  readonly key: string;
  readonly order: number;
  readonly startedMs: number;
  readonly algorithm: ChecksumAlgorithm;
  readonly checksumType: ChecksumType;
  /** Whether the client chose the algorithm. If not, S3 computes a CRC64NVME for itself. */
  readonly isDeclared: boolean;
}

export interface Upload extends UploadStart {
  readonly parts: Map<number, Part>;
}

/** An upload that became an object: Complete answers the same again. */
export interface CompletedUpload {
  readonly uploadId: string;
  readonly bucket: string;
  readonly key: string;
  readonly versionId: string;
  readonly etag: string;
  readonly checksum?: Checksum | undefined;
}

export interface BucketSettings {
  readonly versioning?: 'Enabled' | 'Suspended' | undefined;
  readonly hasObjectLock: boolean;
  /** Of new objects, in days. */
  readonly defaultRetention?:
    { readonly mode: Retention['mode']; readonly days?: number; readonly years?: number } | undefined;
  /** The document as it came. */
  readonly lifecycle?: string | undefined;
}

export interface Bucket {
  readonly name: string;
  readonly createdMs: number;
  settings: BucketSettings;
  /** In the order of their UTF-8 bytes. */
  readonly keys: string[];
  /** By key, newest first, never empty. */
  readonly versions: Map<string, Version[]>;
  readonly uploads: Map<string, Upload>;
}

/** Everything that can happen to the state. Applied in the order of the journal they always give the same state. */
export type Change =
  | { readonly type: 'bucket'; readonly name: string; readonly createdMs: number; readonly settings: BucketSettings }
  | { readonly type: 'bucket-settings'; readonly name: string; readonly settings: BucketSettings }
  | { readonly type: 'bucket-removed'; readonly name: string }
  /** Adds it, or replaces the one with the same version id. */
  | { readonly type: 'version'; readonly bucket: string; readonly key: string; readonly version: Version }
  | { readonly type: 'version-removed'; readonly bucket: string; readonly key: string; readonly versionId: string }
  | { readonly type: 'upload'; readonly bucket: string; readonly upload: UploadStart }
  | { readonly type: 'part'; readonly bucket: string; readonly uploadId: string; readonly part: Part }
  | { readonly type: 'upload-removed'; readonly bucket: string; readonly uploadId: string }
  | { readonly type: 'upload-completed'; readonly completed: CompletedUpload };

const JOURNAL = 'journal.ndjson';
const LOCK = 'lock';
const DATA = 'data';
/** How many completed uploads are remembered for a repeated Complete. */
const MAX_COMPLETED = 10_000;

/** Folders that this process serves. */
const served = new Set<string>();

/**
 * Buckets in a folder: the bytes in `data/`, everything else in memory and in an append-only journal, one line a transaction. A line is
 * written before its change is visible and after its bytes are, so a killed process loses nothing it has answered for. (A machine
 * that loses power may: nothing is synced.) One process at a time.
 *
 * `commit` is synchronous: what is checked right before it, without an await in between, still holds when the change happens.
 */
export class S3Store implements AsyncDisposable {
  readonly #dir: string;
  readonly #buckets = new Map<string, Bucket>();
  readonly #completed = new Map<string, CompletedUpload>();
  /** How many segments, and readers, need each data file. */
  readonly #uses = new Map<string, number>();
  readonly #removals = new Set<Promise<void>>();
  #journal = -1;
  #journalBytes = 0;
  #lastOrder = 0;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  /** Opens the folder, made if need be. CONFLICT when another server has it; CORRUPT when its journal is not one of ours. */
  static async open(dir: string): Promise<S3Store> {
    const folder = resolve(dir);
    await mkdir(join(folder, DATA), { recursive: true });
    await takeLock(folder);
    const store = new S3Store(folder);
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
    for (const change of changes) this.#apply(change);
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
    await rm(join(this.#dir, LOCK), { force: true });
    served.delete(this.#dir);
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

/** A server that was killed leaves its lock behind; one that lives keeps it. */
async function takeLock(dir: string): Promise<void> {
  const path = join(dir, LOCK);
  if (served.has(dir)) throw taken(dir, process.pid);
  served.add(dir);
  try {
    await writeFile(path, String(process.pid), { flag: 'wx' });
  } catch {
    const owner = Number(await readFile(path, 'utf8'));
    if (owner !== process.pid && isAlive(owner)) {
      served.delete(dir);
      throw taken(dir, owner);
    }
    await writeFile(path, String(process.pid));
  }
}

function taken(dir: string, owner: number): Failure {
  return new Failure('CONFLICT', `open ${dir}: process ${owner} serves it already; stop it, or take another folder`);
}

function isAlive(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0);
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

/** Orders keys as S3 does: by their UTF-8 bytes, which is not the order of JavaScript's strings. */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** The index of the first key that comes after `key`. */
export function firstAfter(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareKeys(keys[middle] ?? '', key) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
