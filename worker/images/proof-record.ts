import { collect } from '../content/bytes.ts';
import type { ObjectStore } from '../objects/objects.ts';
import type { Sample } from '../util/sample.ts';
import { checkAborted } from '../util/abort.ts';
import { Failure, ifFound } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { compareStrings } from '../util/text.ts';
import type { OperationOptions } from './backends.ts';
import type { DrillResult } from './drill.ts';
import type { Finding, Looked, PlaceResult } from './verify-result.ts';

// The results of verifications and drills of a place, each an object beside the snapshots: `verified/TIME-ID.json`. A record is written once and never
// changed. It is not signed: it is what the process that wrote it reports. Only `report` reads records.

/** The result of a verification or drill. Times are ISO 8601 in UTC. */
export interface ProofRecord {
  readonly version: 1;
  readonly kind: 'verification' | 'drill';
  readonly startedAt: string;
  readonly finishedAt: string;
  /** Only of a verification. */
  readonly depth?: PlaceResult['depth'] | undefined;
  /** Which part was looked at. Absent: everything. */
  readonly sample?: Sample | undefined;
  /** A verification counts names, a drill images. */
  readonly names: Looked;
  readonly findings: number;
  /** The first of them, as `kind: at: message`. */
  readonly first: readonly string[];
  /** Only of a drill: the `host/prefix` that it restored to. */
  readonly restoredTo?: string | undefined;
  /** Only of a drill: `host/repository` of each repository whose restored images were all equal. */
  readonly restored?: readonly string[] | undefined;
}

const FOLDER = 'verified/';
const MAX_BYTES = 4 * 1024 * 1024;
const MAX_FIRST = 20;
/** The most records that a report reads. */
const MAX_READ = 200;
const AT_ONCE = 16;

/** The record of a verification. */
export function recordOfVerification(
  { depth, sample, names, findings }: PlaceResult,
  times: Pick<ProofRecord, 'startedAt' | 'finishedAt'>,
): ProofRecord {
  return { version: 1, kind: 'verification', ...times, depth, sample, names, ...counted(findings) };
}

/** The record of a drill. */
export function recordOfDrill(
  { restoreTo, sample, images, repositories, findings }: DrillResult,
  times: Pick<ProofRecord, 'startedAt' | 'finishedAt'>,
): ProofRecord {
  const restored = repositories.filter((one) => one.equal === one.images).map(({ from }) => from);
  return {
    version: 1,
    kind: 'drill',
    ...times,
    sample,
    names: images,
    ...counted(findings),
    restoredTo: restoreTo,
    restored,
  };
}

function counted(findings: readonly Finding[]): Pick<ProofRecord, 'findings' | 'first'> {
  const first = findings.slice(0, MAX_FIRST).map(({ kind, at, message }) => `${kind}: ${at}: ${message}`);
  return { findings: findings.length, first };
}

/** Where the records of a place are. */
interface RecordsPlace {
  readonly store: ObjectStore;
  readonly prefix: string;
}

/** Writes a record. `id` distinguishes records of the same moment: with the same id the record is replaced. */
export async function writeProof(
  { store, prefix }: RecordsPlace,
  record: ProofRecord,
  id: string,
  options: OperationOptions,
): Promise<void> {
  const time = record.finishedAt.replace(/[-:.]/g, '');
  const body = Buffer.from(`${JSON.stringify(record)}\n`);
  await store.write(`${prefix}${FOLDER}${time}-${id}.json`, body, {
    signal: options.signal,
    contentType: 'application/json',
  });
}

/** The newest records of a place, newest first, and how many of these cannot be read. */
export async function readProofs(
  { store, prefix }: RecordsPlace,
  options: OperationOptions,
): Promise<{ readonly proofs: readonly ProofRecord[]; readonly unread: number }> {
  const keys: string[] = [];
  for await (const { key, size } of store.list(`${prefix}${FOLDER}`, options))
    if (key.endsWith('.json') && size <= MAX_BYTES) keys.push(key);
  const newest = keys.sort(compareStrings).toReversed().slice(0, MAX_READ);
  const proofs: ProofRecord[] = [];
  let unread = 0;
  for (let at = 0; at < newest.length; at += AT_ONCE) {
    checkAborted(options);
    const read = newest.slice(at, at + AT_ONCE).map(async (key) => readProof(store, key, options));
    for (const proof of await Promise.all(read))
      if (proof === undefined) unread++;
      else proofs.push(proof);
  }
  return { proofs, unread };
}

/** Undefined where the object is not a record of this version, or was deleted. */
async function readProof(store: ObjectStore, key: string, options: OperationOptions): Promise<ProofRecord | undefined> {
  const body = await ifFound(store.read(key, options));
  if (body === undefined) return undefined;
  const bytes = await collect(body, MAX_BYTES, () => new Failure('INVALID', `${key} is longer than a record`));
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString());
  } catch {
    return undefined;
  }
  return isProof(value) ? value : undefined;
}

function isProof(value: unknown): value is ProofRecord {
  if (!isRecord(value)) return false;
  const { version, kind, startedAt, finishedAt, depth, sample, names, findings, first, restoredTo, restored } = value;
  return (
    version === 1 &&
    (kind === 'verification' || kind === 'drill') &&
    [startedAt, finishedAt].every((time) => typeof time === 'string' && !Number.isNaN(Date.parse(time))) &&
    isLooked(names) &&
    typeof findings === 'number' &&
    isTexts(first) &&
    (depth === undefined || depth === 'tags' || depth === 'blobs' || depth === 'bytes') &&
    (sample === undefined ||
      (isRecord(sample) && typeof sample['slice'] === 'number' && typeof sample['slices'] === 'number')) &&
    (restoredTo === undefined || typeof restoredTo === 'string') &&
    (restored === undefined || isTexts(restored))
  );
}

function isLooked(value: unknown): boolean {
  return isRecord(value) && typeof value['checked'] === 'number' && typeof value['of'] === 'number';
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string');
}
