import { compareKeys, isListedAs, ListingDigest, modifiedOf, type Listed } from '../artifacts/listing.ts';
import { Shards } from '../artifacts/shards.ts';
import { LATEST, snapshotDocument, snapshotTag, type Document, type SnapshotEntry } from '../artifacts/snapshot.ts';
import { once } from '../content/bytes.ts';
import type { Source, Target } from '../content/content.ts';
import { reportSent } from '../content/report-sent.ts';
import type { Descriptor } from '../oci/manifest.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { describeFailure, Failure, ifFound, onSide, toFailure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import type { OperationOptions } from './backends.ts';
import { countSent } from './count-sent.ts';
import type { OpenedPlace } from './object-places.ts';
import { entriesOf, type OpenedSnapshot } from './open-snapshot.ts';
import { ObjectPublisher } from './publish-object.ts';
import { concernsAll, MAX_FAILURES, type ObjectFailure, type PublishResult } from './publish-result.ts';

export interface PublishRunOptions {
  readonly place: OpenedPlace;
  readonly repository: Source & Target;
  /** The snapshot that `latest` stands for. */
  readonly last: OpenedSnapshot | undefined;
  /** The snapshot that shows which objects need not be read; absent: all are read. */
  readonly before: OpenedSnapshot | undefined;
  readonly maxBytes: number | undefined;
  readonly dryRun: boolean | undefined;
  readonly options: OperationOptions;
}

/** An object, as it is listed now and as it was before. */
interface Step {
  /** Absent: it is gone. */
  readonly listed: Listed | undefined;
  readonly before: SnapshotEntry | undefined;
}

/** What became of a step. */
interface Settled {
  /** What the new snapshot lists for it. Absent: nothing. */
  readonly entry?: SnapshotEntry | undefined;
  /** How it is listed. Absent: it is no longer there. */
  readonly listed?: Listed | undefined;
}

/** Objects that are listed, published and written to shards together: what is held in memory. */
const BATCH = 1000;
const DEFAULT_CONCURRENCY = 4;
/** Seconds that a snapshot's time is put off, so that its tag is its own. */
const TAG_ATTEMPTS = 60;

export function namedSnapshot({ descriptor, snapshot }: OpenedSnapshot): NonNullable<PublishResult['snapshot']> {
  return { tag: snapshotTag(snapshot.created), digest: descriptor.digest };
}

/** One run over all objects of a place. To be used once. */
export class PublishRun {
  readonly #run: PublishRunOptions;
  readonly #options: OperationOptions;
  readonly #target: Target;
  readonly #publisher: ObjectPublisher;
  readonly #sent: ReturnType<typeof countSent>;
  readonly #counts = { published: 0, unchanged: 0, removed: 0, failed: 0 };
  #bytesToRead = 0;
  readonly #failures: ObjectFailure[] = [];
  readonly #listing = new ListingDigest();
  /** What the new snapshot lists. */
  readonly #listed = { objects: 0, bytes: 0 };
  readonly #shards = new Shards();
  readonly #written: Descriptor[] = [];
  /** Shards that the registry has, since the last snapshot names them. */
  readonly #known: ReadonlySet<string>;

