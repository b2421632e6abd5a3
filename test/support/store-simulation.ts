import { zstdDecompressSync } from 'node:zlib';
import { once } from '../../worker/content/bytes.ts';
import { digestOf, type Digest } from '../../worker/oci/digest.ts';
import { MEDIA_TYPE, type Descriptor } from '../../worker/oci/manifest.ts';
import { collect, DEFAULT_GRACE_MS, type CollectionRequest } from '../../worker/store/collect.ts';
import { openImageStore } from '../../worker/store/image-store.ts';
import { layoutIndexOf } from '../../worker/store/layout-index.ts';
import { blobKey, type StorePlace } from '../../worker/store/place.ts';
import { readState } from '../../worker/store/read-state.ts';
import { SnapshotBuilder } from '../../worker/store/snapshot-builder.ts';
import type { Snapshot } from '../../worker/store/snapshot.ts';
import { openSnapshots } from '../../worker/store/snapshots.ts';
import { isFailure, toFailure } from '../../worker/util/failure.ts';
import { SimulatedProcess, SimulatedStore, type Change } from './simulated-store.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const PREFIX = 'backups/';
/** So few that most images share some with images that other backups stored. */
const LAYERS = 10;
const IMAGES = 3;
const MOST_STEPS = 1500;
const MOST_AT_ONCE = 4;
const LAST_STEPS = 5000;

/** What happened in a simulation. */
export interface Seen {
  backups: number;
  collections: number;
  blobsDeleted: number;
  snapshotsDeleted: number;
  /** Backups that found, before their snapshot, that other processes considered them crashed. */
  relisted: number;
}

/**
 * Backups and collections of one store, many at once, in the order that a seed decides, on a store where requests may take effect late.
 * Throws as soon as a snapshot names a missing blob.
 */
