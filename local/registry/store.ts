import { randomUUID } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { algorithmOf, hexOf, type Digest } from '../../worker/oci/digest.ts';
import type { Manifest } from '../../worker/oci/manifest.ts';
import { artifactTypeOf, childrenOf } from '../../worker/oci/manifest.ts';
import { Failure } from '../../worker/util/failure.ts';
import { Upload } from './upload.ts';

/** What ECR keeps of a repository besides its images. A plain registry ignores it. */
export interface RepositorySettings {
  readonly mutability: Mutability;
  readonly exclusions: readonly string[];
  readonly scanOnPush: boolean;
  readonly encryption: { readonly encryptionType: string; readonly kmsKey?: string };
  readonly tags: Readonly<Record<string, string>>;
  readonly lifecyclePolicy?: string;
  readonly policy?: string;
}

export type Mutability = 'MUTABLE' | 'IMMUTABLE' | 'MUTABLE_WITH_EXCLUSION' | 'IMMUTABLE_WITH_EXCLUSION';

export const DEFAULT_SETTINGS: RepositorySettings = {
  mutability: 'MUTABLE',
  exclusions: [],
  scanOnPush: false,
  encryption: { encryptionType: 'AES256' },
  tags: {},
};

/** A manifest of a repository. Its bytes are a file beside the blobs. */
export interface StoredManifest {
  readonly kind: Manifest['kind'];
  readonly mediaType: string;
  readonly digest: Digest;
  /** The size of the manifest itself. */
  readonly bytes: number;
  /** The size of all that it names. */
  readonly contentBytes: number;
  readonly children: readonly Digest[];
  readonly subject?: Digest;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly pushedAtMs: number;
  readonly pulledAtMs?: number;
  readonly archivedAtMs?: number;
  readonly activatedAtMs?: number;
}

/** A repository as it stands now. Changed through the store alone. */
export interface StoredRepository {
  readonly name: string;
  readonly createdAtMs: number;
  readonly settings: RepositorySettings;
  /** Sizes in bytes of the blobs that were pushed or mounted here. */
  readonly blobs: ReadonlyMap<Digest, number>;
  readonly manifests: ReadonlyMap<Digest, StoredManifest>;
  readonly tags: ReadonlyMap<string, Digest>;
}

/** What a manifest is to the store. */
export function describeManifest(manifest: Manifest, bytes: Uint8Array, digest: Digest, nowMs: number): StoredManifest {
  const artifactType = artifactTypeOf(manifest);
  const children = childrenOf(manifest);
  return {
    kind: manifest.kind,
    mediaType: manifest.mediaType,
    digest,
    bytes: bytes.byteLength,
    contentBytes: children.reduce((sum, child) => sum + child.size, 0),
    children: children.map((child) => child.digest),
    ...(manifest.subject === undefined ? {} : { subject: manifest.subject.digest }),
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(manifest.annotations === undefined ? {} : { annotations: manifest.annotations }),
    pushedAtMs: nowMs,
  };
}

/**
 * Opens, or makes, the registry that is kept in `folder`: blobs as files named by digest, and a journal of everything else, which is read
 * once and then only appended to. CONFLICT while another store has it open: they would not see each other's changes.
 */
export async function openRegistryStore(where: string): Promise<RegistryStore> {
  const folder = resolve(where);
  for (const algorithm of ['sha256', 'sha512']) await mkdir(join(folder, 'blobs', algorithm), { recursive: true });
  lock(folder);
  await rm(join(folder, 'uploads'), { recursive: true, force: true });
  await mkdir(join(folder, 'uploads'));
  try {
    const state = new State();
    for (const entry of await readJournal(join(folder, JOURNAL))) state.apply(entry);
    await removeUnused(folder, state);
    return new RegistryStore(folder, state);
  } catch (error) {
    unlock(folder);
    throw error;
  }
}

const JOURNAL = 'registry.ndjson';
/** Holds the id of the process that has the store open. */
const LOCK = 'lock';

/** One change of the state. The journal is these, one JSON document a line. */
type Entry =
  | {
      readonly do: 'create';
      readonly repository: string;
      readonly createdAtMs: number;
      readonly settings: RepositorySettings;
    }
  | { readonly do: 'delete'; readonly repository: string }
  | { readonly do: 'configure'; readonly repository: string; readonly settings: RepositorySettings }
  | { readonly do: 'blob'; readonly repository: string; readonly digest: Digest; readonly bytes: number }
  | { readonly do: 'unblob'; readonly repository: string; readonly digest: Digest }
  | { readonly do: 'manifest'; readonly repository: string; readonly manifest: StoredManifest }
  | { readonly do: 'unmanifest'; readonly repository: string; readonly digest: Digest }
  | { readonly do: 'tag'; readonly repository: string; readonly tag: string; readonly digest: Digest }
  | { readonly do: 'untag'; readonly repository: string; readonly tag: string }
  | { readonly do: 'account'; readonly name: string; readonly value: string };

