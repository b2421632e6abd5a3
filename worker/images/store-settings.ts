import { posix } from 'node:path';
import { collect } from '../content/bytes.ts';
import { SETTINGS_NAME } from '../oci/archive-key.ts';
import { digestOf, type Digest } from '../oci/digest.ts';
import type { Location } from '../oci/location.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure, ifFound, isFailure, onSide } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { quote } from '../util/text.ts';
import type { Backends, Registry } from './backends.ts';
import { storeOf } from './open-location.ts';

/** ECR's policies have 30,720 characters at most: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_PutLifecyclePolicy.html */
export const MAX_SETTINGS_BYTES = 1024 * 1024;

type ArchiveLocation = Exclude<Location, { transport: 'docker' }>;

/** The settings of a repository, and where they belong. */
interface SettingsRequest {
  readonly registry: Registry;
  readonly repository: string;
  readonly to: ArchiveLocation;
  /** Replaces also the settings of another repository. Default false. */
  readonly force?: boolean | undefined;
}

/** Where the settings of a repository belong that has an archive at `archive`. */
export function settingsBeside(archive: Extract<Location, { transport: 's3' }>): typeof archive {
  return { ...archive, key: posix.join(posix.dirname(archive.key), SETTINGS_NAME) };
}

/** The document of a repository's settings; undefined where its registry has none to tell. DENIED where they may not be read. */
export async function readSettings(
  { registry, repository }: Pick<SettingsRequest, 'registry' | 'repository'>,
  options: Abortable,
): Promise<Buffer | undefined> {
  const settings = await onSide('source', registry.settings(repository, options));
  if (settings === undefined) return undefined;
  return Buffer.from(`${JSON.stringify({ format: 1, repository, settings }, undefined, 2)}\n`);
}

/** Whether `document` is at `to`, byte for byte. CONFLICT where `to` holds the settings of another repository. */
export async function hasSettings(
  { repository, to, force = false }: Omit<SettingsRequest, 'registry'>,
  document: Buffer,
  backends: Backends,
  options: Abortable,
): Promise<boolean> {
  const found = await storedSettings(to, backends, options);
  if (found?.document.equals(document) === true) return true;
  const other = found?.repository;
  if (force || other === undefined || other === repository) return false;
  throw heldByAnother(to, other, backends);
}

/** CONFLICT: the settings at `to` are those of the repository `other`. */
export function heldByAnother(to: ArchiveLocation, other: string, backends: Backends): Failure {
  const { store, key } = storeOf(backends, to);
  const message = `${store.describe(key)} holds the settings of ${quote(other)}: put {repository} before a slash of the key`;
  return new Failure('CONFLICT', message, { context: { side: 'target' } });
}

/** Makes the object at `to` the settings of a repository, where its registry has some to tell. Returns whether it was written. */
export async function storeSettings(
  request: SettingsRequest,
  backends: Backends,
  options: Abortable,
): Promise<boolean> {
  const document = await readSettings(request, options);
  return document !== undefined && (await writeSettings(request, document, backends, options));
}

/** Makes the object at `to` this document of settings. Returns whether it was written. CONFLICT as `hasSettings`. */
export async function writeSettings(
  request: Omit<SettingsRequest, 'registry'>,
  document: Buffer,
  backends: Backends,
  options: Abortable,
): Promise<boolean> {
  if (await hasSettings(request, document, backends, options)) return false;
  const { store, key } = storeOf(backends, request.to);
  await onSide('target', store.write(key, document, { signal: options.signal, contentType: 'application/json' }));
  return true;
}

/** Returns the document of the settings of a repository; undefined where there is none. */
export type SettingsReader = () => Promise<Buffer | undefined>;

/** `readSettings` at the first call. Every call has the same document, or the same failure. */
export function settingsReader(
  source: Pick<SettingsRequest, 'registry' | 'repository'>,
  options: Abortable,
): SettingsReader {
  let reading: Promise<Buffer | undefined> | undefined;
  return async () => (reading ??= readSettings(source, options));
}

/** The digest of a document that `read` reads, which archives name; undefined where there is none, or it cannot be read. */
export async function digestOfSettings(read: SettingsReader, options: Abortable): Promise<Digest | undefined> {
  try {
    const document = await read();
    return document === undefined ? undefined : digestOf(document);
  } catch (error) {
    checkAborted(options);
    if (!isFailure(error)) throw error;
    return undefined;
  }
}

/** The document of settings at `to`, whatever repository it names; undefined where there is none. */
export async function storedSettings(
  to: ArchiveLocation,
  backends: Backends,
  options: Abortable,
): Promise<{ readonly document: Buffer; readonly repository: string | undefined } | undefined> {
  const { store, key } = storeOf(backends, to);
  const document = await onSide('target', ifFound(readWhole(store.read(key, options))));
  return document === undefined ? undefined : { document, repository: repositoryOf(document) };
}

/** Undefined for an object that is too long for settings. */
async function readWhole(body: Promise<AsyncIterable<Uint8Array>>): Promise<Buffer | undefined> {
  const tooLong = new Failure('INVALID', 'longer than any settings');
  try {
    return await collect(await body, MAX_SETTINGS_BYTES, () => tooLong);
  } catch (error) {
    if (error === tooLong) return undefined;
    throw error;
  }
}

/** The repository that a document of settings names; undefined where it is none. */
function repositoryOf(document: Buffer): string | undefined {
  let value: unknown;
  try {
    value = JSON.parse(document.toString());
  } catch {
    return undefined;
  }
  const repository = isRecord(value) ? value['repository'] : undefined;
  return typeof repository === 'string' ? repository : undefined;
}