export class StoreSimulation {
  readonly #world: SimulatedStore;
  readonly #seen: Seen = {
    backups: 0,
    collections: 0,
    blobsDeleted: 0,
    snapshotsDeleted: 0,
    relisted: 0,
  };
  readonly #processes: SimulatedProcess[] = [];
  readonly #snapshots = new Map<string, Snapshot>();
  /** The shortest grace period of any collection so far; the last one has the default. */
  #leastGraceMs = DEFAULT_GRACE_MS;
  #ran = 0;
  #failed: Error | undefined;

  constructor(seed: number) {
    this.#world = new SimulatedStore(seed, (change) => this.#check(change));
  }

  async run(): Promise<Seen> {
    const world = this.#world;
    for (let step = 0; step < MOST_STEPS; step++) {
      await this.#chance();
      if (!(await world.step())) await world.pass(world.idleMs ?? this.#some(HOUR));
      if (this.#failed !== undefined) throw this.#failed;
    }
    await this.#end();
    return this.#seen;
  }

  /** Now and then something happens beside the next step. */
  async #chance(): Promise<void> {
    const world = this.#world;
    const living = this.#processes.filter((process) => !process.isDead);
    const dice = world.random();
    if (living.length === 0 || (living.length < MOST_AT_ONCE && dice < 0.02)) this.#begin();
    else if (dice < 0.022) world.pick(living).kill();
    else if (dice < 0.028) {
      world.pick(living).suspend(this.#some(world.pick([20 * MINUTE, 2 * HOUR, 2 * HOUR, 9 * DAY])));
      // meanwhile its lock may become stale
      if (world.random() < 0.5 && !this.#isCollecting) this.#begin('collect');
    } else if (dice < 0.06) await world.pass(this.#some(world.pick([MINUTE, 5 * MINUTE, 15 * MINUTE])));
    else if (dice < 0.062) await world.pass(this.#some(2 * HOUR));
    else if (dice < 0.063) await world.pass(this.#some(4 * DAY));
    else if (dice < 0.065 && world.objects.size > 0) world.locked.add(world.pick([...world.objects.keys()]));
  }

  #some(most: number): number {
    return Math.floor(this.#world.random() * most);
  }

  /** Whether a collection runs, or is suspended: a second one gives up. */
  get #isCollecting(): boolean {
    return this.#processes.some(({ isDead, name }) => !isDead && name.startsWith('collect'));
  }

  #begin(kind?: 'collect'): void {
    const world = this.#world;
    const skewMs = world.pick([0, 0, HOUR, -HOUR, 200]);
    const isBackup = kind === undefined && world.random() < (this.#isCollecting ? 0.95 : 0.5);
    const process = new SimulatedProcess(world, `${isBackup ? 'backup' : 'collect'} ${++this.#ran}`, skewMs);
    this.#processes.push(process);
    (isBackup ? this.#backUp(process) : this.#collect(process)).then(
      () => process.kill(),
      (error: unknown) => {
        process.kill();
        if (!isFailure(error, 'UNAVAILABLE', 'CONFLICT', 'NOT_FOUND')) this.#failed ??= toFailure(error);
      },
    );
  }

  #placeOf(process: SimulatedProcess): StorePlace {
    return { store: process.objects, prefix: PREFIX, location: 'store:simulated' };
  }

  async #backUp(process: SimulatedProcess): Promise<void> {
    const world = this.#world;
    const { clock } = process;
    const startedAt = new Date(clock.now()).toISOString();
    const store = await openImageStore(this.#placeOf(process), { clock, create: true });
    const backup = await store.begin();
    const builder = new SnapshotBuilder({
      startedAt,
      tool: 'simulation',
      kind: 'store',
      registry: { host: 'registry.example.com' },
      scope: { repositories: '*', untagged: false, referrers: true, platforms: [], listed: true },
    });
    builder.repository('app', { complete: true });
    for (let tag = 0; tag < IMAGES; tag++) {
      const layers = Array.from({ length: 2 }, () => contentOf(`layer ${this.#some(LAYERS)}`));
      const image = contentOf(`image of ${layers.map(({ digest }) => digest).join(' ')}`);
      // a backup trusts its list: it does not ask for anything in it
      for (const { bytes, ...descriptor } of [...layers, image])
        if (!(await backup.target.has(descriptor))) await backup.target.put(descriptor, () => once(bytes));
      if (world.random() < 0.2) await clock.sleep(this.#some(world.pick([MINUTE, 20 * MINUTE])));
      const content = [image, ...layers].map(({ digest, size }) => ({ digest, size }));
      const { digest, size } = image;
      const unique = [...new Map(content.map((one) => [one.digest, one])).values()];
      const referrer = contentOf(`signature of ${digest}`);
      if (tag === 1 && !(await backup.target.has(referrer)))
        await backup.target.put(referrer, () => once(referrer.bytes));
      const mediaType = MEDIA_TYPE.ociManifest;
      builder.image('app', {
        digest,
        size,
        mediaType,
        tags: [`v${tag}`],
        content: [{ digest, size, mediaType }, ...unique.filter((one) => one.digest !== digest)],
        referrers:
          tag === 1
            ? [
                {
                  digest: referrer.digest,
                  size: referrer.size,
                  mediaType,
                  subject: digest,
                  tags: [],
                  content: [{ digest: referrer.digest, size: referrer.size, mediaType }],
                },
              ]
            : [],
      });
    }
    await backup.finish(builder.finish({ finishedAt: new Date(clock.now()).toISOString(), added: backup.added }));
    if (process.listed.filter((prefix) => prefix.endsWith('blobs/')).length > 1) this.#seen.relisted++;
    this.#seen.backups++;
  }

  async #collect(process: SimulatedProcess): Promise<void> {
    const world = this.#world;
    const graceMs = world.pick([0, 0, HOUR, 7 * DAY]);
    const keepLast = world.pick([undefined, 1, 1, 3]);
    this.#leastGraceMs = Math.min(this.#leastGraceMs, graceMs);
    const request: CollectionRequest = { graceMs, ...(keepLast === undefined ? {} : { policy: { keepLast } }) };
    await collect(this.#placeOf(process), process.objects, request, { clock: process.clock });
    this.#seen.collections++;
  }

  /** Checks the store after each change of it. */
  #check({ key, action, before }: Change): void {
    try {
      if (key.startsWith(`${PREFIX}snapshots/`)) this.#checkSnapshot(key, action);
      if (action !== 'delete') return;
      if (key.startsWith(`${PREFIX}blobs/`)) {
        this.#seen.blobsDeleted++;
        const ageMs = this.#world.nowMs - (before?.modifiedMs ?? 0);
        if (ageMs < this.#leastGraceMs) throw new Error(`${key} was deleted ${ageMs} ms after it was written`);
        for (const [snapshot, { content }] of this.#snapshots)
          if (content.some(({ digest }) => blobKey({ prefix: PREFIX }, digest) === key))
            throw new Error(`${key} was deleted, which ${snapshot} names`);
      }
    } catch (error) {
      this.#failed ??= toFailure(error);
    }
  }

  #checkSnapshot(key: string, action: 'write' | 'delete'): void {
    if (action === 'delete') {
      const newest = [...this.#snapshots.keys()].sort().at(-1);
      if (key === newest) throw new Error(`${key} was deleted, the newest snapshot`);
      this.#snapshots.delete(key);
      this.#seen.snapshotsDeleted++;
      return;
    }
    const bytes = this.#world.objects.get(key)?.bytes ?? new Uint8Array();
    const snapshot = JSON.parse(zstdDecompressSync(bytes).toString()) as Snapshot;
    this.#snapshots.set(key, snapshot);
    for (const { digest } of snapshot.content)
      if (!this.#world.objects.has(blobKey({ prefix: PREFIX }, digest)))
        throw new Error(`${key} was written, and ${digest} is not there`);
  }

  /** When all processes are gone, a backup and a collection, each alone, leave what the snapshots need and nothing else. */
  async #end(): Promise<void> {
    const world = this.#world;
    for (const process of this.#processes) process.kill();
    await world.pass(HOUR);
    world.locked.clear();
    await this.#alone(async (process) => this.#backUp(process));
    await world.pass(8 * DAY);
    await this.#alone(async (process) => {
      await collect(this.#placeOf(process), process.objects, {}, { clock: process.clock });
    });
    const wanted = new Set<string>(
      [...this.#snapshots.values()].flatMap(({ content }) =>
        content.map(({ digest }) => blobKey({ prefix: PREFIX }, digest)),
      ),
    );
    await this.#alone(async (reader) => {
      const index = layoutIndexOf(await readState(openSnapshots(this.#placeOf(reader))));
      for (const digest of index.lists.keys()) wanted.add(blobKey({ prefix: PREFIX }, digest));
      const written = world.objects.get(`${PREFIX}index.json`)?.bytes;
      if (written === undefined || Buffer.compare(written, index.bytes) !== 0)
        throw new Error('index.json is not what the snapshots say');
    });
    const there = [...world.objects.keys()].filter((key) => key.startsWith(`${PREFIX}blobs/`));
    const extra = there.filter((key) => !wanted.has(key));
    if (extra.length > 0) throw new Error(`${extra.join(', ')} is old and unreferenced, and stays`);
    const missing = [...wanted].filter((key) => !there.includes(key));
    if (missing.length > 0) throw new Error(`${missing.join(', ')} is not there`);
  }

  async #alone(work: (process: SimulatedProcess) => Promise<void>): Promise<void> {
    const process = new SimulatedProcess(this.#world, 'alone', 0);
    const over = new AbortController();
    const end = (): void => over.abort();
    const done = work(process);
    done.then(end, end);
    for (let step = 0; !over.signal.aborted && step < LAST_STEPS; step++)
      if (!(await this.#world.step())) await this.#world.pass(this.#world.idleMs ?? MINUTE);
    if (!over.signal.aborted) throw new Error('a process that is alone does not end');
    await done;
    process.kill();
    if (this.#failed !== undefined) throw this.#failed;
  }
}

interface Content extends Descriptor {
  readonly bytes: Uint8Array;
}

/** All are blobs: other tests check their order. */
function contentOf(text: string): Content {
  const bytes = Buffer.from(text);
  const digest: Digest = digestOf(bytes);
  return { mediaType: MEDIA_TYPE.ociLayer, digest, size: bytes.byteLength, bytes };
}