/** The repositories of one registry on disk. Every change is in the journal before its call returns. */
export class RegistryStore {
  readonly #folder: string;
  readonly #state: State;
  readonly #journal: number;
  readonly #uploads = new Map<string, Upload>();

  constructor(folder: string, state: State) {
    this.#folder = folder;
    this.#state = state;
    // begun anew with what still holds, so that it does not grow for ever
    const path = join(folder, JOURNAL);
    writeFileSync(`${path}.new`, [...state.entries()].map((entry) => `${JSON.stringify(entry)}\n`).join(''));
    renameSync(`${path}.new`, path);
    this.#journal = openSync(path, 'a');
  }

  get repositories(): ReadonlyMap<string, StoredRepository> {
    return this.#state.repositories;
  }

  get account(): ReadonlyMap<string, string> {
    return this.#state.account;
  }

  setAccount(name: string, value: string): void {
    this.#record({ do: 'account', name, value });
  }

  /** The new repository; it must not exist. */
  create(name: string, createdAtMs: number, settings: RepositorySettings = DEFAULT_SETTINGS): StoredRepository {
    this.#record({ do: 'create', repository: name, createdAtMs, settings });
    return this.#state.repository(name);
  }

  configure(repository: StoredRepository, change: Partial<RepositorySettings>): void {
    this.#record({ do: 'configure', repository: repository.name, settings: { ...repository.settings, ...change } });
  }

  /** Removes the repository and all that is in it. */
  delete(repository: StoredRepository): void {
    this.#record({ do: 'delete', repository: repository.name });
    for (const digest of [...repository.blobs.keys(), ...repository.manifests.keys()]) this.#dropUnused(digest);
  }

