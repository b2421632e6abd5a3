import { parseDigest } from '../oci/digest.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { HeldLease, RELEASED, type Leases } from './lease.ts';
import type { DestinationKey, Destinations, Lease, Letter, SyncRecord } from './state.ts';
import {
  findNumber,
  findText,
  keyOf,
  numberOf,
  textOf,
  type Expected,
  type Item,
  type Key,
  type Table,
} from './table.ts';

const PREFIX = 'DEST#';
/** The attribute with the dead letters, as JSON. */
const LETTERS = 'letters';
/** The longest list of manifests that is kept, so that an item stays below DynamoDB's 400 KB. */
const MAX_MANIFESTS_BYTES = 300 * 1024;

/** Record and lease of a destination are one item, so that only the holder of the lease can write the record. */
export function destinationsOver(table: Table, leases: Leases): Destinations {
  return {
    get: async (key, options) => recordOf(await table.get(itemKey(key), options)),

    async *list(group, options) {
      for await (const item of table.query(PREFIX + group, options)) {
        const record = recordOf(item);
        if (record !== undefined) yield record;
      }
    },

    lock: async (key, ttlSeconds, options) => leases.take(itemKey(key), describe(key), ttlSeconds, options),

    isWritten: async (group, options) => {
      const query = { attributes: ['owner', 'leaseUntilMs'], ...options };
      for await (const item of table.query(PREFIX + group, query)) if (leases.isHeld(item)) return true;
      return false;
    },

    foundBy: (lease, key) => recordOf(heldLease(lease, key).item),

    record: async (record, lease, options) => {
      checkAborted(options);
      const held = heldOf(lease, record);
      const isMade = await heldLease(lease, record).endBy(async () => {
        const set = { ...attributesOf(record), ...RELEASED };
        const { done, item } = await table.update(itemKey(record), { set }, held, options);
        return done || isMadeBy(item, record, held.fence);
      });
      if (!isMade) throw lostLease(record);
    },

    letters: async (key, options) => lettersOf(await table.get(itemKey(key), options)),

    addLetter: async (key, letter, lease, options) => {
      const held = heldOf(lease, key);
      const add = (letters: readonly Letter[]): readonly Letter[] => [
        ...letters.filter(({ cause }) => cause !== letter.cause),
        letter,
      ];
      if (!(await changeLetters(table, key, add, held, options))) throw lostLease(key);
    },

    forgetLetters: async (key, job, options) => {
      const forget = (letters: readonly Letter[]): readonly Letter[] => letters.filter((letter) => letter.job !== job);
      await changeLetters(table, key, forget, {}, options);
    },

    looked: async (record, lookedAtMs, options) => {
      const { sourceDigest, digest, atMs, run } = record;
      await table.update(itemKey(record), { set: { lookedAtMs } }, { sourceDigest, digest, atMs, run }, options);
    },
  };
}

/** What the item has while `lease` is held. BUG for the lease of another destination. */
function heldOf(lease: Lease, destination: DestinationKey): HeldLease['held'] {
  const { held } = heldLease(lease, destination);
  checkAborted(lease);
  return held;
}

/** The lease, if it is one of this destination. BUG for any other. */
function heldLease(lease: Lease, destination: DestinationKey): HeldLease {
  const key = itemKey(destination);
  if (!(lease instanceof HeldLease) || lease.key.pk !== key.pk || lease.key.sk !== key.sk)
    throw new Failure(
      'BUG',
      `record ${describe(destination)}: its lease is that of another destination, ${lease.name}`,
    );
  return lease;
}

/** Whether a write of this record, whose answer was lost, made the item what it is and gave the lease back. */
function isMadeBy(item: Item | undefined, { run, atMs, digest }: SyncRecord, fence: number): boolean {
  if (item === undefined || item['fence'] !== fence || item['owner'] !== undefined) return false;
  return item['run'] === run && item['atMs'] === atMs && item['digest'] === digest;
}

function lostLease(destination: DestinationKey): Failure {
  return new Failure(
    'CONFLICT',
    `record ${describe(destination)}: another process holds its lease now, and may write there`,
  );
}

/** Changes the list of dead letters. False, without a change, where the item is not as `expected`. */
async function changeLetters(
  table: Table,
  destination: DestinationKey,
  change: (letters: readonly Letter[]) => readonly Letter[],
  expected: Expected,
  options: Abortable | undefined,
): Promise<boolean> {
  const key = itemKey(destination);
  for (;;) {
    checkAborted(options);
    const item = await table.get(key, options);
    if (Object.entries(expected).some(([name, value]) => item?.[name] !== value)) return false;
    const before = findText(item, LETTERS);
    const letters = change(lettersOf(item));
    const after = letters.length === 0 ? undefined : JSON.stringify(letters);
    if (after === before) return true;
    const set = { [LETTERS]: after };
    if ((await table.update(key, { set }, { ...expected, [LETTERS]: before }, options)).done) return true;
  }
}

function itemKey({ group, name }: DestinationKey): Key {
  return keyOf(PREFIX + group, name);
}

function describe({ group, name }: DestinationKey): string {
  return group.startsWith('s3:') ? `${group}/${name}` : group + (name.startsWith('@') ? name : `:${name}`);
}

function attributesOf(record: SyncRecord): Record<string, string | number | undefined> {
  const list = record.manifests === undefined ? undefined : JSON.stringify(record.manifests);
  const fits = list !== undefined && list.length <= MAX_MANIFESTS_BYTES;
  return {
    source: record.source,
    sourceDigest: record.sourceDigest,
    digest: record.digest,
    choices: record.choices,
    manifests: fits ? list : undefined,
    bytes: record.bytes,
    atMs: record.atMs,
    lookedAtMs: record.lookedAtMs,
    version: record.version,
    size: record.size,
    etag: record.etag,
    run: record.run,
    rule: record.rule,
    [LETTERS]: undefined,
    // what has a record is kept
    ttl: undefined,
  };
}

function recordOf(item: Item | undefined): SyncRecord | undefined {
  if (item === undefined || findText(item, 'sourceDigest') === undefined) return undefined;
  return {
    group: item.pk.slice(PREFIX.length),
    name: item.sk,
    source: textOf(item, 'source'),
    sourceDigest: parseDigest(textOf(item, 'sourceDigest')),
    digest: parseDigest(textOf(item, 'digest')),
    choices: textOf(item, 'choices'),
    manifests: manifestsOf(findText(item, 'manifests')),
    bytes: numberOf(item, 'bytes'),
    atMs: numberOf(item, 'atMs'),
    lookedAtMs: findNumber(item, 'lookedAtMs'),
    version: findText(item, 'version'),
    size: findNumber(item, 'size'),
    etag: findText(item, 'etag'),
    run: textOf(item, 'run'),
    rule: findText(item, 'rule'),
    ...(item[LETTERS] === undefined ? {} : { failing: true }),
  };
}

function lettersOf(item: Item | undefined): readonly Letter[] {
  const text = findText(item, LETTERS);
  if (text === undefined) return [];
  const list: unknown = JSON.parse(text);
  return Array.isArray(list) ? list.filter(isLetter) : [];
}

function isLetter(value: unknown): value is Letter {
  if (!isRecord(value)) return false;
  return typeof value['cause'] === 'string' && typeof value['job'] === 'string' && typeof value['atMs'] === 'number';
}

/** Undefined where the manifests are not known. */
function manifestsOf(text: string | undefined): readonly string[] | undefined {
  if (text === undefined) return undefined;
  const list: unknown = JSON.parse(text);
  return Array.isArray(list) ? list.map(String) : undefined;
}