  constructor(run: PublishRunOptions) {
    const { place, repository, maxBytes, options } = run;
    this.#run = run;
    this.#sent = countSent(options.report);
    this.#options = { ...options, report: this.#sent.report };
    this.#target = reportSent(repository, this.#sent.report);
    this.#publisher = new ObjectPublisher({
      ...this.#options,
      store: place.store,
      source: repository,
      target: this.#target,
      maxBytes,
    });
    this.#known = new Set(run.before?.snapshot.shards.map(({ digest }) => digest));
  }

  /** Publishes all that is `listed`, in the order of the keys, and writes the snapshot unless it would equal the last one. */
  async publish(listed: Iterable<Listed> | AsyncIterable<Listed>): Promise<Omit<PublishResult, 'from' | 'to'>> {
    const { before, repository } = this.#run;
    const entries = entriesOf(repository, before?.snapshot.shards ?? [], { ...this.#options, side: 'target' });
    let batch: Step[] = [];
    for await (const step of merged(listed, entries)) {
      batch.push(step);
      if (batch.length < BATCH) continue;
      await this.#settle(batch);
      batch = [];
    }
    await this.#settle(batch);
    await this.#write(this.#shards.end());
    const result = {
      listing: this.#listing.digest(),
      objects: this.#counts,
      bytes: this.#listing.bytes,
      failures: this.#failures,
    };
    if (this.#run.dryRun === true)
      return { ...result, outcome: 'planned', bytesSent: 0, bytesToRead: this.#bytesToRead };
    if (before !== undefined && this.#saysTheSame(before))
      return { ...result, outcome: 'unchanged', snapshot: namedSnapshot(before), bytesSent: this.#sent.bytes };
    const snapshot = await onSide('target', this.#writeSnapshot());
    return { ...result, outcome: 'published', snapshot, bytesSent: this.#sent.bytes };
  }

  async #settle(batch: readonly Step[]): Promise<void> {
    const settled = new Map<Step, Settled>();
    const changed = batch.filter(({ listed, before }) => listed !== undefined && !isUnchanged(listed, before));
    await forEachOf(
      changed,
      this.#options.concurrency ?? DEFAULT_CONCURRENCY,
      async (step, options) => void settled.set(step, await this.#publishOne(step, options)),
      this.#options,
    );
    for (const step of batch) {
      const { entry, listed } = settled.get(step) ?? this.#untouched(step);
      if (listed !== undefined) this.#listing.add(listed);
      if (entry === undefined) continue;
      this.#listed.objects++;
      this.#listed.bytes += entry.size;
      await this.#write(this.#shards.add(entry));
    }
  }

  #untouched({ listed, before }: Step): Settled {
    const { report } = this.#options;
    if (before === undefined) return { listed };
    if (listed === undefined) return this.#removed(before);
    this.#counts.unchanged++;
    report?.({ type: 'object-unchanged', key: before.key });
    return { entry: before, listed };
  }

  #removed(before: SnapshotEntry | undefined): Settled {
    if (before === undefined) return {};
    this.#counts.removed++;
    this.#options.report?.({ type: 'object-removed', key: before.key });
    return {};
  }

  async #publishOne({ listed, before }: Step, options: Abortable): Promise<Settled> {
    const key = listed?.key ?? '';
    if (this.#run.dryRun === true) {
      this.#counts.published++;
      this.#bytesToRead += listed?.size ?? 0;
      return { entry: before, listed };
    }
    try {
      const entry = await this.#publisher.publish(key, options);
      if (entry === undefined) return this.#removed(before);
      this.#counts.published++;
      return { entry, listed: entry };
    } catch (error) {
      checkAborted(options);
      const failure = toFailure(error);
      if (concernsAll(failure, 'target')) throw failure;
      this.#counts.failed++;
      if (this.#failures.length < MAX_FAILURES) this.#failures.push({ key, failure });
      this.#options.report?.({ type: 'object-failed', key, code: failure.code, message: describeFailure(failure) });
      return { entry: before, listed };
    }
  }

  async #write(shards: readonly Document[]): Promise<void> {
    for (const { descriptor, bytes } of shards) {
      this.#written.push(descriptor);
      if (this.#run.dryRun === true || this.#known.has(descriptor.digest)) continue;
      await onSide(
        'target',
        this.#target.put(descriptor, () => once(bytes), this.#options),
      );
    }
  }

  #saysTheSame({ snapshot }: OpenedSnapshot): boolean {
    return (
      snapshot.listing === this.#listing.digest() &&
      snapshot.failed === this.#counts.failed &&
      snapshot.shards.length === this.#written.length &&
      snapshot.shards.every(({ digest }, index) => digest === this.#written[index]?.digest)
    );
  }

  /** Pushes the snapshot under a tag that nothing else has, then `latest`. */
  async #writeSnapshot(): Promise<NonNullable<PublishResult['snapshot']>> {
    const { last, place, repository } = this.#run;
    const { clock } = this.#options;
    const after = last === undefined ? 0 : Date.parse(last.snapshot.created) + 1000;
    const facts = { source: place.name, ...this.#listed, failed: this.#counts.failed, listing: this.#listing.digest() };
    for (let attempt = 0; attempt < TAG_ATTEMPTS; attempt++) {
      const created = modifiedOf(new Date(Math.max(clock.now(), after) + attempt * 1000));
      const tag = snapshotTag(created);
      if ((await ifFound(repository.resolve(tag, this.#options))) !== undefined) continue;
      const { descriptor, bytes } = snapshotDocument({ ...facts, created }, this.#written);
      for (const name of [tag, LATEST]) {
        await this.#target.tag(name, descriptor, () => once(bytes), this.#options);
        this.#options.report?.({ type: 'tagged', name, digest: descriptor.digest });
      }
      const { objects, bytes: size } = this.#listed;
      const { digest } = descriptor;
      this.#options.report?.({ type: 'snapshot-published', tag, digest, objects, bytes: size, failed: facts.failed });
      return { tag, digest };
    }
    throw new Failure(
      'CONFLICT',
      'write a snapshot: its tags are taken by snapshots of the next minute: try again later',
    );
  }
}

function isUnchanged(listed: Listed, before: SnapshotEntry | undefined): boolean {
  return before !== undefined && isListedAs(listed, before);
}

/** Two lists in the order of their keys as one. */
async function* merged(
  listed: Iterable<Listed> | AsyncIterable<Listed>,
  entries: AsyncGenerator<SnapshotEntry, void, undefined>,
): AsyncGenerator<Step, void, undefined> {
  const next = async (): Promise<SnapshotEntry | undefined> => {
    const { value, done } = await entries.next();
    return done === true ? undefined : value;
  };
  try {
    let before = await next();
    for await (const object of listed) {
      while (before !== undefined && compareKeys(before.key, object.key) < 0) {
        yield { listed: undefined, before };
        before = await next();
      }
      const isSame = before?.key === object.key;
      yield { listed: object, before: isSame ? before : undefined };
      if (isSame) before = await next();
    }
    for (; before !== undefined; before = await next()) yield { listed: undefined, before };
  } finally {
    await entries.return();
  }
}
