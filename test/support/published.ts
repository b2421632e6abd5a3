import { createHash } from 'node:crypto';
import { extract, type ExtractRequest, type ExtractResult } from '../../worker/images/extract.ts';
import type { Backends, OperationOptions } from '../../worker/images/backends.ts';
import type { PublishResult } from '../../worker/images/publish-result.ts';
import { publish, type PublishRequest } from '../../worker/images/publish.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { parseObjectPlace } from '../../worker/oci/object-place.ts';
import { parseReference, parseRepository } from '../../worker/oci/reference.ts';
import { collect } from './chunks.ts';

/** An object as a test creates it. */
export interface MadeObject {
  readonly bytes: Uint8Array;
  readonly contentType?: string;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** What must be the same about an object after it was published and extracted. */
export type Tree = Readonly<Record<string, unknown>>;

interface Ends {
  readonly backends: Backends;
  readonly options: OperationOptions;
}

/** Does what `transship publish from to` does. */
export async function runPublish(
  { backends, options }: Ends,
  from: string,
  to: string,
  more: Partial<PublishRequest> = {},
): Promise<PublishResult> {
  return publish({ from: parseObjectPlace(from), to: parseRepository(to), ...more }, backends, options);
}

/** Does what `transship extract from to` does. */
export async function runExtract(
  { backends, options }: Ends,
  from: string,
  to: string,
  more: Partial<ExtractRequest> = {},
): Promise<ExtractResult> {
  return extract({ from: parseReference(from), to: parseObjectPlace(to), ...more }, backends, options);
}

/** Stores the objects, their keys below `prefix`. */
export async function store(
  into: ObjectStore,
  objects: Readonly<Record<string, MadeObject>>,
  prefix = '',
): Promise<void> {
  for (const [key, { bytes, ...how }] of Object.entries(objects)) await into.write(`${prefix}${key}`, bytes, how);
}

/** The objects below `prefix`, by the rest of their keys. */
export async function treeIn(from: ObjectStore, prefix = ''): Promise<Tree> {
  const found: Record<string, unknown> = {};
  for await (const { key } of from.list(prefix)) {
    const { contentType, metadata } = await from.stat(key);
    found[key.slice(prefix.length)] = describe(await collect(await from.read(key)), contentType, metadata);
  }
  return found;
}

/** What `treeIn` finds where these objects are stored; for files, without what they cannot keep. */
export function treeOf(objects: Readonly<Record<string, MadeObject>>, o: { readonly files?: boolean } = {}): Tree {
  return Object.fromEntries(
    Object.entries(objects).map(([key, { bytes, contentType, metadata }]) => [
      key,
      o.files === true ? describe(bytes, undefined, {}) : describe(bytes, contentType, metadata),
    ]),
  );
}

function describe(
  bytes: Uint8Array,
  contentType: string | undefined,
  metadata: Readonly<Record<string, string>> = {},
): string {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return JSON.stringify([
    sha256.slice(0, 12),
    bytes.byteLength,
    contentType,
    Object.entries(metadata).map(String).toSorted(),
  ]);
}
