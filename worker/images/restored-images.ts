import { collect } from '../content/bytes.ts';
import type { Condition, ObjectStore } from '../objects/objects.ts';
import { isDigest, type Digest } from '../oci/digest.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';

/** Where backups of one registry note the images that they restored from ECR's archive storage class. */
export interface RestoredImagesPlace {
  readonly store: ObjectStore;
  /** The prefix of the store or of the archives, as for snapshots. */
  readonly prefix: string;
  /** The host of the registry. */
  readonly registry: string;
}

/** More than a hundred thousand images. */
const MAX_BYTES = 16 * 1024 * 1024;
/** Other writers of the same object, one after the other. */
const TRIES = 10;

/**
 * The images that backups have restored to STANDARD and not yet archived again: one object beside the snapshots, so that the next backup
 * archives again what a killed one left. Several backups may change it at once.
 */
export class RestoredImages {
  readonly #place: RestoredImagesPlace;
  readonly #key: string;
  #pending: { add: Map<string, Entry>; remove: Map<string, Entry> } = { add: new Map(), remove: new Map() };
  #saving: Promise<void> = Promise.resolve();

  constructor(place: RestoredImagesPlace) {
    this.#place = place;
    this.#key = `${place.prefix}snapshots/restored-images-${place.registry.replaceAll(':', '_')}.json`;
  }

  /** The noted images of a repository, with the time of the note in milliseconds since 1970. INVALID where the object is not such a note. */
  async of(repository: string, options: Abortable = {}): Promise<ReadonlyMap<Digest, number>> {
    const { entries } = await this.#read(options);
    const own = entries.filter((entry) => entry.repository === repository);
    return new Map(own.map(({ digest, at }) => [digest, at === undefined ? 0 : Date.parse(at)]));
  }

  /** Notes images. Resolves when the note is stored: only then may they be restored. Calls at once share a write. */
  async add(
    repository: string,
    digests: readonly Digest[],
    options: Abortable & { readonly atMs: number },
  ): Promise<void> {
    const at = new Date(options.atMs).toISOString();
    for (const digest of digests) {
      const entry = { repository, digest, at };
      this.#pending.remove.delete(nameOf(entry));
      this.#pending.add.set(nameOf(entry), entry);
    }
    await this.#save(options);
  }

  /** Takes images off the note: they are archived again, or gone. */
  async forget(repository: string, digests: readonly Digest[], options: Abortable = {}): Promise<void> {
    for (const digest of digests) {
      const entry = { repository, digest };
      this.#pending.add.delete(nameOf(entry));
      this.#pending.remove.set(nameOf(entry), entry);
    }
    await this.#save(options);
  }

  async #save(options: Abortable): Promise<void> {
    const before = this.#saving;
    const mine = before.then(async () => this.#write(options));
    this.#saving = mine.catch(() => undefined);
    await mine;
  }

  /** Writes what is pending. A call that comes after a failure takes its changes along. */
  async #write(options: Abortable): Promise<void> {
    const { add, remove } = this.#pending;
    if (add.size + remove.size === 0) return;
    this.#pending = { add: new Map(), remove: new Map() };
    try {
      for (let tries = 1; ; tries++) {
        try {
          await this.#change(add, remove, options);
          return;
        } catch (error) {
          if (!isFailure(error, 'CONFLICT') || tries === TRIES) throw error;
        }
      }
    } catch (error) {
      this.#pending = {
        add: new Map([...add, ...this.#pending.add]),
        remove: new Map([...remove, ...this.#pending.remove]),
      };
      throw error;
    }
  }

  async #change(
    add: ReadonlyMap<string, Entry>,
    remove: ReadonlyMap<string, Entry>,
    options: Abortable,
  ): Promise<void> {
    const { entries, condition } = await this.#read(options);
    const byName = new Map(entries.map((entry) => [nameOf(entry), entry]));
    for (const name of remove.keys()) byName.delete(name);
    for (const [name, entry] of add) byName.set(name, entry);
    const document = { format: 1, registry: this.#place.registry, restored: [...byName.values()] };
    const body = Buffer.from(`${JSON.stringify(document, undefined, 2)}\n`);
    const { store } = this.#place;
    await store.write(this.#key, body, { signal: options.signal, condition, contentType: 'application/json' });
  }

  async #read(options: Abortable): Promise<{ readonly entries: readonly Entry[]; readonly condition: Condition }> {
    const { store } = this.#place;
    try {
      const { etag } = await store.stat(this.#key, options);
      const body = await store.read(this.#key, { ...options, ifMatch: etag });
      const bytes = await collect(body, MAX_BYTES, () => this.#invalid());
      return { entries: this.#parse(bytes), condition: { ifMatch: etag } };
    } catch (error) {
      if (isFailure(error, 'NOT_FOUND')) return { entries: [], condition: { ifAbsent: true } };
      throw error;
    }
  }

  #parse(bytes: Buffer): readonly Entry[] {
    let document: unknown;
    try {
      document = JSON.parse(bytes.toString());
    } catch {
      throw this.#invalid();
    }
    if (!isRecord(document) || document['format'] !== 1 || !Array.isArray(document['restored'])) throw this.#invalid();
    return document['restored'].map((entry: unknown) => {
      const { repository, digest, at } = isRecord(entry) ? entry : {};
      if (typeof repository !== 'string' || !isDigest(digest)) throw this.#invalid();
      const known = { repository, digest };
      return typeof at === 'string' && !Number.isNaN(Date.parse(at)) ? Object.assign(known, { at }) : known;
    });
  }

  #invalid(): Failure {
    const { store } = this.#place;
    return new Failure(
      'INVALID',
      `${store.describe(this.#key)} does not list the images that a backup restored from the archive storage class; delete it after you have archived them again`,
    );
  }
}

interface Entry {
  readonly repository: string;
  readonly digest: Digest;
  /** When it was noted, ISO 8601. Older versions did not write it. */
  readonly at?: string;
}

function nameOf({ repository, digest }: Entry): string {
  return `${repository}@${digest}`;
}
