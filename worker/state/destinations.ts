import { parseDigest } from '../oci/digest.ts';
import { checkAborted } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';
import { HeldLease, type Leases } from './lease.ts';
import type { DestinationKey, Destinations, SyncRecord } from './state.ts';
import { findNumber, findText, keyOf, numberOf, textOf, type Item, type Key, type Table } from './table.ts';

const PREFIX = 'DEST#';
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

    record: async (record, lease, options) => {
      checkAborted(options);
      const key = itemKey(record);
      if (!(lease instanceof HeldLease) || lease.key.pk !== key.pk || lease.key.sk !== key.sk)
        throw new Failure('BUG', `record ${describe(record)}: with the lease of ${lease.name}`);
      checkAborted(lease);
      const { done } = await table.update(key, { set: attributesOf(record) }, lease.held, options);
      if (!done)
        throw new Failure(
          'CONFLICT',
          `record ${describe(record)}: its lease is no longer ours, so another may write there`,
        );
    },

    looked: async (record, lookedAtMs, options) => {
      const { sourceDigest, digest, atMs, run } = record;
      await table.update(itemKey(record), { set: { lookedAtMs } }, { sourceDigest, digest, atMs, run }, options);
    },
  };
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
  };
}

/** Undefined where the manifests are not known. */
function manifestsOf(text: string | undefined): readonly string[] | undefined {
  if (text === undefined) return undefined;
  const list: unknown = JSON.parse(text);
  return Array.isArray(list) ? list.map(String) : undefined;
}
