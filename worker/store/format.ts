import { OCI_LAYOUT } from '../archive/plan.ts';
import { collect } from '../content/bytes.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, ifFound, isFailure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import type { StorePlace } from './place.ts';

const FORMAT = 'transship-store';
const VERSION = 1;
const MAX_BYTES = 64 * 1024;
const DOCUMENT = Buffer.from(JSON.stringify({ format: FORMAT, version: VERSION }));

/**
 * Whether there is a store that this program can read and write. UNSUPPORTED for one of a newer format; INVALID where `transship-store.json` is
 * something else.
 */
export async function isStore(place: StorePlace, options: Abortable): Promise<boolean> {
  const { store, prefix } = place;
  const key = `${prefix}transship-store.json`;
  const body = await ifFound(store.read(key, options));
  if (body === undefined) return false;
  const wrong = new Failure('INVALID', `${store.describe(key)} does not describe a store: choose another place`);
  const text = (await collect(body, MAX_BYTES, () => wrong)).toString();
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) throw wrong;
    throw error;
  }
  if (!isRecord(document) || document['format'] !== FORMAT || !Number.isInteger(document['version'])) throw wrong;
  if (document['version'] === VERSION) return true;
  throw new Failure(
    'UNSUPPORTED',
    `${place.location} has the format ${String(document['version'])} of stores, and this program knows ${VERSION}: install a newer Transship`,
  );
}

/** Makes the store exist. CONFLICT where the place is an OCI image layout of another program, whose index would be replaced. */
export async function createStore(place: StorePlace, options: Abortable): Promise<void> {
  const { store, prefix } = place;
  if (!(await isStore(place, options))) {
    for (const name of ['index.json', 'oci-layout']) {
      if ((await ifFound(store.stat(`${prefix}${name}`, options))) === undefined) continue;
      // another backup may have created it a moment ago
      if (await isStore(place, options)) break;
      throw new Failure(
        'CONFLICT',
        `${place.location} is an OCI image layout of another program, whose index.json a store would replace: choose an empty place`,
      );
    }
    await writeOnce(place, 'transship-store.json', DOCUMENT, options);
  }
  // a process that created the store may have crashed before this
  if ((await ifFound(store.stat(`${prefix}oci-layout`, options))) === undefined)
    await writeOnce(place, 'oci-layout', OCI_LAYOUT, options);
}

async function writeOnce(
  { store, prefix }: StorePlace,
  name: string,
  bytes: Uint8Array,
  { signal }: Abortable,
): Promise<void> {
  try {
    const condition = { ifAbsent: true } as const;
    await store.write(`${prefix}${name}`, bytes, { signal, condition, contentType: 'application/json' });
  } catch (error) {
    if (!isFailure(error, 'CONFLICT')) throw error;
  }
}