  /** Where the bytes of a blob or manifest are. */
  path(digest: Digest): string {
    return join(this.#folder, 'blobs', algorithmOf(digest), hexOf(digest));
  }

  beginUpload(repository: StoredRepository): Upload {
    const id = randomUUID();
    const upload = new Upload(id, repository.name, join(this.#folder, 'uploads', id));
    this.#uploads.set(id, upload);
    return upload;
  }

  upload(id: string): Upload | undefined {
    return this.#uploads.get(id);
  }

  /**
   * Makes the upload a blob of the repository and ends it; false, and nothing is kept, when its bytes are not those of `digest`.
   * NOT_FOUND when the repository was deleted meanwhile.
   */
  async finishUpload(repository: StoredRepository, upload: Upload, digest: Digest): Promise<boolean> {
    this.#uploads.delete(upload.id);
    if (!(await upload.isOf(digest)) || !this.#state.repositories.has(repository.name)) {
      await upload.discard();
      this.#state.repository(repository.name);
      return false;
    }
    // without a pause between them, so that no collection finds the blob unused and removes it
    if (existsSync(this.path(digest))) rmSync(upload.path);
    else renameSync(upload.path, this.path(digest));
    this.linkBlob(repository, digest, upload.bytes);
    return true;
  }

  async discardUpload(upload: Upload): Promise<void> {
    this.#uploads.delete(upload.id);
    await upload.discard();
  }

  /** Makes a blob that is stored already one of the repository too. */
  linkBlob(repository: StoredRepository, digest: Digest, bytes: number): void {
    if (!repository.blobs.has(digest)) this.#record({ do: 'blob', repository: repository.name, digest, bytes });
  }

  unlinkBlob(repository: StoredRepository, digest: Digest): void {
    this.#record({ do: 'unblob', repository: repository.name, digest });
    this.#dropUnused(digest);
  }

  putManifest(repository: StoredRepository, manifest: StoredManifest, bytes: Uint8Array): void {
    const path = this.path(manifest.digest);
    if (!existsSync(path)) {
      writeFileSync(`${path}.new`, bytes);
      renameSync(`${path}.new`, path);
    }
    this.updateManifest(repository, manifest);
  }

  /** Changes what is kept about a manifest. */
  updateManifest(repository: StoredRepository, manifest: StoredManifest): void {
    this.#record({ do: 'manifest', repository: repository.name, manifest });
  }

  /** Removes the manifest and every tag of it. */
  deleteManifest(repository: StoredRepository, digest: Digest): void {
    for (const [tag, target] of repository.tags) if (target === digest) this.untag(repository, tag);
    this.#record({ do: 'unmanifest', repository: repository.name, digest });
    this.#dropUnused(digest);
  }

  tag(repository: StoredRepository, tag: string, digest: Digest): void {
    if (repository.tags.get(tag) !== digest) this.#record({ do: 'tag', repository: repository.name, tag, digest });
  }

  untag(repository: StoredRepository, tag: string): void {
    this.#record({ do: 'untag', repository: repository.name, tag });
  }

  /** Ends all uploads, and lets the folder go. */
  async close(): Promise<void> {
    for (const upload of this.#uploads.values()) await this.discardUpload(upload);
    closeSync(this.#journal);
    unlock(this.#folder);
  }

  #record(entry: Entry): void {
    if ('repository' in entry && entry.do !== 'create') this.#state.repository(entry.repository);
    writeSync(this.#journal, `${JSON.stringify(entry)}\n`);
    this.#state.apply(entry);
  }

  #dropUnused(digest: Digest): void {
    if (!this.#state.uses(digest)) rmSync(this.path(digest), { force: true });
  }
}

interface MutableRepository {
  readonly name: string;
  readonly createdAtMs: number;
  settings: RepositorySettings;
  readonly blobs: Map<Digest, number>;
  readonly manifests: Map<Digest, StoredManifest>;
  readonly tags: Map<string, Digest>;
}

/** What the journal adds up to. */
class State {
  readonly repositories = new Map<string, MutableRepository>();
  readonly account = new Map<string, string>();

  apply(entry: Entry): void {
    switch (entry.do) {
      case 'create':
        this.repositories.set(entry.repository, {
          name: entry.repository,
          createdAtMs: entry.createdAtMs,
          settings: entry.settings,
          blobs: new Map(),
          manifests: new Map(),
          tags: new Map(),
        });
        return;
      case 'delete':
        this.repositories.delete(entry.repository);
        return;
      case 'configure':
        this.repository(entry.repository).settings = entry.settings;
        return;
      case 'blob':
        this.repository(entry.repository).blobs.set(entry.digest, entry.bytes);
        return;
      case 'unblob':
        this.repository(entry.repository).blobs.delete(entry.digest);
        return;
      case 'manifest':
        this.repository(entry.repository).manifests.set(entry.manifest.digest, entry.manifest);
        return;
      case 'unmanifest':
        this.repository(entry.repository).manifests.delete(entry.digest);
        return;
      case 'tag':
        this.repository(entry.repository).tags.set(entry.tag, entry.digest);
        return;
      case 'untag':
        this.repository(entry.repository).tags.delete(entry.tag);
        return;
      case 'account':
        this.account.set(entry.name, entry.value);
        return;
      default:
        entry satisfies never;
    }
  }

  /** The shortest journal of this state. */
  *entries(): Iterable<Entry> {
    for (const [name, value] of this.account) yield { do: 'account', name, value };
    for (const { name: repository, createdAtMs, settings, blobs, manifests, tags } of this.repositories.values()) {
      yield { do: 'create', repository, createdAtMs, settings };
      for (const [digest, bytes] of blobs) yield { do: 'blob', repository, digest, bytes };
      for (const manifest of manifests.values()) yield { do: 'manifest', repository, manifest };
      for (const [tag, digest] of tags) yield { do: 'tag', repository, tag, digest };
    }
  }

  repository(name: string): MutableRepository {
    const found = this.repositories.get(name);
    if (found === undefined) throw new Failure('NOT_FOUND', `the repository ${name} was deleted meanwhile`);
    return found;
  }

  uses(digest: Digest): boolean {
    for (const repository of this.repositories.values())
      if (repository.blobs.has(digest) || repository.manifests.has(digest)) return true;
    return false;
  }
}

/** The folders that this process has open. */
const OPEN = new Set<string>();

function lock(folder: string): void {
  const path = join(folder, LOCK);
  const holder = existsSync(path) ? Number(readFileSync(path, 'utf8')) : undefined;
  // a process killed may leave its id behind, and the next one may have the same: in a container it is always 1
  if (holder === process.pid ? OPEN.has(folder) : holder !== undefined && isRunning(holder)) {
    const why = `process ${holder} has it open; close that, or remove ${path} if it is no registry`;
    throw new Failure('CONFLICT', `open the registry in ${folder}: ${why}`);
  }
  writeFileSync(path, String(process.pid));
  OPEN.add(folder);
}

function unlock(folder: string): void {
  rmSync(join(folder, LOCK), { force: true });
  OPEN.delete(folder);
}

function isRunning(pid: number): boolean {
  if (!(pid > 0)) return false;
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // the process of another user is one too
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

async function readJournal(path: string): Promise<readonly Entry[]> {
  if (!existsSync(path)) return [];
  const text = await readFile(path, 'utf8');
  // a last line without its end was never acknowledged
  const lines = text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .slice(0, -1);
  return lines.map((line, index) => {
    try {
      return JSON.parse(line) as Entry;
    } catch (cause) {
      throw new Failure(
        'CORRUPT',
        `open the registry: line ${index + 1} of ${path} is not JSON; remove its folder to begin anew`,
        { cause },
      );
    }
  });
}

/** Removes blobs that nothing refers to: what a process left that ended between moving a file and recording it. */
async function removeUnused(folder: string, state: State): Promise<void> {
  const used = new Set<string>();
  for (const repository of state.repositories.values()) {
    for (const digest of [...repository.blobs.keys(), ...repository.manifests.keys()]) used.add(digest);
  }
  for (const algorithm of ['sha256', 'sha512']) {
    for (const name of await readdir(join(folder, 'blobs', algorithm))) {
      if (!used.has(`${algorithm}:${name}`)) await rm(join(folder, 'blobs', algorithm, name));
    }
  }
}
