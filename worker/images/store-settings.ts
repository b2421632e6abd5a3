import { posix } from 'node:path';
import { collect } from '../content/bytes.ts';
import { SETTINGS_NAME } from '../oci/archive-key.ts';
import { digestOf, type Digest } from '../oci/digest.ts';
import { canonicalHost } from '../oci/ecr-host.ts';
import type { Location } from '../oci/location.ts';
import { formatRepository, type Repository } from '../oci/reference.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure, ifFound, isFailure, onSide } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { quote } from '../util/text.ts';
import type { Backends } from './backends.ts';
import { storeOf } from './open-location.ts';

/** ECR's policies have 30,720 characters at most: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_PutLifecyclePolicy.html */
export const MAX_SETTINGS_BYTES = 1024 * 1024;

type ArchiveLocation = Exclude<Location, { transport: 'docker' | 'store' }>;

/** The settings of a repository, and where they belong. */
interface SettingsRequest {
  readonly repository: Repository;
  readonly to: ArchiveLocation;
  /** Replaces also the settings of another repository. Default false. */
  readonly force?: boolean | undefined;
}

/** Where the settings of a repository belong that has an archive at `archive`. */
export function settingsBeside(archive: Extract<Location, { transport: 's3' }>): typeof archive {
  return { ...archive, key: posix.join(posix.dirname(archive.key), SETTINGS_NAME) };
}

/** The document of a repository's settings; undefined for a registry without readable settings. DENIED where they may not be read. */
export async function readSettings(
  { registry: host, repository }: Repository,
  backends: Backends,
  options: Abortable,
): Promise<Buffer | undefined> {
  const settings = await onSide('source', backends.registry(host, 'source').settings(repository, options));
  if (settings === undefined) return undefined;
  const registry = canonicalHost(host);
  return Buffer.from(`${JSON.stringify({ format: 1, registry, repository, settings }, undefined, 2)}\n`);
}

/** Whether `document` is at `to`, byte for byte. CONFLICT where `to` holds the settings of another repository. */
export async function hasSettings(
  { repository, to, force = false }: SettingsRequest,
  document: Buffer,
  backends: Backends,
  options: Abortable,
): Promise<boolean> {
  const found = await storedSettings(to, backends, options);
  if (found?.document.equals(document) === true) return true;
  if (force || found === undefined || !isOfAnother(found, repository)) return false;
  throw heldByAnother(to, found, repository, backends);
}

/** Whether a document names another repository than this one. One that names none does not, nor does one without a registry. */
export function isOfAnother(named: NamedRepository, { registry, repository }: Repository): boolean {
  if (named.repository === undefined) return false;
  if (named.repository !== repository) return true;
  return named.registry !== undefined && named.registry !== canonicalHost(registry);
}

/** CONFLICT: the settings at `to` are those of the repository `other`, not those of `repository`. */
export function heldByAnother(
  to: ArchiveLocation,
  other: NamedRepository,
  { repository }: Repository,
  backends: Backends,
): Failure {
  const { store, key } = storeOf(backends, to);
  const message = `${store.describe(key)} holds the settings of ${quote(formatNamed(other))}: put ${other.repository === repository ? '{registry}' : '{repository}'} before a slash of the key`;
  return new Failure('CONFLICT', message, { context: { side: 'target' } });
}

/** Makes the object at `to` the settings of a repository, where its registry has readable settings. Returns whether it was written. */
export async function storeSettings(
  request: SettingsRequest,
  backends: Backends,
  options: Abortable,
): Promise<boolean> {
  const document = await readSettings(request.repository, backends, options);
  return document !== undefined && (await writeSettings(request, document, backends, options));
}

/** Makes the object at `to` this document of settings. Returns whether it was written. CONFLICT as `hasSettings`. */
export async function writeSettings(
  request: SettingsRequest,
  document: Buffer,
  backends: Backends,
  options: Abortable,
): Promise<boolean> {
  if (await hasSettings(request, document, backends, options)) return false;
  const { store, key } = storeOf(backends, request.to);
  await onSide('target', store.write(key, document, { signal: options.signal, contentType: 'application/json' }));
  return true;
}

/** Returns the document of the settings of a repository; undefined where it does not exist. */
export type SettingsReader = () => Promise<Buffer | undefined>;

/** `readSettings` at the first call. Every call has the same document, or the same failure. */
export function settingsReader(repository: Repository, backends: Backends, options: Abortable): SettingsReader {
  let reading: Promise<Buffer | undefined> | undefined;
  return async () => (reading ??= readSettings(repository, backends, options));
}

/** The digest of a document that `read` reads, which archives name; undefined where it does not exist or cannot be read. */
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

/** The repository that a document of settings names. Documents of earlier versions do not name the registry. */
export interface NamedRepository {
  readonly registry: string | undefined;
  readonly repository: string | undefined;
}

/** `registry/repository`, or the repository alone. */
export function formatNamed({ registry, repository = '' }: NamedRepository): string {
  return registry === undefined ? repository : formatRepository({ registry, repository });
}

/** A document of settings, as it is stored. */
interface StoredDocument extends NamedRepository {
  readonly document: Buffer;
}

/** The document of settings at `to`, whatever repository it names; undefined where it does not exist. */
export async function storedSettings(
  to: ArchiveLocation,
  backends: Backends,
  options: Abortable,
): Promise<StoredDocument | undefined> {
  const { store, key } = storeOf(backends, to);
  const document = await onSide('target', ifFound(readWhole(store.read(key, options))));
  return document === undefined ? undefined : { document, ...namedIn(parsedJson(document.toString())) };
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

/** The settings in a document of settings, without the repository that it names; undefined where it is no such document. */
export function settingsIn(document: Buffer): Readonly<Record<string, unknown>> | undefined {
  const value = parsedJson(document.toString());
  const settings = isRecord(value) ? value['settings'] : undefined;
  return isRecord(settings) ? settings : undefined;
}

/** The repository that a document names, parsed; neither member where it is not a document of settings. */
export function namedIn(value: unknown): NamedRepository {
  const text = (name: string): string | undefined => {
    const found = isRecord(value) ? value[name] : undefined;
    return typeof found === 'string' ? found : undefined;
  };
  return { registry: text('registry'), repository: text('repository') };
}

/** Undefined for what is not JSON. */
export function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
